"""MiDaS v2.1 small of Ranftl et al.: an EfficientNet-Lite3 encoder under the decoder of MiDaS.

The encoder comes from TensorFlow: strided convolutions pad the far border more than the near one
("SAME"), the epsilon of the batch norms is 1e-3, and its nonlinearity is ReLU6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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
    add_same_conv,
    fold_batch_norms,
)

_EPSILON = 1e-3
_STEM, _SEPARABLE = "pretrained.layer1.0", "pretrained.layer1.3.0"


class _Stage(NamedTuple):
    key: str
    kernel: int
    stride: int
    repeats: int
    tap: bool
    """The decoder uses its result."""


_STAGES = (
    _Stage("pretrained.layer1.4", 3, 2, 3, True),
    _Stage("pretrained.layer2.0", 5, 2, 3, True),
    _Stage("pretrained.layer3.0", 3, 2, 5, False),
    _Stage("pretrained.layer3.1", 5, 1, 5, True),
    _Stage("pretrained.layer4.0", 5, 2, 6, False),
    _Stage("pretrained.layer4.1", 3, 1, 1, True),
)


def _norms() -> Iterator[ConvNorm]:
    yield ConvNorm(_STEM, "pretrained.layer1.1")
    yield ConvNorm(f"{_SEPARABLE}.conv_dw", f"{_SEPARABLE}.bn1")
    yield ConvNorm(f"{_SEPARABLE}.conv_pw", f"{_SEPARABLE}.bn2")
    for stage in _STAGES:
        for block in range(stage.repeats):
            key = f"{stage.key}.{block}"
            for number, conv in enumerate(("conv_pw", "conv_dw", "conv_pwl"), start=1):
                yield ConvNorm(f"{key}.{conv}", f"{key}.bn{number}")


def _add_inverted(graph: Any, x: Any, weights: Weights, key: str, kernel: int, stride: int) -> Any:
    y = graph.activation(add_conv(graph, x, weights, f"{key}.conv_pw", None, 1), kind="relu6")
    y = add_same_conv(graph, y, weights, f"{key}.conv_dw", kernel, stride, groups=y.shape[1])
    y = graph.activation(y, kind="relu6")
    y = add_conv(graph, y, weights, f"{key}.conv_pwl", None, 1)
    return graph.add(y, x) if y.shape == x.shape else y


def _add_layers(graph: Any, x: Any, weights: Weights, last: Name) -> dict[Name, Any]:
    x = graph.activation(add_same_conv(graph, x, weights, _STEM, 3, 2), kind="relu6")
    x = add_same_conv(graph, x, weights, f"{_SEPARABLE}.conv_dw", 3, 1, groups=x.shape[1])
    x = graph.activation(x, kind="relu6")
    x = add_conv(graph, x, weights, f"{_SEPARABLE}.conv_pw", None, 1)
    taps = []
    for stage in _STAGES:
        for block in range(stage.repeats):
            stride = stage.stride if block == 0 else 1
            x = _add_inverted(graph, x, weights, f"{stage.key}.{block}", stage.kernel, stride)
        if stage.tap:
            taps.append(x)
    if last in TAPS:
        return dict(zip(TAPS, taps, strict=True))
    return add_decoder(graph, taps, weights, in_place=False)


MIDAS_SMALL = Network(
    name="midas-small",
    layers=LAYERS,
    add_layers=_add_layers,
    recognise=lambda weights: "pretrained.layer1.4.0.conv_pw.weight" in weights,
    prepare=lambda weights: fold_batch_norms(weights, _norms(), _EPSILON),
    multiple=MULTIPLE,
    smallest=MULTIPLE,
    planar=True,
)

MIDAS_SMALL_DEPTH = midas_depth_network(MIDAS_SMALL, 256)
