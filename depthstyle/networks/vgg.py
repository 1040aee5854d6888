"""VGG16 and VGG19 of Simonyan and Zisserman, in torchvision's and in Caffe's form.

Every convolution is 3x3 with zero padding 1 and a bias and is followed by a ReLU; between blocks
the map is halved, odd rows and columns dropped. The feature ``features.N`` of a convolution is its
output before the ReLU; code for PyTorch that reads it from a list of outputs gets the ReLU's,
because that works in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from depthstyle.networks.feature_network import FeatureNetwork
from depthstyle.networks.network import Weights, add_conv

_WIDTHS = (64, 128, 256, 512, 512)
CAFFE_MEAN = tuple(value / 255 for value in (123.68, 116.779, 103.939))
_CAFFE_STD = (1 / 255,) * 3


def _walk(blocks: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield (layer, index in torchvision's ``features``, block) in order."""
    index = 0
    for block, convolutions in enumerate(blocks):
        for k in range(1, convolutions + 1):
            yield f"conv{block + 1}_{k}", index, block
            yield f"relu{block + 1}_{k}", index + 1, block
            index += 2
        yield f"pool{block + 1}", index, block
        index += 1


def _add_layers(
    graph: Any,
    image: Any,
    weights: Weights,
    last: str,
    pooling: str = "max",
    *,
    blocks: tuple[int, ...],
    widths: tuple[int | None, ...],
    caffe_keys: bool,
) -> dict[str, Any]:
    x = image
    maps = {}
    for layer, index, block in _walk(blocks):
        if layer.startswith("conv"):
            key = layer if caffe_keys else f"features.{index}"
            x = add_conv(graph, x, weights, key, widths[block], 3, pad=1)
        elif layer.startswith("relu"):
            x = graph.activation(x, kind="relu")
        elif pooling == "max":
            x = graph.max_pool(x, kernel=2, stride=2)
        else:
            x = graph.avg_pool(x, kernel=2, stride=2)
        maps[layer] = x
        if layer == last:
            break
    return maps


def _vgg(
    name: str,
    blocks: tuple[int, ...],
    content_layer: str,
    style_layers: tuple[str, ...],
    recognise: Callable[[Weights], bool],
    *,
    widths: tuple[int | None, ...] = _WIDTHS,
    last: str = "pool5",
    caffe: bool = False,
) -> FeatureNetwork:
    steps = list(_walk(blocks))
    steps = steps[: [layer for layer, _, _ in steps].index(last) + 1]
    pixels = {layer: 2 ** (block + layer.startswith("pool")) for layer, _, block in steps}
    add_layers = partial(_add_layers, blocks=blocks, widths=widths, caffe_keys=caffe)
    return FeatureNetwork(
        name=name,
        layers=tuple(layer for layer, _, _ in steps),
        aliases={f"features.{index}": layer for layer, index, _ in steps},
        minimum_sizes=pixels,
        content_layer=content_layer,
        style_layers=style_layers,
        add_layers=add_layers,
        recognise=recognise,
        **({"mean": CAFFE_MEAN, "std": _CAFFE_STD, "bgr": True} if caffe else {}),
    )


def _is_wide(weights: Weights) -> bool:
    return "features.2.weight" in weights and weights["features.0.weight"].shape[0] == 64


_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

VGG16 = _vgg(
    "vgg16",
    (2, 2, 3, 3, 3),
    "relu4_2",
    _STYLE_LAYERS,
    lambda weights: _is_wide(weights) and "features.16.weight" not in weights,
)
VGG19 = _vgg(
    "vgg19",
    (2, 2, 4, 4, 4),
    "relu4_2",
    _STYLE_LAYERS,
    lambda weights: _is_wide(weights) and "features.16.weight" in weights,
)
VGG19_CAFFE = _vgg(
    "vgg19-caffe",
    (2, 2, 4, 4, 4),
    "relu4_2",
    _STYLE_LAYERS,
    lambda weights: "conv1_1.weight" in weights,
    caffe=True,
)

ENCODER = _vgg(
    "encoder",
    (2, 2, 4, 4),
    "relu3_4",
    _STYLE_LAYERS[:4],
    lambda weights: "features.2.weight" in weights and not _is_wide(weights),
    widths=(None,) * 4,
    last="relu4_1",
)
"""VGG19 up to relu4_1 with as many channels as its weights say: the embedded network."""
