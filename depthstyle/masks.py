"""Masks: the weight gamma of every pixel in a loss, made from its depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import losses
from depthstyle.depth import as_depth, as_map
from depthstyle.errors import ImageError
from depthstyle.images import resize

MaskSpec = str | ArrayLike | Callable[[NDArray[np.float32]], ArrayLike]


def depth_mask(
    depth: ArrayLike, spec: MaskSpec = "linear", name: str = "mask"
) -> NDArray[np.float32]:
    """Compute the weight gamma of every pixel from its depth.

    ===================  ======================================  ==========================
    `spec`               gamma(d)                                defaults
    ===================  ======================================  ==========================
    linear:LO..HI        LO + (HI - LO) d                        0..1
    sigmoid:k=K,t=T      1 / (1 + exp(-K (d - T)))               K = 20, T = 0.5
    complement:k=K,t=T   1 - 1 / (1 + exp(-K (d - T)))           K = 20, T = 0.8
    window:LO..HI        1 where LO <= d <= HI, else 0           none: both must be given
    ===================  ======================================  ==========================

    Parameters
    ----------
    depth : array (H, W)
        0 nearest to 1 farthest.
    spec : str, array (H, W) or callable, optional
        One of the words above with or without its numbers, gamma itself with values in [0, 1],
        or a function from the depth array to gamma.
    name : str, optional
        What the error messages call it.

    Returns
    -------
    float32 (H, W)
        Values in [0, 1].

    Raises
    ------
    ValueError
        The words cannot be understood, or gamma has another shape than the depth, values that
        are not in [0, 1], or is zero everywhere.
    """
    values = as_depth(depth)
    function = parse_mask(spec, name) if isinstance(spec, str) else spec
    gamma = as_map(function(values.copy()) if callable(function) else function, name)
    if gamma.shape != values.shape:
        raise ImageError(f"{name}: shape {gamma.shape} must be the depth map's {values.shape}")
    if not (np.isfinite(gamma).all() and gamma.min() >= 0 and gamma.max() <= 1):
        raise ImageError(f"{name}: has values outside [0, 1]; scale or clip it")
    if not gamma.any():
        raise ImageError(f"{name}: is zero everywhere; choose a range of depth that occurs")
    return gamma.astype(np.float32)


def parse_mask(
    text: str, name: str = "mask"
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Turn the words of `depth_mask` into a function from depth to gamma.

    Parameters
    ----------
    text : str
        For example ``"sigmoid"``, ``"sigmoid:k=10,t=0.4"``, ``"linear:0.8..1.0"``,
        ``"window:0.2..0.5"``.
    name : str, optional
        What the error messages call it.

    Returns
    -------
    callable
        float32 (H, W) depth to float32 (H, W) gamma.

    Raises
    ------
    ValueError
        An unknown word, a number that is none, or numbers out of range.
    """
    from scipy.special import expit

    word, _, numbers = text.strip().partition(":")
    if word in ("sigmoid", "complement"):
        k, t = _parse_named(numbers, {"k": 20.0, "t": 0.8 if word == "complement" else 0.5}, name)
        sign = -1 if word == "complement" else 1
        return lambda depth: expit(sign * k * (depth - t))
    if word in ("linear", "window"):
        if word == "window" and not numbers:
            raise ValueError(f"{name}={text!r}: a window needs its range, as in window:0.2..0.5")
        low, high = _parse_range(numbers or "0..1", word == "window", name)
        if word == "linear":
            return lambda depth: low + (high - low) * depth
        return lambda depth: ((depth >= low) & (depth <= high)).astype(np.float32)
    raise ValueError(
        f"{name}={text!r}: unknown; use linear:LO..HI, sigmoid:k=K,t=T, complement:k=K,t=T or "
        "window:LO..HI"
    )


def _parse_named(text: str, defaults: dict[str, float], name: str) -> list[float]:
    values = dict(defaults)
    for part in filter(None, text.split(",")):
        key, _, number = part.partition("=")
        if key.strip() not in values:
            raise ValueError(f"{name}: unknown {part!r}; use {', '.join(f'{k}=' for k in values)}")
        values[key.strip()] = _parse_number(number, name)
    return list(values.values())


def _parse_range(text: str, ordered: bool, name: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{name}: range {text!r} must be written as LO..HI, as in 0.2..0.5")
    ends = _parse_number(low, name), _parse_number(high, name)
    if not all(0 <= end <= 1 for end in ends) or (ordered and ends[0] > ends[1]):
        raise ValueError(f"{name}: range {text!r} must lie in 0..1, the lower end first")
    return ends


def _parse_number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no number") from None
    if not np.isfinite(value):
        raise ValueError(f"{name}: {text!r} must be finite")
    return value


def layer_mask(
    mask: MaskSpec, depth: NDArray[np.float32] | None, size: tuple[int, int], name: str, layer: str
) -> NDArray[np.float32]:
    """Return the mask (H, W) at the size of a layer: of the resized depth, or a resized array.

    Raises
    ------
    ValueError
        It needs a depth map and there is none, is no mask, or is zero everywhere at this size.
    """
    if isinstance(mask, str) or callable(mask):
        if depth is None:
            raise ValueError(f"{name}={mask!r}: needs a depth map; give depth")
        gamma = depth_mask(resize(depth, size, "bilinear"), mask, f"{name} at layer {layer}")
    else:
        array = np.asarray(mask)
        if array.ndim != 2:
            raise ValueError(
                f"{name}={mask!r}: must be words as sigmoid, a function of depth, or (H, W) values"
            )
        whole = depth_mask(np.zeros(array.shape, np.float32), mask, name)
        gamma = resize(whole, size, "bilinear")
    losses.check_mask(gamma, name, layer)
    return gamma
