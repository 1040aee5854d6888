"""Weights of networks: read from files, and the embedded encoder."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import WeightsError

__all__ = ["embedded", "load"]

_EMBEDDED = Path(__file__).parent / "encoder.safetensors"


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float32]]:
    """Read the weights of a network from a file.

    Parameters
    ----------
    path : path
        A safetensors file of 16-, 32- or 64-bit floats.

    Returns
    -------
    dict of str to float32 array
        The arrays under the keys of the file.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another format, or holds NaN or infinity.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, or no safetensors file ({error})") from error
    return {key: _checked(array, f"{path}: {key}") for key, array in arrays.items()}


@cache
def embedded() -> dict[str, NDArray[np.float32]]:
    """Return the weights of the encoder that is part of the package.

    Returns
    -------
    dict of str to float32 array
        VGG19 up to relu4_1 with a quarter of the channels, under VGG19's keys; treat it as
        read-only, the same arrays are returned every time.
    """
    return load(_EMBEDDED)


def _checked(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise WeightsError(f"{name}: type {array.dtype}, expected floats")
    if not np.isfinite(array).all():
        raise WeightsError(f"{name}: holds NaN or infinity; the file is damaged")
    return np.ascontiguousarray(array, np.float32)
