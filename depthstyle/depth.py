"""Depth maps: read, normalise, fill, draw; the strength map of depth-aware AdaIN.

Everywhere in depthstyle a depth map d is a float32 array (H, W) with 0 nearest and 1 farthest.
Proximity is 1 - d.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.depth_encodings import (
    Calibration,
    Encoding,
    Kind,
    decode,
    find_encoding,
    read_calibration,
)
from depthstyle.depth_files import Written, read_values
from depthstyle.errors import DepthstyleWarning, ImageError
from depthstyle.files import write_atomically
from depthstyle.images import resize
from depthstyle.picture_codec import PathLike, encode_picture
from depthstyle.presets import check_number, check_share

_SHARE_BEYOND = 0.1
"""Per cent of the readings that may lie nearer than `near`, and as many beyond `far`."""


@dataclass(frozen=True)
class DepthMap:
    """A depth map with what was measured and what was filled in.

    Attributes
    ----------
    depth : float32 (H, W)
        0 nearest to 1 farthest; complete.
    valid : bool (H, W)
        True where the depth was measured, False where it was filled from around.
    near, far : float
        The readings (in the unit of the file times `scale`, or metres with a calibration) that
        became 0 and 1.
    kind : {"depth", "disparity"}
        What the readings are.
    """

    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    near: float
    far: float
    kind: Kind


def read_depth(source: PathLike | ArrayLike, **options: Any) -> NDArray[np.float32]:
    """Read a depth map from a file or an array.

    Parameters
    ----------
    source : path or array (H, W)
        As for `read_depth_map`.
    **options
        The options of `read_depth_map`.

    Returns
    -------
    float32 (H, W)
        0 nearest to 1 farthest, holes filled.

    Raises
    ------
    ImageError
        As for `read_depth_map`.
    """
    return read_depth_map(source, **options).depth


def read_depth_map(
    source: PathLike | ArrayLike,
    *,
    encoding: str | None = None,
    kind: Kind | None = None,
    scale: float | None = None,
    near: float | None = None,
    far: float | None = None,
    invalid: Sequence[float] | None = None,
    calibration: Calibration | PathLike | None = None,
    index: int | None = None,
) -> DepthMap:
    """Read a depth map with its validity mask and its range.

    Readings r become d = (r - near) / (far - near), clipped to [0, 1]. For disparity the nearest
    reading is the largest, so 1 - d is the disparity scaled to [0, 1].

    Parameters
    ----------
    source : path or array (H, W)
        PNG, TIFF or PGM with 8 or 16 bits, JPEG, NPY, NPZ, PFM, the labelled set of NYU Depth v2
        (.mat); or an array of numbers.
    encoding : str, optional
        How a data set stores its depth: ``tum``, ``kitti``, ``middlebury`` and others of
        `find_encoding`. It sets the options below, which may still be given.
    kind : {"depth", "disparity"}, optional
        Whether readings grow with the distance (the default) or with the nearness.
    scale : float, optional
        Readings are the stored values times this, 1 by default.
    near, far : float, optional
        The readings that become 0 and 1. By default the range of the readings without the 0.1 %
        at either end, where a sensor's outliers are; 0 and 1 for a floating-point depth map that
        lies within [0, 1], and what the file states for a file of `write_depth`.
    invalid : sequence of float, optional
        Stored values that mean "no reading", besides NaN and infinity. By default zero and
        negative values, except where zero can be a depth: in 8-bit depth pictures, in
        floating-point depth maps within [0, 1] and in files of `write_depth`.
    calibration : Calibration or path, optional
        Focal length and baseline, or a Middlebury ``calib.txt``; disparity becomes depth in
        metres.
    index : int, optional
        Which map of a .mat file, from 0, which is the default.

    Returns
    -------
    DepthMap

    Raises
    ------
    ImageError
        The file or array is no depth map, holds no valid reading, or an option is out of range.

    Warns
    -----
    DepthstyleWarning
        All readings are equal: the depth is 0.5 everywhere.
    """
    if encoding is None and _is_nyu(source):
        encoding = "nyu"
    given: dict[str, Any] = {
        "kind": kind,
        "scale": scale,
        "near": near,
        "far": far,
        "invalid": invalid,
    }
    rule = Encoding() if encoding is None else find_encoding(encoding)
    rule = replace(rule, **{name: value for name, value in given.items() if value is not None})
    if isinstance(calibration, str | os.PathLike):
        calibration = read_calibration(calibration)
    _check_options(rule, calibration)

    name, stored, written = _read_stored(source, encoding, index)
    if written is not None:
        if calibration is not None:
            raise ImageError(f"{name}: was written by depthstyle; calibrate the original file")
        rule = written.fill(rule)
    normalised = _is_normalised(stored, rule.kind)
    valid = _find_valid(stored, rule.kind, normalised, rule.invalid)
    readings = decode(stored, name, rule)
    if calibration is not None:
        rule, readings = replace(rule, kind="depth"), calibration.to_depth(readings)
    if calibration is not None or rule.decode is not None:
        valid &= readings > 0
    if not valid.any():
        raise ImageError(f"{name}: holds no valid reading; check kind, scale and invalid")
    near, far = _find_range(readings[valid], normalised, rule)
    if near == far:
        warnings.warn(
            f"{name}: every reading is {near:g}; the depth is taken as 0.5 everywhere",
            DepthstyleWarning,
            stacklevel=2,
        )
        unit = np.full(readings.shape, 0.5)
    else:
        unit = np.clip((np.where(valid, readings, near) - near) / (far - near), 0, 1)
    return DepthMap(fill_holes(unit.astype(np.float32), valid), valid, near, far, rule.kind)


def write_depth(path: PathLike, depth: DepthMap) -> None:
    """Write a depth map as a 16-bit grey PNG that `read_depth` reads back.

    0 is nearest and 65535 farthest. The range, the kind and the share of filled pixels stand in
    the file's text chunk.

    Parameters
    ----------
    path : path
        The file to write; its suffix must be ``.png``.
    depth : DepthMap
        What to write.

    Raises
    ------
    ImageError
        Another suffix, or the file cannot be written.
    """
    import json

    if os.path.splitext(path)[1].lower() != ".png":
        raise ImageError(f"{path}: a depth map is written as .png")
    recipe = {
        "depth": {"near": depth.near, "far": depth.far, "kind": depth.kind},
        "filled": round(1 - float(depth.valid.mean()), 4),
    }
    pixels = np.rint(depth.depth * 65535).astype(np.uint16)
    try:
        write_atomically(path, encode_picture(pixels, ".png", json.dumps(recipe), None))
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error


def as_depth(
    array: ArrayLike, size: tuple[int, int] | None = None, name: str = "depth"
) -> NDArray[np.float32]:
    """Check that an array is a depth map in depthstyle's convention, and fit it to a picture.

    Parameters
    ----------
    array : array (h, w)
        Finite floats in [0, 1], 0 nearest.
    size : (int, int), optional
        Height and width of the picture; the map is resized to it (bilinear, antialiased).
    name : str, optional
        What the error messages call it.

    Returns
    -------
    float32 (h, w) or (size[0], size[1])
        A new array.

    Raises
    ------
    ImageError
        Another shape, non-finite values, values outside [0, 1], or proportions that differ from
        the picture's by more than 5 %.
    """
    values = as_map(array, name)
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: has NaN or infinite values; pass it through read_depth first")
    if values.min() < 0 or values.max() > 1:
        raise ImageError(
            f"{name}: values from {values.min():g} to {values.max():g} are outside [0, 1]; "
            "pass it through read_depth first"
        )
    depth = values.astype(np.float32)
    if size is None or depth.shape == tuple(size):
        return depth
    proportion = (depth.shape[0] / depth.shape[1]) / (size[0] / size[1])
    if not 0.95 < proportion < 1.05:
        raise ImageError(
            f"{name}: {depth.shape[0]}x{depth.shape[1]} has not the proportions of the picture "
            f"({size[0]}x{size[1]}); crop one of them"
        )
    return resize(depth, size, "bilinear")


def fill_holes(depth: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill the invalid pixels of a map from the valid ones around them.

    Each takes the value of the nearest valid pixel; then the filled pixels alone are smoothed, so
    that the borders between the cells of sparse readings do not show as edges.

    Parameters
    ----------
    depth : float32 (H, W)
        The map; its values at invalid pixels do not matter.
    valid : bool (H, W)
        Where `depth` holds; at least one pixel is True.

    Returns
    -------
    float32 (H, W)
        A new array, equal to `depth` at every valid pixel.
    """
    from scipy import ndimage

    if valid.all():
        return depth.copy()
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled = depth[tuple(nearest)]
    return np.where(valid, depth, ndimage.gaussian_filter(filled, sigma=2, mode="nearest"))


