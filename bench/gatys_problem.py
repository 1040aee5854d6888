"""The problem that all contenders solve: VGG19 to relu5_1 with seeded weights of He's size."""

from __future__ import annotations

import numpy as np

PLAN = (
    "relu1_1", "relu1_2", "pool",
    "relu2_1", "relu2_2", "pool",
    "relu3_1", "relu3_2", "relu3_3", "relu3_4", "pool",
    "relu4_1", "relu4_2", "relu4_3", "relu4_4", "pool",
    "relu5_1",
)  # fmt: skip
CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
CONTENT = "relu4_2"
STYLES = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def picture(size: int, seed: int) -> np.ndarray:
    """Return a random picture (1, 3, H, W) of coarse forms, without which every target is alike.

    The noise on them gives the processor different bits everywhere: it computes faster on flat
    ones than it ever would on a photograph.
    """
    random = np.random.default_rng(seed)
    forms = random.random((3, size // 16, size // 16)) * 4 - 2
    noise = random.normal(0, 0.3, (3, size, size))
    return np.float32(np.kron(forms, np.ones((16, 16))) + noise)[None]


def weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight (O, I, 3, 3) and bias (O,) of each convolution, in order."""
    random = np.random.default_rng(19)
    arrays = []
    before = 3
    for name in PLAN:
        if name == "pool":
            continue
        after = CHANNELS[name[4]]
        scale = np.sqrt(2 / (9 * before))
        w = random.standard_normal((after, before, 3, 3), np.float32) * np.float32(scale)
        arrays.append((w, np.zeros(after, np.float32)))
        before = after
    return arrays
