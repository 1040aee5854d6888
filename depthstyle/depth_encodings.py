"""How data sets store depth: the encodings of `read_depth_map` and the calibration of stereo."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import ImageError
from depthstyle.picture_codec import PathLike

Kind = Literal["depth", "disparity"]
Values = NDArray[Any]

_KINECT_FARTHEST = 10.0
_MILLIMETRE = 0.001


@dataclass(frozen=True)
class Encoding:
    """How stored values become readings.

    Attributes
    ----------
    name : str
        Its name, for messages.
    kind : {"depth", "disparity"}
        What the readings are.
    scale, offset : float
        Readings are the decoded values times `scale`, plus `offset`.
    invalid : tuple of float, or None
        Stored values that mean "no reading", besides NaN and infinity; None decides by the type of
        the values, as `read_depth_map` says.
    decode : callable, optional
        From stored values to values in proportion to the readings.
    bits : int, optional
        Bits of a stored integer; other files are refused.
    near, far : float, optional
        The readings that become 0 and 1.
    """

    name: str = ""
    kind: Kind = "depth"
    scale: float = 1.0
    offset: float = 0.0
    invalid: tuple[float, ...] | None = None
    decode: Callable[[Values], Values] | None = None
    bits: int | None = None
    near: float | None = None
    far: float | None = None


def _rotate_three_bits(stored: Values) -> Values:
    return (stored >> 3) | (stored << 13)


def _decode_kinect(stored: Values) -> Values:
    """Turn the byte-swapped disparities of a first Kinect into metres; 0 where there is none."""
    with np.errstate(divide="ignore"):
        metres = 351.3 / (1092.5 - stored.byteswap().astype(np.float64))
    return np.clip(metres, 0, _KINECT_FARTHEST)


ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        Encoding("mm", scale=_MILLIMETRE, invalid=(0,), bits=16),
        Encoding("tum", scale=1 / 5000, invalid=(0,), bits=16),
        Encoding("kitti", scale=1 / 256, invalid=(0,), bits=16),
        Encoding("kitti-disparity", "disparity", 1 / 256, invalid=(0,), bits=16),
        Encoding("middlebury", "disparity"),
        Encoding("nyu", invalid=(0,)),
        Encoding("nyu-raw", invalid=(0,)),
        Encoding("kinect", invalid=(0,), decode=_decode_kinect, bits=16),
        Encoding("sunrgbd", scale=_MILLIMETRE, invalid=(0,), decode=_rotate_three_bits, bits=16),
    )
}
"""Encodings by name; ``gdepth:NEAR..FAR`` is made by `find_encoding`."""


def find_encoding(name: str) -> Encoding:
    """Return an encoding by its name.

    ==================  ==================================================================
    `name`              stored values
    ==================  ==================================================================
    mm                  16 bits, millimetres; 0 is no reading
    tum                 16 bits, metres times 5000 (TUM RGB-D, ICL-NUIM); 0 is no reading
    kitti               16 bits, metres times 256 (KITTI, Waymo); 0 is no reading
    kitti-disparity     16 bits, pixels of disparity times 256; 0 is no reading
    middlebury          disparity in pixels; infinite (PFM) or 0 (PNG) is no reading
    nyu, nyu-raw        metres; of the labelled NYU set (.mat) the filled or the measured depth
    kinect              16 bits, disparity of a first Kinect, bytes swapped (raw NYU set)
    sunrgbd             16 bits, millimetres, rotated by three bits; 0 is no reading
    gdepth:NEAR..FAR    8 or 16 bits, RangeInverse of Google's GDepth
    ==================  ==================================================================

    Raises
    ------
    ImageError
        The name is unknown.
    """
    if name in ENCODINGS:
        return ENCODINGS[name]
    word, _, ends = name.partition(":")
    if word == "gdepth":
        return _range_inverse(ends)
    raise ImageError(
        f"encoding={name!r}: unknown; choose from {', '.join(ENCODINGS)} or gdepth:NEAR..FAR"
    )


def decode(stored: Values, name: str, rule: Encoding) -> NDArray[np.float64]:
    """Return the readings that an encoding makes of stored values; invalid ones too.

    Raises
    ------
    ImageError
        The stored values cannot be of this encoding.
    """
    if rule.bits == 16:
        # Some readers give 16 bits as int32, or in the file's byte order.
        if stored.dtype.kind not in "ui" or stored.dtype.itemsize < 2 or stored.max() > 65535:
            raise ImageError(
                f"{name}: holds {stored.dtype}, encoding={rule.name!r} means 16-bit grey; give "
                "the original file, or kind and scale"
            )
        stored = stored.astype(np.uint16)
    if rule.name.startswith("kitti") and stored.max() <= 255:
        raise ImageError(
            f"{name}: no value is above 255, so that this is 8-bit data; encoding={rule.name!r} "
            "means 256 times the reading"
        )
    values = stored if rule.decode is None else rule.decode(stored)
    return values.astype(np.float64) * rule.scale + rule.offset


def _range_inverse(ends: str) -> Encoding:
    """Return GDepth's RangeInverse: z = far near / (far - d (far - near)), d from 0 to 1."""
    numbers = [_number(end) for end in ends.split("..")]
    if len(numbers) != 2 or not 0 < numbers[0] < numbers[1] < np.inf:
        raise ImageError(
            f"encoding='gdepth:{ends}': must be gdepth:NEAR..FAR with 0 < NEAR < FAR, which the "
            "picture's GDepth data state"
        )
    near, far = numbers

    def invert(stored: Values) -> Values:
        if stored.dtype.kind != "u":
            raise ImageError(f"encoding='gdepth:{ends}': needs 8 or 16 bits, not {stored.dtype}")
        unit = stored / np.iinfo(stored.dtype).max
        return far * near / (far - unit * (far - near))

    return Encoding(f"gdepth:{ends}", invalid=(), decode=invert, near=near, far=far)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


