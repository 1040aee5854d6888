"""SqueezeNet 1.1 of Iandola et al. in torchvision's form.

A fire module squeezes the channels with 1x1 filters and expands them again with 1x1 and 3x3
filters, joined in this order; every convolution has a bias and a ReLU. Pools are 3x3, stride 2,
and round up.
"""

from __future__ import annotations

from typing import Any

from depthstyle.networks.feature_network import FeatureNetwork
from depthstyle.networks.network import Weights, add_conv

_FIRES = {
    "features.3": (16, 64),
    "features.4": (16, 64),
    "features.6": (32, 128),
    "features.7": (32, 128),
    "features.9": (48, 192),
    "features.10": (48, 192),
    "features.11": (64, 256),
    "features.12": (64, 256),
}
"""Channels of each fire module: squeezed, and of each half of the expansion."""

_NAMES = {
    "conv1": 0,
    "relu1": 1,
    "pool1": 2,
    "fire2": 3,
    "fire3": 4,
    "pool3": 5,
    "fire4": 6,
    "fire5": 7,
    "pool5": 8,
    "fire6": 9,
    "fire7": 10,
    "fire8": 11,
    "fire9": 12,
}

_POOLS = (2, 5, 8)


def _minimum_size(index: int) -> int:
    # conv1 takes 3 pixels to 1, and a pool wants 3 where one pixel would be enough after it
    pixels = 1
    for _ in range(sum(pool <= index for pool in _POOLS)):
        pixels = 3 if pixels == 1 else 2 * pixels
    return 2 * pixels + 1


def _add_fire(graph: Any, x: Any, weights: Weights, key: str) -> Any:
    squeezed, expanded = _FIRES[key]
    x = add_conv(graph, x, weights, f"{key}.squeeze", squeezed, 1)
    x = graph.activation(x, kind="relu")
    narrow = add_conv(graph, x, weights, f"{key}.expand1x1", expanded, 1)
    wide = add_conv(graph, x, weights, f"{key}.expand3x3", expanded, 3, pad=1)
    return graph.concat(graph.activation(narrow, kind="relu"), graph.activation(wide, kind="relu"))


def _add_layers(
    graph: Any, image: Any, weights: Weights, last: str, pooling: str = "max"
) -> dict[str, Any]:
    x = image
    maps = {}
    for layer, index in _NAMES.items():
        key = f"features.{index}"
        if layer.startswith("conv"):
            x = add_conv(graph, x, weights, key, 64, 3, stride=2)
        elif layer.startswith("relu"):
            x = graph.activation(x, kind="relu")
        elif layer.startswith("fire"):
            x = _add_fire(graph, x, weights, key)
        elif pooling == "max":
            x = graph.max_pool(x, kernel=3, stride=2, ceil=True)
        else:
            x = graph.avg_pool(x, kernel=3, stride=2, ceil=True)
        maps[layer] = x
        if layer == last:
            break
    return maps


SQUEEZENET1_1 = FeatureNetwork(
    name="squeezenet1_1",
    layers=tuple(_NAMES),
    aliases={f"features.{index}": layer for layer, index in _NAMES.items()},
    minimum_sizes={layer: _minimum_size(index) for layer, index in _NAMES.items()},
    content_layer="fire2",
    style_layers=("relu1", "fire3", "fire4", "fire5"),
    add_layers=_add_layers,
    recognise=lambda weights: "features.3.squeeze.weight" in weights,
)
