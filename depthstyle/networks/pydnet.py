"""PyDNet of Poggi et al. 2018, in the form of mobilePydnet (2019): a small pyramid for phones.

Six encoder levels, each of two convolutions that halve the map; at each level, from the coarsest,
four convolutions make eight maps, which a transposed convolution doubles for the level above. The
module takes RGB in [0, 1] and returns depth (N, 1, H, W), not to scale.

Keys are those of the TensorFlow graph; its weights are (O, k, k, I) and its padding is "SAME".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.network import (
    Name,
    Network,
    Prepared,
    Weights,
    add_conv,
    add_same_conv,
    take,
)

_LEVELS = (1, 2, 3, 4, 5, 6)
_SLOPE = 0.2
_FEATURES = tuple(f"level_{level}" for level in _LEVELS)
_OUTPUT = "depth"
_HEAD = "decoder/L1/estimator"
_SIZE = (448, 640)
_PARTS = {
    "weights": "weight",
    "weights_transposed": "weight",
    "Conv2D_bias": "bias",
    "biases": "bias",
}
"""Last part of a key in the graph, and here."""


def _prepare(weights: Weights) -> Weights:
    if isinstance(weights, Prepared):
        return weights
    prepared = Prepared()
    for key, array in weights.items():
        path, _, part = key.removeprefix("PSD/").rpartition("/")
        if part not in _PARTS:
            continue
        # a transposed convolution is the gradient of one whose outputs are its inputs
        axes = (3, 0, 1, 2) if part == "weights_transposed" else (0, 3, 1, 2)
        array = np.transpose(array, axes) if array.ndim == 4 else array
        prepared[f"{path}.{_PARTS[part]}"] = array
    return prepared


def _leaky(graph: Any, x: Any) -> Any:
    return graph.activation(x, kind="leaky_relu", alpha=_SLOPE)


def _add_encoder(graph: Any, x: Any, weights: Weights) -> list[Any]:
    maps = []
    for level in _LEVELS:
        for part, stride in (("a", 2), ("b", 1)):
            key = f"encoder/conv{level}{part}"
            x = _leaky(graph, add_same_conv(graph, x, weights, key, 3, stride))
        maps.append(x)
    return maps


def _add_doubling(graph: Any, x: Any, weights: Weights, key: str) -> Any:
    _, channels, h, w = x.shape
    weight = take(weights, f"{key}.weight", (channels, None, 2, 2))
    bias = take(weights, f"{key}.bias", (weight.shape[1],)).reshape(1, -1, 1, 1)
    x = graph.conv2d_backward_input(x, graph.constant(weight), stride=2, h=2 * h, w=2 * w)
    return _leaky(graph, graph.add(x, graph.constant(np.ascontiguousarray(bias))))


def _add_enlarged(graph: Any, x: Any) -> Any:
    """Add TensorFlow's old doubling: output pixel i lies on the input at i / 2."""
    _, _, h, w = x.shape
    x = graph.pad(x, bottom=1, right=1, mode="replicate")
    x = graph.resize(x, h=2 * h + 1, w=2 * w + 1, mode="bilinear", align_corners=True)
    return graph.slice(graph.slice(x, axis=2, end=2 * h), axis=3, end=2 * w)


def _add_layers(graph: Any, x: Any, weights: Weights, last: Name) -> dict[Name, Any]:
    maps = _add_encoder(graph, x, weights)
    found: dict[Name, Any] = dict(zip(_FEATURES, maps, strict=True))
    if last in found:
        return found
    x = maps[-1]
    for level in reversed(_LEVELS):
        for number in (3, 4, 5):
            key = f"decoder/L{level}/estimator/disp-{number}"
            x = _leaky(graph, add_conv(graph, x, weights, key, None, 3, pad=1))
        x = add_conv(graph, x, weights, f"decoder/L{level}/estimator/disp-6", None, 3, pad=1)
        if level > 1:
            x = _add_doubling(graph, x, weights, f"decoder/L{level}/upsampler")
            x = graph.concat(maps[level - 2], x)
    x = _leaky(graph, add_conv(graph, x, weights, _HEAD, 1, 3, pad=1))
    return {**found, _OUTPUT: _add_enlarged(graph, x)}


PYDNET = Network(
    name="pydnet",
    layers=(*_FEATURES, _OUTPUT),
    add_layers=_add_layers,
    recognise=lambda weights: "PSD/encoder/conv1a/weights" in weights,
    prepare=_prepare,
    multiple=64,
    smallest=64,
)


def _size(h: int, w: int) -> tuple[int, int]:
    return _SIZE


PYDNET_DEPTH = DepthNetwork(
    network=PYDNET,
    input_size=_size,
    output=_OUTPUT,
    features=_FEATURES,
    nearness=False,
    resize_in={"mode": "bilinear", "antialias": True},
    resize_out={"mode": "bilinear"},
)
