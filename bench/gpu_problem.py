"""What bench_gpu.py times: its parts, and their seeded weights and pictures. Needs no engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

import depth_weights
import johnson_files
import seeded

CONTENT = "relu4_2"
STYLES = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_WEIGHT, DEPTH_WEIGHT = 0.02, 0.05
RATE = 0.05
"""Adam's learning rate."""
HISTORY = 20
"""Steps that L-BFGS remembers."""
CHECKED = 5
"""Iterations whose losses are compared with the reference's."""
EPSILON = 1e-5
"""Added to the variances of AdaIN."""
TINY, DEPTH_TINY, DEPTH_SIDE = 16, 32, 256
"""Sides of pictures in a test of the benchmark itself; MiDaS needs multiples of 32."""


@dataclass(frozen=True)
class Part:
    """One workload.

    Attributes
    ----------
    kind : {"gatys", "adain", "midas-small", "johnson"}
    size : (int, int)
        Height and width of the picture.
    optimizer : {"adam", "lbfgs"}
        Of Gatys.
    depth : bool
        Gatys with a depth loss of MiDaS small.
    precisions : tuple of str
        Ours; the first is what is chosen where none is asked for.
    milliseconds, over_compiled, over_eager : float or None
        The targets: time of a run, and how many times that compiled or captured PyTorch, and
        PyTorch as it comes, may take.
    """

    name: str
    title: str
    kind: str
    size: tuple[int, int]
    optimizer: str = ""
    depth: bool = False
    milliseconds: float | None = None
    over_compiled: float | None = None
    over_eager: float | None = None
    precisions: tuple[str, ...] = ("bf16",)

    @property
    def tiny(self) -> Part:
        """The same part on pictures of a size for tests."""
        side = DEPTH_TINY if self.kind == "midas-small" else TINY
        return replace(self, size=(side, side))

    @property
    def depth_side(self) -> int:
        """Side of the picture that the depth loss sees."""
        return min(max(self.size[0], DEPTH_TINY), DEPTH_SIDE)


def _gatys(size: int, optimizer: str, what: str, targets: tuple[float | None, ...]) -> Part:
    name = {"adam": "Adam", "lbfgs": f"L-BFGS of {HISTORY} steps"}[optimizer]
    title = f"Gatys {size}, {name}, one iteration{what}"
    short = f"gatys-{size}" + ("-lbfgs" if optimizer == "lbfgs" else "-depth" if what else "")
    precisions = ("tf32", "bf16") if optimizer == "lbfgs" else ("bf16",)
    part = Part(short, title, "gatys", (size, size), optimizer, bool(what), *targets)
    return replace(part, precisions=precisions)


_ALL = ("bf16", "tf32", "fp32")
PARTS = (
    replace(_gatys(512, "adam", "", (0.95, 1.4, 3.5)), precisions=_ALL),
    Part(
        *("adain-512", "AdaIN 512, cached style", "adain", (512, 512), "", False, 0.60, 1.25, 3.5),
        precisions=_ALL,
    ),
    _gatys(1024, "adam", "", (3.5, 1.25, 2.8)),
    Part("johnson-512", "Johnson 512", "johnson", (512, 512), "", False, 0.26, 1.7, 4.0),
    Part("midas-small", "MiDaS small 256", "midas-small", (256, 256)),
    Part("johnson-1080p", "Johnson 1920x1080", "johnson", (1080, 1920), "", False, 1.9, 1.6, 2.8),
    _gatys(512, "lbfgs", "", (1.1, 3.0, 5.0)),
    _gatys(1024, "lbfgs", "", (None, None, None)),
    _gatys(512, "adam", " with depth loss", (1.35, 1.6, 7.0)),
)
"""In the order of their weight: a run that is cut short has measured the first ones."""


def find(name: str, tiny: bool) -> Part:
    """Return a part by its name."""
    part = next(part for part in PARTS if part.name == name)
    return part.tiny if tiny else part


def weights(name: str) -> dict[str, np.ndarray]:
    """Return seeded weights under the published keys: vgg19, johnson or midas-small."""
    if name == "vgg19":
        return seeded.vgg_weights("vgg19")
    if name == "johnson":
        return johnson_files.weights("pytorch-examples")
    return depth_weights.weights(name)


def adain_weights() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return seeded weights of AdaIN's encoder and decoder under the published keys."""
    return seeded.adain_weights(seeded.VGG_WIDTHS[:4])


def style_moments() -> np.ndarray:
    """Return mean and standard deviation (1, C, 1, 2) of the cached style."""
    random = np.random.default_rng(4)
    values = [random.uniform(0, 1, (1, 512, 1, 1)), random.uniform(0.5, 1.5, (1, 512, 1, 1))]
    return np.concatenate(values, axis=3).astype(np.float32)


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a picture (H, W, 3) in [0, 1]."""
    return seeded.picture(seed, *size)


def content(part: Part) -> np.ndarray:
    """Return the photograph of Gatys."""
    return picture(1, part.size)


def style(part: Part) -> np.ndarray:
    """Return the style picture of Gatys."""
    return picture(2, part.size)


def start(part: Part) -> np.ndarray:
    """Return the picture that Gatys starts from."""
    return picture(3, part.size)


def network_input(part: Part) -> np.ndarray:
    """Return the input (1, 3, H, W) of a network."""
    planes = picture(1, part.size).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(255 * planes if part.kind == "johnson" else planes)