@dataclass(frozen=True)
class Calibration:
    """A pair of parallel cameras, which turns disparity into depth.

    ``depth = focal baseline / (disparity + doffs)``

    Attributes
    ----------
    focal : float
        Focal length in pixels.
    baseline : float
        Distance of the cameras in metres.
    doffs : float
        Column of the right principal point minus that of the left, in pixels.
    size : (int, int), optional
        Height and width of the pictures that it holds for.
    """

    focal: float
    baseline: float
    doffs: float = 0.0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("focal", "baseline"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ImageError(f"calibration: {name}={value!r} must be a finite number above 0")
        if not np.isfinite(self.doffs):
            raise ImageError(f"calibration: doffs={self.doffs!r} must be finite")

    def to_depth(self, disparity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the depth in metres; NaN where the disparity is that of no point in front.

        Raises
        ------
        ImageError
            The map has another size than the calibration.
        """
        if self.size is not None and disparity.shape != self.size:
            height, width = self.size
            raise ImageError(
                f"calibration: is for {height}x{width} pixels, the disparity has "
                f"{disparity.shape[0]}x{disparity.shape[1]}; give the original file, or a "
                "Calibration with focal and doffs scaled alike"
            )
        shifted = disparity + self.doffs
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = self.focal * self.baseline / shifted
        return np.where(shifted > 0, depth, np.nan)


def read_calibration(path: PathLike) -> Calibration:
    """Read a Middlebury ``calib.txt``.

    Parameters
    ----------
    path : path
        A text of lines ``name=value`` with ``cam0=[f 0 cx; 0 f cy; 0 0 1]``, ``baseline`` in
        millimetres, and if they are known ``doffs``, ``width`` and ``height``.

    Returns
    -------
    Calibration
        Its baseline in metres.

    Raises
    ------
    ImageError
        The file cannot be read or lacks a value.
    """
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ImageError(f"{path}: is no calibration text") from error
    entries = dict(re.findall(r"^\s*(\w+)\s*=\s*\[?\s*([-+.\deE]+)", text, flags=re.MULTILINE))

    def value(name: str, default: float | None = None) -> float:
        number = _number(entries[name]) if name in entries else default
        if number is None or np.isnan(number):
            raise ImageError(f"{path}: holds no {name}=...; must be a Middlebury calib.txt")
        return number

    size = (int(value("height")), int(value("width"))) if "width" in entries else None
    baseline = value("baseline") * _MILLIMETRE
    return Calibration(value("cam0"), baseline, value("doffs", 0.0), size)
