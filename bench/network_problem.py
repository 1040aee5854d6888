"""The networks that bench_networks.py times: where their files are, and the check of results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZES = {
    # height and width of the input
    "adain": (512, 512),
    "johnson": (512, 512),
    "johnson-1080p": (1080, 1920),
    "monodepth2": (192, 640),
    "midas-small": (256, 256),
    "midas-large": (384, 384),
}
MOMENTS = "moments.npy"
"""Of the cached style of AdaIN: mean and standard deviation (1, C, 1, 2)."""

OUTPUT, AUTOCAST = "output.npy", "autocast.npy"
"""What PyTorch computes in fp32 and with bf16."""

FP32_LIMIT, AUTOCAST_LIMIT = 1e-3, 2.0
"""By how much an output may differ in relative L2: more than rounding does, less than an error. In
bf16 also by so many times as much as PyTorch's does: AdaIN multiplies the rounding of features that
hardly vary, as those of seeded weights do.
"""


def architecture(name: str) -> str:
    """Return the network of a name of `SIZES`."""
    return name.partition("-1080p")[0]


def distance(output: np.ndarray, wanted: np.ndarray) -> float:
    """Return the difference in relative L2."""
    return float(np.linalg.norm(output - wanted) / np.linalg.norm(wanted))


class Problem:
    """The files of a network in a folder: input, expected output, weights, ONNX model."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.onnx = str(self.folder / "model.onnx")
        self.input = np.load(self.folder / "input.npy")

    def check(self, output: np.ndarray, precision: str = "fp32") -> None:
        """Refuse an engine that computes something else, or in lower precision than this."""
        wanted = np.load(self.folder / OUTPUT)
        limit = FP32_LIMIT
        if precision == "bf16":
            limit = max(limit, AUTOCAST_LIMIT * distance(np.load(self.folder / AUTOCAST), wanted))
        error = distance(output.reshape(wanted.shape), wanted)
        if not error <= limit:
            raise RuntimeError(f"the output is {error:.1e} off in relative L2")
