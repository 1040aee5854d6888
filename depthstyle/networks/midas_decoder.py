"""What the networks of MiDaS v2.1 share: the decoder and the pre-processing.

Both return relative inverse depth, (N, H, W), not negative, that grows with the nearness. The
outputs of the encoder are named ``layer_1`` (a quarter of the input's size) to ``layer_4`` (a
32nd), those of the decoder's steps ``path_4`` to ``path_1``, as in the published code.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.feature_network import IMAGENET_MEAN, IMAGENET_STD
from depthstyle.networks.network import Name, Network, Weights, add_conv

LEVELS = (4, 3, 2, 1)
TAPS = tuple(f"layer_{level}" for level in reversed(LEVELS))
OUTPUT = "depth"
LAYERS: tuple[Name, ...] = (*TAPS, *(f"path_{level}" for level in LEVELS), OUTPUT)
MULTIPLE = 32


def add_decoder(
    graph: Any, taps: list[Any], weights: Weights, *, in_place: bool
) -> dict[Name, Any]:
    """Add the decoder to a graph.

    Parameters
    ----------
    graph : Graph
        Gets the nodes.
    taps : list of Node
        The encoder's maps, from fine to coarse.
    weights : mapping of str to array
        The weights under their published keys.
    in_place : bool
        The ReLU that begins a residual unit changes the unit's input, so that it is relu(x) which
        the unit adds, as in the published code of the large network.

    Returns
    -------
    dict of str to Node
        Everything in `LAYERS`.
    """
    found: dict[Name, Any] = dict(zip(TAPS, taps, strict=True))
    path = None
    for level in LEVELS:
        key = f"scratch.refinenet{level}"
        skip = add_conv(
            graph, taps[level - 1], weights, f"scratch.layer{level}_rn", None, 3, bias=False, pad=1
        )
        if path is None:
            path = skip
        else:
            unit = _add_unit(graph, skip, weights, f"{key}.resConfUnit1", in_place)
            path = graph.add(path, unit)
        path = _add_unit(graph, path, weights, f"{key}.resConfUnit2", in_place)
        if f"{key}.out_conv.weight" in weights:
            # It is published after the upsampling; both are linear and act on different axes.
            path = add_conv(graph, path, weights, f"{key}.out_conv", None, 1)
        path = _add_doubling(graph, path, align_corners=True)
        found[f"path_{level}"] = path
    x = add_conv(graph, path, weights, "scratch.output_conv.0", None, 3, pad=1)
    x = _add_doubling(graph, x, align_corners=False)
    x = add_conv(graph, x, weights, "scratch.output_conv.2", None, 3, pad=1)
    x = graph.activation(x, kind="relu")
    x = add_conv(graph, x, weights, "scratch.output_conv.4", 1, 1)
    found[OUTPUT] = graph.activation(x, kind="relu")
    return found


def _add_unit(graph: Any, x: Any, weights: Weights, key: str, in_place: bool) -> Any:
    positive = graph.activation(x, kind="relu")
    y = add_conv(graph, positive, weights, f"{key}.conv1", x.shape[1], 3, pad=1)
    y = graph.activation(y, kind="relu")
    y = add_conv(graph, y, weights, f"{key}.conv2", x.shape[1], 3, pad=1)
    return graph.add(y, positive if in_place else x)


def _add_doubling(graph: Any, x: Any, *, align_corners: bool) -> Any:
    _, _, h, w = x.shape
    return graph.resize(x, h=2 * h, w=2 * w, mode="bilinear", align_corners=align_corners)


def midas_size(target: int, h: int, w: int) -> tuple[int, int]:
    """Return the size at which MiDaS sees a picture.

    The picture fits into a square of `target` pixels with its proportions kept, each side then
    being rounded to a multiple of 32 that is at most `target` and at least 32.
    """
    scale = min(target / h, target / w)
    return _multiple(scale * h, target), _multiple(scale * w, target)


def _multiple(side: float, most: int) -> int:
    rounded = MULTIPLE * round(side / MULTIPLE)
    if rounded > most:
        rounded = MULTIPLE * int(side // MULTIPLE)
    return max(rounded, MULTIPLE)


def midas_depth_network(network: Network, target: int) -> DepthNetwork:
    """Return a network of MiDaS with its pre-processing for a square of `target` pixels."""
    return DepthNetwork(
        network=network,
        input_size=partial(midas_size, target),
        output=OUTPUT,
        features=TAPS,
        nearness=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resize_in={"mode": "bicubic"},
        resize_out={"mode": "bicubic"},
    )
