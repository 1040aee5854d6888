"""Losses as graph fragments: functions that add nodes and return a scalar node.

Symbols: F, P are feature maps (1, C, H, W) of the picture and of the content, M = H W,
G = sum over pixels k of F_ik F_jk is the Gram matrix, A that of the style.

A loss of your own is a function of the same form::

    def brightness(graph, image, features):
        return graph.feature_loss(image, graph.constant(target), scale=1 / target.size)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalisation:
    """How sums become losses; weights mean nothing without it.

    Attributes
    ----------
    content : callable
        Factor of the sum of (F - P)^2, given C and M.
    gram : callable
        Factor of the Gram matrix, given C and M.
    style : callable
        Factor of the sum of (G - A)^2, given C and M.
    pixel : callable
        Factor of the sums of total variation and Laplacian loss, given the number of terms.
    shares_mask : bool
        The style's Gram matrix is multiplied by mean(mask^2) / mean(mask)^2, which is what the
        masked Gram matrix of a picture is when the masked part has the style's statistics. Without
        it, as in paper 001, a mask that covers a tenth of the picture asks for features of a tenth
        of the energy.
    """

    content: Callable[[int, int], float]
    gram: Callable[[int, int], float]
    style: Callable[[int, int], float]
    pixel: Callable[[int], float]
    shares_mask: bool = False


NORMALISATIONS = {
    "gatys": Normalisation(
        content=lambda c, m: 1 / 2,
        gram=lambda c, m: 1.0,
        style=lambda c, m: 1 / (4 * c**2 * m**2),
        pixel=lambda n: 1.0,
    ),
    "johnson": Normalisation(
        content=lambda c, m: 1 / (c * m),
        gram=lambda c, m: 1 / (c * m),
        style=lambda c, m: 1.0,
        pixel=lambda n: 1.0,
    ),
    "sum": Normalisation(
        content=lambda c, m: 1.0,
        gram=lambda c, m: 1.0,
        style=lambda c, m: 1.0,
        pixel=lambda n: 1.0,
    ),
    "size-invariant": Normalisation(
        content=lambda c, m: 1 / (c * m),
        gram=lambda c, m: 1 / m,
        style=lambda c, m: 1 / c**2,
        pixel=lambda n: 1 / n,
        shares_mask=True,
    ),
}
"""The normalisations of the papers by name, and the one that is used where no paper is followed."""


def normalisation(name: str) -> Normalisation:
    """Return a normalisation by its name.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    if name not in NORMALISATIONS:
        raise ValueError(
            f"normalisation={name!r}: unknown; choose from {', '.join(NORMALISATIONS)}"
        )
    return NORMALISATIONS[name]


def content_loss(
    graph: Any,
    features: Any,
    target: Array,
    norm: Normalisation,
    *,
    mask: Array | None = None,
    weight: float = 1.0,
) -> Any:
    """Add the content loss of one layer.

    ``weight * norm.content * sum((mask * (F - P))^2)``: Gatys et al. 2016, eq. 1; masked: eq. of
    section 3.2 of paper 001.

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    features : Node (1, C, H, W)
        F.
    target : array (1, C, H, W)
        P.
    norm : Normalisation
        Gives the factor.
    mask : array (H, W), optional
        Where the content counts.
    weight : float, optional
        Weight of the layer.

    Returns
    -------
    Node (1, 1, 1, 1)
    """
    _, channels, height, width = features.shape
    scale = weight * norm.content(channels, height * width)
    return graph.feature_loss(
        features, graph.constant(target, kind="map"), _mask_node(graph, mask), scale=scale
    )


