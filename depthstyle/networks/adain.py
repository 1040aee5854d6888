"""The encoder and the decoder of AdaIN (Huang and Belongie 2017), as published for PyTorch.

The encoder is a VGG19 whose filters are scaled to a mean activation of one; its first layer turns
RGB in [0, 1] into the range of the Caffe model. Every 3x3 convolution pads by reflection and pools
round up, so the decoder, its mirror with nearest upsampling, returns a picture whose sides are the
next multiples of eight. Both have as many channels as their weights say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from depthstyle.networks.feature_network import IMAGENET_MEAN, IMAGENET_STD, FeatureNetwork
from depthstyle.networks.network import Network, Weights, add_conv, take
from depthstyle.networks.vgg import ENCODER as VGG

_BLOCKS = (2, 2, 4, 1)
_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
_LAST = "relu4_1"

_DECODER = (1, 5, 8, 11, 14, 18, 21, 25, 28)
"""Child of the published decoder of each convolution; all but the last have a ReLU."""
_UPSAMPLED = (1, 14, 21)
"""Those after whose ReLU the map is doubled."""
_DISTILLED = ("41", "34", "33", "32", "31", "22", "21", "12", "11")
"""Numbers of the decoder's convolutions in the distilled networks of Wang et al. (2020)."""


def _walk() -> Iterator[tuple[str, int]]:
    """Yield (layer, child of the published encoder) in order."""
    yield "conv0", 0
    child = 1
    for block, convolutions in enumerate(_BLOCKS, start=1):
        for k in range(1, convolutions + 1):
            yield f"conv{block}_{k}", child + 1
            yield f"relu{block}_{k}", child + 2
            child += 3
        if block < len(_BLOCKS):
            yield f"pool{block}", child
            child += 1


_ENCODER = dict(_walk())


def _minimum_size(layer: str) -> int:
    # the reflection of a convolution needs two pixels, and pools halve and round up
    block = 1 if layer == "conv0" else int(layer[4])
    return 1 if layer == "conv0" else 2 ** (block - 1) + 1


def _published_keys(weights: Weights, distilled: dict[str, int]) -> Weights:
    """Return the weights under the keys of the ``.pth`` files, whichever of three they have.

    Torch7 counts children from 1 and names them ``modules.N``; the distilled networks name
    convolutions by block and number, ``conv21``.
    """
    renamed = {}
    for key, array in weights.items():
        name, _, kind = key.rpartition(".")
        found = re.fullmatch(r"(modules\.|(?:model\.)?conv)(\d+)", name)
        if found is None:
            renamed[key] = array
        elif found[1] == "modules.":
            renamed[f"{int(found[2]) - 1}.{kind}"] = array
        elif found[2] in distilled:
            renamed[f"{distilled[found[2]]}.{kind}"] = array
    return renamed


def _prepare_encoder(weights: Weights) -> Weights:
    convolutions = (item for item in _ENCODER.items() if item[0].startswith("conv"))
    distilled = {layer[4:].replace("_", ""): child for layer, child in convolutions}
    return _published_keys(weights, distilled)


def _prepare_decoder(weights: Weights) -> Weights:
    return _published_keys(weights, dict(zip(_DISTILLED, _DECODER, strict=True)))


def from_vgg(weights: Weights) -> dict[str, Any]:
    """Return weights of VGG19 in torchvision's form under the keys of the encoder.

    Its first layer becomes torchvision's normalisation, (rgb - mean) / std.

    Parameters
    ----------
    weights : mapping of str to array
        What the network ``"encoder"`` takes.

    Returns
    -------
    dict of str to array

    Raises
    ------
    WeightsError
        A key is missing or has another shape.
    """
    mean, std = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
    arrays = {"0.weight": np.diag(1 / std).reshape(3, 3, 1, 1), "0.bias": -mean / std}
    for key, layer in VGG.aliases.items():
        if layer.startswith("conv"):
            for kind, dimensions in (("weight", 4), ("bias", 1)):
                array = take(weights, f"{key}.{kind}", (None,) * dimensions)
                arrays[f"{_ENCODER[layer]}.{kind}"] = array
    return arrays


def _has_shape(weights: Weights, key: str, kernel: int, outputs: int | None = None) -> bool:
    shape = weights[key].shape if key in weights else ()
    return len(shape) == 4 and shape[2:] == (kernel, kernel) and outputs in (None, shape[0])


def _add_encoder(
    graph: Any, image: Any, weights: Weights, last: str, pooling: str = "max"
) -> dict[str, Any]:
    x = image
    maps = {}
    for layer, child in _ENCODER.items():
        if layer == "conv0":
            x = add_conv(graph, x, weights, str(child), 3, 1)
        elif layer.startswith("conv"):
            x = add_conv(graph, x, weights, str(child), None, 3, pad=1, pad_mode="reflect")
        elif layer.startswith("relu"):
            x = graph.activation(x, kind="relu")
        elif pooling == "max":
            x = graph.max_pool(x, kernel=2, stride=2, ceil=True)
        else:
            x = graph.avg_pool(x, kernel=2, stride=2, ceil=True)
        maps[layer] = x
        if layer == last:
            break
    return maps


def _add_decoder(graph: Any, features: Any, weights: Weights, last: str) -> dict[str, Any]:
    x = features
    for child in _DECODER:
        outputs = 3 if child == _DECODER[-1] else None
        x = add_conv(graph, x, weights, str(child), outputs, 3, pad=1, pad_mode="reflect")
        if child != _DECODER[-1]:
            x = graph.activation(x, kind="relu")
        if child in _UPSAMPLED:
            x = graph.resize(x, h=2 * x.shape[2], w=2 * x.shape[3], mode="nearest")
    return {last: x}


ADAIN_ENCODER = FeatureNetwork(
    name="adain-encoder",
    layers=tuple(_ENCODER),
    aliases={str(child): layer for layer, child in _ENCODER.items()},
    minimum_sizes={layer: _minimum_size(layer) for layer in _ENCODER},
    content_layer=_LAST,
    style_layers=_STYLE_LAYERS,
    add_layers=_add_encoder,
    recognise=lambda weights: _has_shape(_prepare_encoder(weights), "0.weight", 1, 3),
    prepare=_prepare_encoder,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
"""``vgg_normalised`` up to relu4_1; it takes RGB in [0, 1]."""

ADAIN_DECODER = Network(
    name="adain-decoder",
    layers=("image",),
    add_layers=_add_decoder,
    recognise=lambda weights: _has_shape(_prepare_decoder(weights), "28.weight", 3, 3),
    prepare=_prepare_decoder,
    channels="1.weight",
    smallest=2,
)
"""Features of relu4_1 (N, C, h, w) to pictures (N, 3, 8 h, 8 w), RGB in [0, 1] but not clamped."""
