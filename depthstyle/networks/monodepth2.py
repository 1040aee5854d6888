"""monodepth2 of Godard et al.: a ResNet-18 encoder and a decoder with skip connections.

The module takes RGB in [0, 1] and returns ``{("disp", s): (N, 1, h, w)}`` for s = 0 (the size of
the input) to 3 (an eighth): a number in (0, 1) that grows with the nearness.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.network import (
    ConvNorm,
    Name,
    Network,
    Weights,
    add_conv,
    fold_batch_norms,
)

_STAGES = (1, 2, 3, 4)
_BLOCKS = (0, 1)
_MEAN, _STD = 0.45, 0.225
_FEATURES = tuple(f"features.{i}" for i in range(5))
_SCALES = (3, 2, 1, 0)
_DEFAULT_SIZE = (192, 640)


def _norms() -> Iterator[ConvNorm]:
    yield ConvNorm("encoder.conv1", "encoder.bn1")
    for stage in _STAGES:
        for block in _BLOCKS:
            key = f"encoder.layer{stage}.{block}"
            yield ConvNorm(f"{key}.conv1", f"{key}.bn1")
            yield ConvNorm(f"{key}.conv2", f"{key}.bn2")
        if stage > 1:
            key = f"encoder.layer{stage}.0.downsample"
            yield ConvNorm(f"{key}.0", f"{key}.1")


def _add_block(graph: Any, x: Any, weights: Weights, key: str, stride: int) -> Any:
    y = add_conv(graph, x, weights, f"{key}.conv1", None, 3, stride=stride, pad=1)
    y = graph.activation(y, kind="relu")
    y = add_conv(graph, y, weights, f"{key}.conv2", None, 3, pad=1)
    if stride > 1:
        x = add_conv(graph, x, weights, f"{key}.downsample.0", None, 1, stride=stride)
    return graph.activation(graph.add(y, x), kind="relu")


def _add_encoder(graph: Any, image: Any, weights: Weights) -> list[Any]:
    x = graph.affine(image, scale=1 / _STD, shift=-_MEAN / _STD)
    x = add_conv(graph, x, weights, "encoder.conv1", None, 7, stride=2, pad=3)
    maps = [graph.activation(x, kind="relu")]
    x = graph.max_pool(maps[0], kernel=3, stride=2, pad=1)
    for stage in _STAGES:
        for block in _BLOCKS:
            stride = 2 if stage > 1 and block == 0 else 1
            x = _add_block(graph, x, weights, f"encoder.layer{stage}.{block}", stride)
        maps.append(x)
    return maps


def _add_decoder(graph: Any, maps: list[Any], weights: Weights) -> dict[Name, Any]:
    def conv(x: Any, key: str, channels: int | None = None) -> Any:
        return add_conv(graph, x, weights, key, channels, 3, pad=1, pad_mode="reflect")

    found: dict[Name, Any] = {}
    x = maps[4]
    for level in (4, 3, 2, 1, 0):
        first = 2 * (4 - level)
        x = graph.activation(conv(x, f"decoder.{first}.conv.conv"), kind="elu", alpha=1)
        _, _, h, w = x.shape
        x = graph.resize(x, h=2 * h, w=2 * w, mode="nearest")
        if level > 0:
            x = graph.concat(x, maps[level - 1])
        x = graph.activation(conv(x, f"decoder.{first + 1}.conv.conv"), kind="elu", alpha=1)
        if level in _SCALES:
            disparity = conv(x, f"decoder.{10 + level}.conv", 1)
            found["disp", level] = graph.activation(disparity, kind="sigmoid")
    return found


def _add_layers(graph: Any, x: Any, weights: Weights, last: Name) -> dict[Name, Any]:
    maps = _add_encoder(graph, x, weights)
    found: dict[Name, Any] = dict(zip(_FEATURES, maps, strict=True))
    return found if last in found else found | _add_decoder(graph, maps, weights)


MONODEPTH2 = Network(
    name="monodepth2",
    layers=(*_FEATURES, *(("disp", scale) for scale in _SCALES)),
    returns=tuple(("disp", scale) for scale in _SCALES),
    add_layers=_add_layers,
    recognise=lambda weights: "encoder.conv1.weight" in weights,
    prepare=lambda weights: fold_batch_norms(weights, _norms()),
    multiple=32,
    smallest=64,  # the decoder mirrors the border of maps a 32nd of the input's size
    files=("encoder.pth", "depth.pth"),
)


def depth_network(weights: Weights) -> DepthNetwork:
    """Return the depth network whose picture size is the one that the encoder's file states."""
    size = tuple(
        int(weights.get(side, default))
        for side, default in zip(("height", "width"), _DEFAULT_SIZE, strict=True)
    )
    return DepthNetwork(
        network=MONODEPTH2,
        input_size=partial(_fixed, size),
        output=("disp", 0),
        features=_FEATURES,
        nearness=True,
        resize_in={"mode": "lanczos", "antialias": True},
        resize_out={"mode": "bilinear"},
    )


def _fixed(size: tuple[int, int], h: int, w: int) -> tuple[int, int]:
    return size
