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

LIMITS = {"fp32": 1e-3, "bf16": 0.1}
"""By how much an output may differ in relative L2: more than rounding does, less than an error."""


def architecture(name: str) -> str:
    """Return the network of a name of `SIZES`."""
    return name.partition("-1080p")[0]


class Problem:
    """The files of a network in a folder: input, expected output, weights, ONNX model."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.onnx = str(self.folder / "model.onnx")
        self.input = np.load(self.folder / "input.npy")

    def check(self, output: np.ndarray, precision: str = "fp32") -> None:
        """Refuse an engine that computes something else, or in lower precision than this."""
        wanted = np.load(self.folder / "output.npy")
        error = np.linalg.norm(output.reshape(wanted.shape) - wanted) / np.linalg.norm(wanted)
        if not error <= LIMITS[precision]:
            raise RuntimeError(f"the output is {error:.1e} off in relative L2")
