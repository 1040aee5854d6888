"""The inside of depth files: stored values, undecoded, from PNG, TIFF, PGM, NPY, NPZ and PFM."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from depthstyle.depth_encodings import Encoding, Kind
from depthstyle.errors import ImageError
from depthstyle.images import read_recipe
from depthstyle.picture_codec import MAX_PIXELS, PathLike, check_pixels, is_deep, open_picture

_NPZ_NAMES = ("depth", "disparity", "disp", "arr_0")
_NO_PICTURES = (".npy", ".npz", ".pfm", ".mat")
_GREY_TOLERANCE = 16
"""Largest difference between the channels of a grey map that JPEG stored as colour."""


@dataclass(frozen=True)
class Written:
    """What a depth map written by depthstyle says of itself: 0 is near, 65535 is far."""

    near: float
    far: float
    kind: Kind

    def fill(self, rule: Encoding) -> Encoding:
        """Return an encoding with all that the file states; a range that was asked for stays."""
        return replace(
            rule,
            kind=self.kind,
            scale=(self.far - self.near) / 65535,
            offset=self.near,
            invalid=(),
            decode=None,
            near=self.near if rule.near is None else rule.near,
            far=self.far if rule.far is None else rule.far,
        )


def read_values(path: PathLike) -> tuple[NDArray[Any], Written | None]:
    """Read the values (H, W) that a depth file stores, and its range if depthstyle wrote it.

    Raises `ImageError` for a file that is missing, damaged, too large or no map.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".pfm": _read_pfm}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        values = _read_picture(path)
        return values, _find_written(values, read_recipe(path))
    try:
        values = reader(path)
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # NumPy and zipfile raise nearly anything on damaged data
        raise ImageError(f"{path}: damaged depth file ({error})") from error
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "buif":
        raise ImageError(f"{path}: holds {values.dtype} {values.shape}; must be numbers (H, W)")
    return values, None


def _find_written(values: NDArray[Any], recipe: Mapping[str, Any] | None) -> Written | None:
    match recipe:
        case {"depth": {"near": float(near), "far": float(far), "kind": kind}}:
            sound = kind in ("depth", "disparity") and np.isfinite([near, far]).all()
            return Written(near, far, kind) if sound and values.dtype == np.uint16 else None
    return None


def _read_npy(path: PathLike) -> NDArray[Any]:
    # Mapped first: a header that promises more than the file holds fails without an allocation.
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: PathLike) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = list(names) if len(names) == 1 else [name for name in _NPZ_NAMES if name in names]
        if not chosen:
            raise ImageError(
                f"{path}: which of {', '.join(names)} is the depth? Name it {_NPZ_NAMES[0]!r}"
            )
        if names[chosen[0]].file_size > 8 * MAX_PIXELS:
            raise ImageError(f"{path}: {chosen[0]} is above the limit of {MAX_PIXELS} pixels")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[chosen[0]]


def _read_pfm(path: PathLike) -> NDArray[Any]:
    with open(path, "rb") as file:
        magic, *numbers = [_read_word(file) for _ in range(4)]
        if magic != b"Pf":
            raise ImageError(f"{path}: PFM kind {magic!r} is no map; must be Pf (one channel)")
        width, height, scale = int(numbers[0]), int(numbers[1]), float(numbers[2])
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            raise ImageError(f"{path}: {width}x{height} pixels are out of range")
        data = file.read(4 * width * height)
    # A negative scale means little-endian; rows run from the bottom upwards.
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4").reshape(height, width)
    return values[::-1].astype(np.float32)


def _read_word(file: BinaryIO) -> bytes:
    """Read a word of a header and the single white space that ends it."""
    word = b""
    while len(word) < 32:
        letter = file.read(1)
        if letter.isspace() and word:
            break
        if not letter:
            raise ValueError("its header is cut")
        word += letter.strip()
    return word


def is_coloured(path: PathLike) -> bool:
    """Tell whether a file is a coloured picture, which can be no depth map.

    Raises `ImageError` for a picture that is missing or damaged.
    """
    if Path(path).suffix.lower() in _NO_PICTURES:
        return False
    with open_picture(path) as file:
        if is_deep(file):
            return True
        check_pixels(file, str(path))
        if file.mode in ("L", "LA", "La", "1", "I", "F") or file.mode.startswith("I;"):
            return False
        try:
            colours = np.asarray(file.convert("RGB"))
        except Exception as error:  # decoders raise nearly anything on damaged data
            raise ImageError(f"{path}: damaged picture ({error})") from error
        return _has_colours(colours)


def _has_colours(pixels: NDArray[np.uint8]) -> bool:
    return bool(np.ptp(pixels.astype(np.int16), axis=2).max() > _GREY_TOLERANCE)


def _read_picture(path: PathLike) -> NDArray[Any]:
    with open_picture(path) as file:
        if is_deep(file):
            raise ImageError(
                f"{path}: is a 16-bit coloured picture, not a depth map; use a grey one"
            )
        check_pixels(file, str(path))
        try:
            values = np.asarray(file)
        except Exception as error:  # decoders raise nearly anything on damaged data
            raise ImageError(f"{path}: damaged picture ({error})") from error
        mode = file.mode
    if mode in ("LA", "La"):
        values = values[..., 0]
    if mode in ("RGB", "RGBA"):
        if _has_colours(values[..., :3]):
            raise ImageError(f"{path}: is a coloured picture, not a depth map; use a grey one")
        values = np.rint(values[..., :3].mean(axis=2)).astype(np.uint8)
    if values.ndim != 2 or mode in ("1", "P", "PA"):
        raise ImageError(f"{path}: mode {mode} holds no depth; save it as 8- or 16-bit grey")
    return values
