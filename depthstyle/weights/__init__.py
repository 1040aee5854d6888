"""Weights of networks: from files of many formats, published ones by name, and the embedded."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import WeightsError
from depthstyle.weights.cache import add, find, get
from depthstyle.weights.formats import TensorFile, open

__all__ = ["TensorFile", "add", "embedded", "files_of", "find", "get", "load", "load_all", "open"]

_COUNTER = ".num_batches_tracked"
_MODEL, _OPTIMISER = "model.", "optimizer."
"""What the keys of a state of training begin with."""
_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "running_std")
"""Names of what a module of Torch7 has learnt; its file holds the module's scratch tensors too."""

EMBEDDED = Path(__file__).parent / "encoder.safetensors"
"""The file of `embedded`."""

EMBEDDED_DECODER = Path(__file__).parent / "decoder.safetensors"
"""The file of `embedded_decoder`."""


def load(
    path: str | os.PathLike[str], *, without: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """Read the weights of a network from a file, as float32.

    Parameters
    ----------
    path : path
        What `open` reads.
    without : str, optional
        Leave out the arrays whose key begins with it, such as ``"classifier."``.

    Returns
    -------
    dict of str to float32 array
        The arrays under the keys of the file; the batch counters of norms are left out, and so is
        all but the model where PyTorch saved a state of training. A number that stands beside the
        arrays, as the size of pictures in monodepth2's, becomes an array without dimensions.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another format, or holds NaN or infinity.
    """
    file = open(path)
    keys = [key for key in file if not key.endswith(_COUNTER)]
    if without is not None:
        keys = [key for key in keys if not key.startswith(without)]
    if file.format == "Torch7":
        keys = [key for key in keys if key.endswith(_PARAMETERS)]
    if file.format == "TensorFlow Lite":  # whose graph has its shapes and offsets as tensors
        keys = [key for key in keys if file.tensors[key].storage.element.is_real]
    is_training = all(key.startswith((_MODEL, _OPTIMISER)) for key in keys)
    prefix = _MODEL if is_training and file.format != "Torch7" else ""
    arrays = {
        key.removeprefix(prefix): _checked(file[key], f"{path}: {key}")
        for key in keys
        if key.startswith(prefix)
    }
    return arrays | {key: np.array(number, np.float32) for key, number in file.numbers.items()}


def load_all(
    sources: Iterable[str | os.PathLike[str] | Mapping[str, NDArray[Any]]],
    *,
    without: str | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the weights of a network from all of its files.

    Parameters
    ----------
    sources : iterable of path or mapping of str to array
        Files, folders (see `files_of`), or arrays.
    without : str, optional
        As for `load`.

    Returns
    -------
    dict of str to array
        As `load` returns them.

    Raises
    ------
    WeightsError
        As for `load`; or two sources hold an array of the same name.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for source in sources:
        paths = [source] if isinstance(source, Mapping) else files_of(source)
        for path in paths:
            part = path if isinstance(path, Mapping) else load(path, without=without)
            both = arrays.keys() & part.keys()
            if both:
                raise WeightsError(
                    f"{'arrays' if isinstance(path, Mapping) else path}: holds {min(both)} as a "
                    "file before it does; give files that belong together"
                )
            arrays |= part
    return arrays


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files of weights that a path stands for.

    Parameters
    ----------
    path : path
        A file; or a folder as an archive of a depth network leaves it, with ``encoder.pth`` and
        ``depth.pth``, or with a ``.t7``. Any other path, as the folder of a deeplearn.js
        checkpoint, stands for itself.

    Raises
    ------
    WeightsError
        It is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise WeightsError(f"weights: {path!r} is no path; give the path of a file")
    folder = Path(path)
    pair = [folder / name for name in ("encoder.pth", "depth.pth")]
    if all(file.is_file() for file in pair):
        return pair
    return sorted(folder.glob("*.t7")) or [folder]


@functools.cache
def embedded() -> dict[str, NDArray[np.float32]]:
    """Return the weights of the encoder that is part of the package.

    Returns
    -------
    dict of str to float32 array
        VGG19 up to relu4_1 with a quarter of the channels, under VGG19's keys; treat it as
        read-only, the same arrays are returned every time.
    """
    return load(EMBEDDED)


@functools.cache
def embedded_decoder() -> dict[str, NDArray[np.float32]]:
    """Return the weights of the AdaIN decoder that belongs to the `embedded` encoder.

    Returns
    -------
    dict of str to float32 array
        The mirrored network under the keys of the published decoder; treat it as read-only.
    """
    return load(EMBEDDED_DECODER)


def _checked(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise WeightsError(f"{name}: type {array.dtype}, expected floats; give a file of weights")
    if not np.isfinite(array).all():
        raise WeightsError(f"{name}: holds NaN or infinity; the file is damaged")
    return np.ascontiguousarray(array, np.float32)
