"""Keep the colours of the photograph, in the two ways of Gatys et al. (2016), "Preserving color".

`match_luminance` is applied to the finished picture, `match_colour` to the style picture before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.errors import ImageError
from depthstyle.images import as_image

_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_SMALLEST_VARIANCE = 1e-5


def match_luminance(content: ArrayLike, pastiche: ArrayLike) -> NDArray[np.float32]:
    """Give the luminance of one picture the colours of another.

    In YIQ space the result takes Y from `pastiche` and I, Q from `content`.

    Parameters
    ----------
    content : array (H, W, 3)
        The picture whose colours are kept; values in [0, 1].
    pastiche : array (H, W, 3)
        The stylised picture whose luminance is taken; same size.

    Returns
    -------
    float32 (H, W, 3)
        Values in [0, 1]; colours that the new luminance pushes out of range are clipped.

    Raises
    ------
    ImageError
        An argument is no picture, or their sizes differ.
    """
    kept, stylised = as_image(content, "content"), as_image(pastiche, "pastiche")
    if kept.shape != stylised.shape:
        raise ImageError(
            f"pastiche: shape {stylised.shape} must be the content's {kept.shape}; resize one"
        )
    yiq = kept @ _YIQ.T
    yiq[..., 0] = stylised @ _YIQ[0]
    return np.clip(yiq @ np.linalg.inv(_YIQ).T, 0, 1).astype(np.float32)


def match_colour(style: ArrayLike, content: ArrayLike) -> NDArray[np.float32]:
    """Give a style picture the mean and the covariance of a photograph's colours.

    Every colour s becomes A (s - mean(s)) + mean(c) with A = cov(c)^(1/2) cov(s)^(-1/2), the
    symmetric roots ("image analogies" colour transfer).

    Parameters
    ----------
    style : array (H, W, 3)
        The picture to recolour; values in [0, 1].
    content : array (h, w, 3)
        The picture whose colours are taken; any size.

    Returns
    -------
    float32 (H, W, 3)
        Values in [0, 1]; colours outside are clipped. Directions of colour in which `style` does
        not vary are left without variation.

    Raises
    ------
    ImageError
        An argument is no picture.
    """
    source = as_image(style, "style").astype(np.float64)
    target = as_image(content, "content").astype(np.float64)
    transfer = _root(_covariance(target), 0.5) @ _root(_covariance(source), -0.5)
    moved = (source - source.mean(axis=(0, 1))) @ transfer.T + target.mean(axis=(0, 1))
    return np.clip(moved, 0, 1).astype(np.float32)


def _covariance(image: NDArray[np.float64]) -> NDArray[np.float64]:
    colours = image.reshape(-1, 3)
    centred = colours - colours.mean(axis=0)
    return centred.T @ centred / len(colours)


def _root(covariance: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Power of a symmetric matrix; the inverse root of a vanishing variance stays finite."""
    variances, axes = np.linalg.eigh(covariance)
    if power < 0:
        variances = np.maximum(variances, _SMALLEST_VARIANCE)
    return (axes * np.maximum(variances, 0) ** power) @ axes.T
