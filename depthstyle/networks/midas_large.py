"""MiDaS v2.1 large (and v2) of Ranftl et al.: ResNeXt101-32x8d under the decoder of MiDaS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from depthstyle.networks.midas_decoder import (
    LAYERS,
    MULTIPLE,
    TAPS,
    add_decoder,
    midas_depth_network,
)
from depthstyle.networks.network import (
    ConvNorm,
    Name,
    Network,
    Weights,
    add_conv,
    fold_batch_norms,
)

_GROUPS = 32
_STEM = "pretrained.layer1.0"
_STAGES = {
    "pretrained.layer1.4": 3,
    "pretrained.layer2": 4,
    "pretrained.layer3": 23,
    "pretrained.layer4": 3,
}
"""Blocks of each stage."""


def _norms() -> Iterator[ConvNorm]:
    yield ConvNorm(_STEM, "pretrained.layer1.1")
    for stage, blocks in _STAGES.items():
        yield ConvNorm(f"{stage}.0.downsample.0", f"{stage}.0.downsample.1")
        for block in range(blocks):
            for number in (1, 2, 3):
                key = f"{stage}.{block}"
                yield ConvNorm(f"{key}.conv{number}", f"{key}.bn{number}")


def _add_block(graph: Any, x: Any, weights: Weights, key: str, stride: int) -> Any:
    y = graph.activation(add_conv(graph, x, weights, f"{key}.conv1", None, 1), kind="relu")
    y = add_conv(graph, y, weights, f"{key}.conv2", None, 3, stride=stride, pad=1, groups=_GROUPS)
    y = add_conv(graph, graph.activation(y, kind="relu"), weights, f"{key}.conv3", None, 1)
    if f"{key}.downsample.0.weight" in weights:
        x = add_conv(graph, x, weights, f"{key}.downsample.0", None, 1, stride=stride)
    return graph.activation(graph.add(y, x), kind="relu")


def _add_layers(graph: Any, x: Any, weights: Weights, last: Name) -> dict[Name, Any]:
    x = add_conv(graph, x, weights, _STEM, None, 7, stride=2, pad=3)
    x = graph.max_pool(graph.activation(x, kind="relu"), kernel=3, stride=2, pad=1)
    taps = []
    for stage, blocks in _STAGES.items():
        for block in range(blocks):
            stride = 2 if taps and block == 0 else 1
            x = _add_block(graph, x, weights, f"{stage}.{block}", stride)
        taps.append(x)
    if last in TAPS:
        return dict(zip(TAPS, taps, strict=True))
    return add_decoder(graph, taps, weights, in_place=True)


MIDAS_LARGE = Network(
    name="midas-large",
    layers=LAYERS,
    add_layers=_add_layers,
    recognise=lambda weights: "pretrained.layer1.4.0.conv1.weight" in weights,
    prepare=lambda weights: fold_batch_norms(weights, _norms()),
    multiple=MULTIPLE,
    smallest=MULTIPLE,
    planar=True,
)

MIDAS_LARGE_DEPTH = midas_depth_network(MIDAS_LARGE, 384)
