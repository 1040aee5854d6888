"""The transformation network of Johnson et al. (2016) in the three forms that were published.

All have a 9x9 convolution, two that halve the map, residual blocks of two 3x3 convolutions at a
quarter of the size, two layers that double it again, and a 9x9 convolution; a norm follows every
convolution, and a ReLU every norm outside the residual sums. They differ in how a map is padded
and doubled, in the norm, and in what a picture is:

========  ======================  =============================  ===========================
form      pytorch-examples        original                       lengstrom
========  ======================  =============================  ===========================
file      ``.pth``, ncnn          ``.t7`` of fast-neural-style   deeplearn.js folder
          ``.bin``
border    reflection              reflection of 40 pixels at     zeros where TensorFlow's
                                  first, then zeros; residual    ``SAME`` puts them
                                  blocks without
doubling  nearest pixel, then     transposed convolution; or     transposed convolution
          convolution             nearest pixel, norm, then
                                  convolution
norm      instance, eps 1e-5      instance or batch, eps 1e-5    instance, eps 1e-3; also
                                                                 after the last convolution
end       none                    150 tanh                       150 tanh + 127.5
picture   RGB, 0 to 255           BGR, 0 to 255, minus Caffe's   RGB, 0 to 255
                                  mean
========  ======================  =============================  ===========================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import WeightsError
from depthstyle.networks.network import ConvNorm, Network, Weights, fold_batch_norms, take
from depthstyle.networks.vgg import CAFFE_MEAN

TANH = 150
"""What the forms that end with a tanh multiply it by."""

_BATCH_EPSILON = 1e-5


@dataclass(frozen=True)
class Layer:
    """A convolution with what comes before and after it.

    Attributes
    ----------
    conv : str or None
        What the keys of the convolution begin with; None where there is only a norm.
    norm : str or None
        What the keys of the instance norm begin with.
    kernel, stride : int
    border : {"reflect", "zero", "same", "none"}
        What surrounds the map, half a kernel wide; "same" is TensorFlow's.
    doubling : {None, "nearest", "torch", "tensorflow"}
        The map becomes twice as large, by the nearest pixel before the convolution, or by the
        convolution, which is then a transposed one in the alignment of Torch or TensorFlow.
    relu : bool
        A ReLU ends it.
    residual : bool
        What came into the layer before is added at the end, without its outermost pixels where
        the two convolutions have no border.
    """

    conv: str | None
    norm: str | None
    kernel: int = 3
    stride: int = 1
    border: str = "reflect"
    doubling: str | None = None
    relu: bool = True
    residual: bool = False


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of the published forms.

    Attributes
    ----------
    name : str
    layers : tuple of Layer
    epsilon : float
        Of the instance norms.
    margin : int
        Reflected pixels around the picture.
    multiple : int
        Pictures whose sides are multiples of it come out unshifted.
    smallest : int
        Least height and width of a picture.
    shift : float or None
        150 tanh plus this ends it; None where nothing does.
    mean : tuple of three float
        What is taken from a picture of RGB in [0, 1].
    bgr : bool
        The channels are blue, green, red.
    """

    name: str
    layers: tuple[Layer, ...]
    epsilon: float = 1e-5
    margin: int = 0
    multiple: int = 1
    smallest: int
    shift: float | None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    bgr: bool = False

    def to_input(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn a picture (H, W, 3) of RGB in [0, 1] into the network's input (1, 3, H, W)."""
        planes = ((image - np.array(self.mean, np.float32)) * np.float32(255)).transpose(2, 0, 1)[
            None
        ]
        return np.ascontiguousarray(planes[:, ::-1] if self.bgr else planes)

    def to_image(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn the network's output (1, 3, H, W) into a picture (H, W, 3), clipped to [0, 1]."""
        rgb = planes[0, ::-1] if self.bgr else planes[0]
        image = rgb.transpose(1, 2, 0) / np.float32(255) + np.array(self.mean, np.float32)
        return np.clip(image, 0, 1, out=np.empty(image.shape, np.float32))


class JohnsonWeights(dict[str, NDArray[Any]]):
    """Arrays under the keys of one form, convolutions as (O, I, k, k), and that form.

    A bias before an instance norm, which takes it away again, is left out.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], form: Form) -> None:
        super().__init__(arrays)
        self.form = form


def prepare(weights: Weights) -> JohnsonWeights:
    """Return the arrays of a published file in one arrangement, with the form that they are of.

    Raises
    ------
    WeightsError
        They are of no known form.
    """
    if isinstance(weights, JohnsonWeights):
        return weights
    if _is_lengstrom(weights):
        return _from_lengstrom(weights)
    if _is_original(weights):
        return _from_original(weights)
    return JohnsonWeights(weights, PYTORCH_EXAMPLES)


def add_convolution(graph: Any, x: Any, weights: Weights, layer: Layer) -> Any:
    """Add a layer up to its norm.

    Raises
    ------
    WeightsError
        A key is missing or has another shape.
    """
    _, channels, height, width = x.shape
    if layer.doubling == "nearest":
        x = graph.resize(x, h=2 * height, w=2 * width)
    if layer.conv is None:
        return x
    weight = take(weights, f"{layer.conv}.weight", (None, channels, layer.kernel, layer.kernel))
    bias = []
    if layer.norm is None:
        bias = [_add_vector(graph, weights, f"{layer.conv}.bias", len(weight))]
    if layer.doubling in ("torch", "tensorflow"):
        x = _add_transposed(graph, x, weight, layer)
        return graph.add(x, *bias) if bias else x
    x, pad = _add_border(graph, x, layer)
    mode = "reflect" if layer.border == "reflect" else "zero"
    kernel = graph.constant(_compact(weight))
    return graph.conv2d(x, kernel, *bias, stride=layer.stride, pad=pad, pad_mode=mode)


def _add_layers(graph: Any, x: Any, weights: JohnsonWeights, last: str) -> dict[str, Any]:
    form = weights.form
    if form.margin:
        sides = dict.fromkeys(("top", "bottom", "left", "right"), form.margin)
        x = graph.pad(x, **sides, mode="reflect")
    before = x
    for layer in form.layers:
        block, before = before, x
        x = add_convolution(graph, x, weights, layer)
        if layer.norm is not None:
            affine = add_affine(graph, weights, layer, x.shape[1])
            x = graph.instance_norm(x, *affine, epsilon=form.epsilon)
        if layer.residual:
            x = graph.add(x, _add_middle(graph, block, x.shape))
        if layer.relu:
            x = graph.activation(x, kind="relu")
    if form.shift is not None:
        x = graph.affine(graph.activation(x, kind="tanh"), scale=TANH, shift=form.shift)
    return {last: x}


def add_affine(graph: Any, weights: Weights, layer: Layer, channels: int) -> list[Any]:
    """Add gamma and beta of a layer's norm."""
    keys = (f"{layer.norm}.{part}" for part in ("weight", "bias"))
    return [_add_vector(graph, weights, key, channels) for key in keys]


def _add_middle(graph: Any, x: Any, shape: tuple[int, ...]) -> Any:
    """Add the part of a map that convolutions without a border leave of it."""
    for axis in (2, 3):
        eaten = (x.shape[axis] - shape[axis]) // 2
        if eaten:
            x = graph.slice(x, axis=axis, begin=eaten, end=x.shape[axis] - eaten)
    return x


def _add_transposed(graph: Any, x: Any, weight: NDArray[Any], layer: Layer) -> Any:
    """Add the transposed 3x3 convolution of stride 2; the op has (I, O, k, k).

    Its whole result is one pixel larger than twice the map: Torch drops the first row and column,
    TensorFlow the last.
    """
    _, _, height, width = x.shape
    kernel = graph.constant(_compact(weight.transpose(1, 0, 2, 3)))
    if layer.doubling == "torch":
        return graph.conv2d_backward_input(x, kernel, stride=2, pad=1, h=2 * height, w=2 * width)
    x = graph.conv2d_backward_input(x, kernel, stride=2, h=2 * height + 1, w=2 * width + 1)
    x = graph.slice(x, axis=2, begin=0, end=2 * height)
    return graph.slice(x, axis=3, begin=0, end=2 * width)


def _add_border(graph: Any, x: Any, layer: Layer) -> tuple[Any, int]:
    """Return the map and the border that the convolution itself is to add."""
    if layer.border == "none":
        return x, 0
    if layer.border != "same":
        return x, layer.kernel // 2
    (top, bottom), (left, right) = (_same_border(n, layer) for n in x.shape[2:])
    if top == bottom == left == right:
        return x, top
    return graph.pad(x, top=top, bottom=bottom, left=left, right=right), 0


def _same_border(size: int, layer: Layer) -> tuple[int, int]:
    """Return TensorFlow's border before and behind `size` pixels: ceil(size / stride) come out."""
    outputs = -(-size // layer.stride)
    total = max((outputs - 1) * layer.stride + layer.kernel - size, 0)
    return total // 2, total - total // 2


def _add_vector(graph: Any, weights: Weights, key: str, channels: int) -> Any:
    return graph.constant(_compact(take(weights, key, (channels,)).reshape(1, -1, 1, 1)))


def _compact(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32)


def _block(
    first: tuple[str, str | None], second: tuple[str, str | None], border: str
) -> list[Layer]:
    """Return a residual block of two convolutions, each with what its keys begin with."""
    return [Layer(*first, border=border), Layer(*second, border=border, relu=False, residual=True)]


def _pytorch_examples() -> Form:
    layers = [
        Layer("conv1.conv2d", "in1", kernel=9),
        Layer("conv2.conv2d", "in2", stride=2),
        Layer("conv3.conv2d", "in3", stride=2),
    ]
    for i in range(1, 6):
        first, second = ((f"res{i}.conv{k}.conv2d", f"res{i}.in{k}") for k in (1, 2))
        layers += _block(first, second, "reflect")
    layers += [
        Layer("deconv1.conv2d", "in4", doubling="nearest"),
        Layer("deconv2.conv2d", "in5", doubling="nearest"),
        Layer("deconv3.conv2d", None, kernel=9, relu=False),
    ]
    return Form(name="pytorch-examples", layers=tuple(layers), smallest=5, shift=None)


PYTORCH_EXAMPLES = _pytorch_examples()


def _is_pytorch_examples(weights: Weights) -> bool:
    return "res1.conv1.conv2d.weight" in weights and "deconv3.conv2d.weight" in weights


def _lengstrom() -> Form:
    def keys(index: int) -> tuple[str, str]:
        return _variable(index), f"{_variable(index)} norm"

    layers = [
        Layer(*keys(0), kernel=9, border="same"),
        Layer(*keys(3), stride=2, border="same"),
        Layer(*keys(6), stride=2, border="same"),
    ]
    for index in range(9, 39, 6):
        layers += _block(keys(index), keys(index + 3), "same")
    layers += [Layer(*keys(index), doubling="tensorflow") for index in (39, 42)]
    layers.append(Layer(*keys(45), kernel=9, border="same", relu=False))
    # A convolution of stride 2 on an odd side looks one pixel further up than on an even one.
    return Form(
        name="lengstrom", layers=tuple(layers), epsilon=1e-3, multiple=4, smallest=1, shift=127.5
    )


def _variable(index: int) -> str:
    return f"Variable_{index}" if index else "Variable"


LENGSTROM = _lengstrom()


def _is_lengstrom(weights: Weights) -> bool:
    return all(_variable(index) in weights for index in range(48))


def _from_lengstrom(weights: Weights) -> JohnsonWeights:
    """Each layer has three variables: the weight, the shift and the scale of its norm."""
    arrays = {}
    for number, layer in enumerate(LENGSTROM.layers):
        kernel, shift, scale = (_variable(3 * number + part) for part in range(3))
        weight = take(weights, kernel, (layer.kernel, layer.kernel, None, None))
        transposed = layer.doubling is not None
        arrays[f"{layer.conv}.weight"] = weight.transpose(
            (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
        )
        arrays[f"{layer.norm}.weight"], arrays[f"{layer.norm}.bias"] = (
            weights[scale],
            weights[shift],
        )
    return JohnsonWeights(arrays, LENGSTROM)


_MODULE = re.compile(r"((?:.*?\.)??)((?:modules\.\d+\.)+)weight")


@dataclass
class _Module:
    """A convolution or norm in a file of Torch: what its keys begin with, and its place."""

    key: str
    place: tuple[int, ...]
    shape: tuple[int, ...]


def _modules(weights: Weights) -> list[_Module]:
    """Return the convolutions and norms in the order in which they run."""
    found = []
    for key in weights:
        match = _MODULE.fullmatch(key)
        if match is not None:
            place = tuple(int(number) for number in re.findall(r"\d+", match[2]))
            found.append(_Module(key.removesuffix(".weight"), place, weights[key].shape))
    return sorted(found, key=lambda module: module.place)


def _is_original(weights: Weights) -> bool:
    """Tell it by a 9x9 convolution at each end and convolutions deep inside a residual block."""
    convs = [module for module in _modules(weights) if len(module.shape) == 4]
    ends = [module.shape[2:] for module in convs[:: max(1, len(convs) - 1)]]
    return ends == [(9, 9), (9, 9)] and any(len(module.place) == 4 for module in convs)


def _from_original(weights: Weights) -> JohnsonWeights:
    """Read the layers off the places of the modules, which who trained them chose."""
    layers = _original_layers(_pairs(_modules(weights)))
    arrays, folded = dict(weights), []
    for i, layer in enumerate(layers):
        if layer.doubling == "torch":
            key = f"{layer.conv}.weight"
            arrays[key] = arrays[key].transpose(1, 0, 2, 3)
        if layer.norm is not None and _has_statistics(arrays, layer.norm):
            if layer.conv is None:
                raise WeightsError(f"{layer.norm}: a batch norm without a convolution before it")
            folded.append(ConvNorm(layer.conv, layer.norm))
            layers[i] = replace(layer, norm=None)
    # each 3x3 convolution without a border eats a pixel of the quartered map on every side
    margin = 4 * sum(layer.border == "none" for layer in layers)
    form = Form(
        name="original",
        layers=tuple(layers),
        margin=margin,
        smallest=margin + 1,
        shift=0.0,
        mean=CAFFE_MEAN,
        bgr=True,
    )
    return JohnsonWeights(fold_batch_norms(arrays, folded, _BATCH_EPSILON), form)


def _original_layers(pairs: list[tuple[_Module | None, _Module | None]]) -> list[Layer]:
    inside = [i for i, (conv, _) in enumerate(pairs) if conv is not None and len(conv.place) == 4]
    nearest = any(conv is None for conv, _ in pairs)
    layers = []
    for i, (conv, norm) in enumerate(pairs):
        layer = Layer(None, None if norm is None else norm.key, border="zero")
        if conv is None:
            layer = replace(layer, doubling="nearest")
        elif norm is None and i < len(pairs) - 1:
            raise WeightsError(f"{conv.key}: the norm after this convolution is missing")
        else:
            layer = replace(layer, conv=conv.key, kernel=conv.shape[2])
        if i in inside:
            last = (i - inside[0]) % 2 == 1
            layer = replace(layer, border="none", relu=not last, residual=last)
        elif i < inside[0]:
            layer = replace(layer, stride=2 if i else 1)
        elif i == len(pairs) - 1:
            layer = replace(layer, relu=False)
        elif not nearest:
            layer = replace(layer, doubling="torch")
        layers.append(layer)
    return layers


def _pairs(modules: list[_Module]) -> list[tuple[_Module | None, _Module | None]]:
    """Return each convolution with its norm; a norm behind no convolution stands alone."""
    pairs: list[tuple[_Module | None, _Module | None]] = []
    for module in modules:
        conv, norm = pairs[-1] if pairs else (None, None)
        if len(module.shape) == 4:
            pairs.append((module, None))
        elif conv is not None and norm is None and conv.place[:-1] == module.place[:-1]:
            pairs[-1] = conv, module
        else:
            pairs.append((None, module))
    return pairs


def _has_statistics(arrays: dict[str, NDArray[Any]], norm: str) -> bool:
    """Tell whether a norm is a batch norm; old files have 1 / sqrt(variance + epsilon)."""
    if f"{norm}.running_std" in arrays:
        inverse = arrays.pop(f"{norm}.running_std").astype(np.float64)
        arrays[f"{norm}.running_var"] = (inverse**-2 - _BATCH_EPSILON).astype(np.float32)
    return f"{norm}.running_var" in arrays


def _smallest(weights: Weights) -> int:
    return prepare(weights).form.smallest


JOHNSON = Network(
    name="johnson",
    layers=("output",),
    add_layers=_add_layers,
    recognise=lambda weights: any(
        known(weights) for known in (_is_pytorch_examples, _is_lengstrom, _is_original)
    ),
    prepare=prepare,
    smallest=_smallest,
)
"""Takes and returns pictures as the published module of the weights' form does."""