def style_loss(
    graph: Any,
    features: Any,
    target: Array,
    norm: Normalisation,
    *,
    mask: Array | None = None,
    weight: float = 1.0,
) -> Any:
    """Add the style loss of one layer.

    ``weight * norm.style * sum((G - A)^2)`` with ``G = norm.gram / eta * sum((mask F)(mask F)^T)``
    and ``eta = mean(mask)^2``: Gatys et al. 2016, eq. 4; masked: section 3.2 of paper 001.

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    features : Node (1, C, H, W)
        F.
    target : array (1, 1, C, C)
        The style's mean Gram matrix: its Gram matrix over its own number of pixels. It stands for
        a style picture of the size of F, whatever the true size was.
    norm : Normalisation
        Gives the factors.
    mask : array (H, W), optional
        Where the style counts; not zero everywhere.
    weight : float, optional
        Weight of the layer.

    Returns
    -------
    Node (1, 1, 1, 1)
    """
    _, channels, height, width = features.shape
    pixels = height * width
    scale = norm.gram(channels, pixels)
    gram = graph.gram(features, _mask_node(graph, mask), scale=scale)
    wanted = target * (scale * pixels * mask_share(mask, norm))
    return graph.feature_loss(
        gram,
        graph.constant(np.ascontiguousarray(wanted, target.dtype)),
        scale=weight * norm.style(channels, pixels),
    )


def mask_share(mask: Array | None, norm: Normalisation) -> float:
    """Return the factor of the style's Gram matrix under a mask; see `Normalisation`."""
    if mask is None or not norm.shares_mask:
        return 1.0
    values = mask.astype(np.float64)
    return float(np.mean(values**2) / np.mean(values) ** 2)


def total_variation(graph: Any, image: Any, norm: Normalisation) -> Any:
    """Add the sum of squared differences to the lower and right neighbour (paper 001, sec. 3.1).

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    image : Node (1, 3, H, W)
        The picture in the network's input range.
    norm : Normalisation
        Gives the factor.

    Returns
    -------
    Node (1, 1, 1, 1)
    """
    _, channels, height, width = image.shape
    return graph.total_variation(image, scale=norm.pixel(channels * height * width))


def laplacian_loss(graph: Any, image: Any, content: Array, pool: int, norm: Normalisation) -> Any:
    """Add the Laplacian loss ``sum((D(x) - D(c))^2)`` (Li et al. 2017; papers 003 and 004, eq. 5).

    D averages pools of `pool` x `pool` pixels, filters each channel with the kernel
    [0 -1 0; -1 4 -1; 0 -1 0] and sums over the channels.

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    image : Node (1, 3, H, W)
        x, in the network's input range.
    content : array (1, 3, H, W)
        c, in the same range.
    pool : int
        Pool size; height and width must be at least three pools.
    norm : Normalisation
        Gives the factor.

    Returns
    -------
    Node (1, 1, 1, 1)
    """
    edges = graph.laplacian(image, pool=pool)
    target = graph.laplacian(graph.constant(content, kind="map"), pool=pool)
    _, _, height, width = edges.shape
    return graph.feature_loss(edges, target, scale=norm.pixel(height * width))


def depth_loss(graph: Any, seen: Any, target: Array, *, weight: float = 1.0) -> Any:
    """Add the depth loss at one output of a depth network.

    ``weight / (C H W) * sum((delta(x) - delta(c))^2)``, which at the network's last output is the
    mean over the pixels (papers 001, 003 and 004) and at its features the loss of paper 000.

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    seen : Node (1, C, H, W)
        delta(x): what the network makes of the picture.
    target : array (1, C, H, W)
        delta(c): what it makes of the content.
    weight : float, optional
        Weight of the output.

    Returns
    -------
    Node (1, 1, 1, 1)
    """
    return graph.feature_loss(seen, graph.constant(target, kind="map"), scale=weight / target.size)


def check_mask(mask: Array, name: str, layer: str) -> None:
    """Refuse a mask that hides a whole layer, where eta = mean(mask)^2 would divide by zero.

    Raises
    ------
    ValueError
        The mask's mean is zero at the size of the layer.
    """
    if not np.float32(np.mean(mask)) ** 2 > 0:  # as the engine computes it
        height, width = mask.shape
        raise ValueError(
            f"{name}: is zero everywhere at layer {layer} ({height}x{width}), so that eta = 0; "
            "widen the mask or leave the layer out"
        )


def _mask_node(graph: Any, mask: Array | None) -> Any:
    return None if mask is None else graph.constant(np.ascontiguousarray(mask[None, None]))