def strength_map(
    depth: ArrayLike,
    *,
    beta: float = 20.0,
    epsilon: float = 0.15,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Compute the content strength P of depth-aware AdaIN (Algorithm 1 of the paper).

    1. P = max d - d; 2. resize P (bilinear, antialiased); 3. scale P to [0, 1]; 4. subtract its
    mean; 5. P = 1 / (1 + exp(-beta P)); 6. P = min(P, 1 - epsilon). The decoder then sees
    P f(c) + (1 - P) AdaIN(f(c), f(s)): 1 keeps the content, 0 is full style.

    Parameters
    ----------
    depth : array (h, w)
        0 nearest to 1 farthest.
    beta : float, optional
        Prominence of the nearness, at least 0. With 0, P is 0.5 everywhere: AdaIN at half
        strength.
    epsilon : float, optional
        Style that even the nearest pixel takes, in [0, 1].
    size : (int, int), optional
        Height and width of the encoder's features; that of `depth` by default.

    Returns
    -------
    float32 (h, w) or (size[0], size[1])
        Values in [0, 1 - epsilon]. A constant depth gives min(0.5, 1 - epsilon) everywhere.

    Raises
    ------
    ImageError
        `depth` is no depth map.
    ValueError
        `beta` or `epsilon` is out of range.

    Warns
    -----
    DepthstyleWarning
        The depth is constant.
    """
    from scipy.special import expit

    check_prominence(beta, epsilon)
    values = as_depth(depth)
    proximity = values.max() - values
    if size is not None:
        proximity = resize(proximity, size, "bilinear")
    spread = np.ptp(proximity)
    if spread > 0:
        proximity = (proximity - proximity.min()) / spread
        proximity = proximity - proximity.mean(dtype=np.float64)
    else:
        warnings.warn("depth: is constant; P is 0.5", DepthstyleWarning, stacklevel=2)
        proximity = np.zeros(proximity.shape)
    return np.minimum(expit(beta * proximity), 1 - epsilon).astype(np.float32)


def check_prominence(beta: Any, epsilon: Any) -> None:
    """Refuse parameters that `strength_map` cannot take."""
    check_number("beta", beta)
    check_share("epsilon", epsilon)


def depth_picture(depth: ArrayLike, valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Draw a depth map in colours, from bright (near) to dark (far), filled pixels hatched.

    Parameters
    ----------
    depth : array (H, W)
        0 nearest to 1 farthest.
    valid : bool (H, W), optional
        False where the map was filled; those pixels are hatched.

    Returns
    -------
    float32 (H, W, 3)
        RGB in [0, 1].

    Raises
    ------
    ImageError
        `depth` is no depth map.
    """
    from matplotlib import colormaps

    values = as_depth(depth)
    colours = colormaps["inferno"](1 - values)[..., :3].astype(np.float32)
    if valid is None:
        return colours
    rows, columns = np.indices(values.shape)
    stripe = ((rows + columns) % 8 < 3) & ~valid
    ink = np.where(colours.mean(axis=-1, keepdims=True) > 0.4, 0.0, 1.0)
    return np.where(stripe[..., None], 0.45 * ink + 0.55 * colours, colours).astype(np.float32)


def _check_options(rule: Encoding, calibration: Calibration | None) -> None:
    if rule.kind not in ("depth", "disparity"):
        raise ImageError(f"kind={rule.kind!r}: must be depth or disparity")
    if calibration is not None and rule.kind != "disparity":
        raise ImageError("calibration: turns disparity into depth; give kind='disparity' with it")
    if not (np.isfinite(rule.scale) and rule.scale > 0):
        raise ImageError(f"scale={rule.scale!r}: must be a finite number above 0")
    for name, value in (("near", rule.near), ("far", rule.far)):
        if value is not None and not np.isfinite(value):
            raise ImageError(f"{name}={value!r}: must be finite")
    kind = rule.kind if calibration is None else "depth"
    if rule.near is None or rule.far is None:
        return
    if (rule.near < rule.far) != (kind == "depth"):
        wanted = "below" if kind == "depth" else "above"
        raise ImageError(f"near={rule.near:g}: must be {wanted} far={rule.far:g} for {kind}")


def as_map(array: ArrayLike, name: str) -> NDArray[Any]:
    """Check that an array holds one number per pixel, (H, W)."""
    if np.ma.is_masked(array):
        raise ImageError(f"{name}: has masked values; use {name}.filled(numpy.nan)")
    try:
        values = np.asarray(array)
    except Exception as error:  # any object may be passed, and its conversion may raise anything
        raise ImageError(f"{name}: is no array ({error})") from error
    if values.ndim != 2 or values.size == 0:
        raise ImageError(f"{name}: shape {values.shape} must be (H, W)")
    if values.dtype.kind not in "buif":
        raise ImageError(f"{name}: dtype {values.dtype} must be numbers")
    return values


def _is_nyu(source: object) -> TypeGuard[PathLike]:
    return isinstance(source, str | os.PathLike) and str(source).lower().endswith(".mat")


def _read_stored(
    source: PathLike | ArrayLike, encoding: str | None, index: int | None
) -> tuple[str, NDArray[Any], Written | None]:
    """Return the name of a source, its stored values and what it says of itself."""
    if _is_nyu(source):
        from depthstyle.nyu import NyuDepth

        with NyuDepth(source) as rooms:
            return str(source), rooms.depth(index or 0, raw=encoding == "nyu-raw"), None
    if index is not None:
        raise ImageError(f"index={index!r}: only a .mat file holds several maps; leave it out")
    if isinstance(source, str | os.PathLike):
        return str(source), *read_values(source)
    return "depth", as_map(source, "depth"), None


def _is_normalised(stored: NDArray[Any], kind: Kind) -> bool:
    """Tell whether a map looks like depthstyle's own convention already."""
    if kind == "disparity" or stored.dtype.kind in "ui":
        return False
    finite = stored[np.isfinite(stored)]
    return finite.size > 0 and finite.min() >= 0 and finite.max() <= 1


def _find_valid(
    stored: NDArray[Any], kind: Kind, normalised: bool, invalid: Sequence[float] | None
) -> NDArray[np.bool_]:
    valid = np.isfinite(stored)
    if invalid is not None:
        return valid & ~np.isin(stored, list(invalid))
    zero_is_near = normalised or (kind == "depth" and stored.dtype == np.uint8)
    return valid if zero_is_near else valid & (stored > 0)


def _find_range(
    readings: NDArray[np.float64], normalised: bool, rule: Encoding
) -> tuple[float, float]:
    if normalised:
        low, high = 0.0, 1.0
    else:
        ends = np.percentile(readings, [_SHARE_BEYOND, 100 - _SHARE_BEYOND], method="nearest")
        low, high = float(ends[0]), float(ends[1])
    if rule.kind == "disparity":
        low, high = high, low
    near = low if rule.near is None else float(rule.near)
    far = high if rule.far is None else float(rule.far)
    if near != far and (near < far) != (rule.kind == "depth"):
        raise ImageError(f"near={near:g}, far={far:g}: the range holds no reading; check the unit")
    return near, far
