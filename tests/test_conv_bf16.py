"""Convolutions in fp32 vectors on bf16 maps: the bits of fp32 maps of rounded values, rounded."""

import numpy as np
import pytest
from levels import FP32_LEVELS
from op_cases import is_half, narrow, narrow_image
from test_conv_kernels import KERNELS

from depthstyle import _core

# Rows with a tail, and rows longer than the pieces in which what is bf16 is converted.
SIZES = [(13, 23), (5, 150)]
CHANNELS, WIDTH = 40, 72


def rounded(array: np.ndarray) -> np.ndarray:
    """Return what bf16 precision makes of a convolution's operand."""
    return narrow(array) if is_half(array.shape, "map") else narrow_image(array)


def stored(array: np.ndarray) -> np.ndarray:
    """Return what bf16 precision stores."""
    return narrow(array) if is_half(array.shape, "map") else array


class Program:
    """A graph on random values, as they are or rounded as bf16 precision does."""

    def __init__(self, values_rounded: bool):
        self.graph, self.feed, self.rounded = _core.Graph(), {}, values_rounded
        self.updates = []
        self.rng = np.random.default_rng(9)

    def array(self, shape) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def map(self, name: str, shape):
        """Return an input."""
        values = self.array(shape)
        self.feed[name] = rounded(values) if self.rounded else values
        return self.graph.input(name, shape)

    def weight(self, *shape: int):
        values = self.array(shape) / np.float32(np.sqrt(np.prod(shape[1:])))
        return self.graph.constant(narrow(values) if self.rounded else values)

    def bias(self, channels: int):
        return self.graph.constant(self.array((1, channels, 1, 1)))

    def kept_map(self, name: str, shape, operand: bool = False):
        """Return a map that stays fp32 because of an update, which changes nothing."""
        values = self.array(shape)
        x = self.graph.variable(name, narrow(values) if operand and self.rounded else values)
        edge = np.full((1, shape[1], 1, 1), 100, np.float32)
        low, high = self.graph.constant(-edge), self.graph.constant(edge)
        self.updates.append(self.graph.clamp_update(x, low, high))
        return x

    def run(self, outputs, **options) -> list[np.ndarray]:
        plan = self.graph.compile([*outputs, *self.updates], poison=True, **options)
        return plan.run(self.feed)[: len(outputs)]


def compare(make, precision: str = "bf16") -> None:
    """Compare `make(program)` with the same on floats, on all levels, with 1 and 3 threads."""
    for level in FP32_LEVELS:
        exact = Program(values_rounded=True)
        expected = [stored(x) for x in exact.run(make(exact), cpu_level=level)]
        for threads in (1, 3):
            program = Program(values_rounded=False)
            outputs = make(program)
            options = {"cpu_level": level, "threads": threads, "precision": precision}
            found = program.run(outputs, **options)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=level)


@pytest.mark.parametrize("kind", ["relu", "relu6"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_same_bits_as_floats(kernel, size, kind):
    channels, out, taps, attrs = KERNELS[kernel]

    def make(p: Program):
        w = p.weight(out, channels // attrs.get("groups", 1), taps, taps)
        x = p.map("x", (2, channels, *size))
        y = p.graph.conv2d(x, w, p.bias(out), **attrs)
        dx = p.graph.conv2d_backward_input(p.map("dy", y.shape), w, h=size[0], w=size[1], **attrs)
        y = p.graph.activation(p.graph.add(y, p.map("a", y.shape)), kind=kind)
        if channels > 3:
            dx = p.graph.add(dx, p.map("b", x.shape))
            dx = p.graph.activation_backward(dx, p.map("gate", x.shape), kind=kind)
        return [y, dx]

    compare(make)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("out", [1, 3, 24])
def test_behind_a_border_and_an_enlargement(out, kernel):
    def make(p: Program):
        x = p.graph.resize(p.map("x", (2, CHANNELS, 7, 9)), h=14, w=18, mode="nearest")
        x = p.graph.pad(x, top=2, bottom=1, left=3, right=0, mode="reflect")
        return [p.graph.conv2d(x, p.weight(out, CHANNELS, kernel, kernel), p.bias(out))]

    compare(make)


ATTRIBUTES = [
    {"pad": 1},
    {"pad": 1, "stride": 2},
    {"pad": 2, "dilation": 2},
    {"pad": 1, "groups": CHANNELS},
]


def weight_of(p: Program, attrs: dict):
    """Return weights of a convolution of CHANNELS channels."""
    groups = attrs.get("groups", 1)
    return p.weight(WIDTH if groups == 1 else groups, CHANNELS // groups, 3, 3)


@pytest.mark.parametrize("attrs", ATTRIBUTES, ids=str)
def test_fp32_maps_beside_bf16_maps(attrs):
    """Those that an update changes."""

    def make(p: Program):
        x, w = p.map("x", (2, CHANNELS, 9, 11)), weight_of(p, attrs)
        y = p.graph.conv2d(x, w, **attrs)
        added = p.graph.add(y, p.kept_map("a", y.shape))
        dx = p.graph.conv2d_backward_input(p.map("dy", y.shape), w, h=9, w=11, **attrs)
        dx = p.graph.add(dx, p.kept_map("b", x.shape))
        dx = p.graph.activation_backward(dx, p.map("gate", x.shape), kind="relu")
        kept = p.kept_map("kept", x.shape, operand=True)
        return [p.graph.activation(added), dx, p.graph.conv2d(kept, w, **attrs)]

    compare(make)


@pytest.mark.parametrize("attrs", ATTRIBUTES, ids=str)
def test_gradients_with_gates_of_fp32(attrs):
    """In mixed precision, where what the pass forward made is fp32."""

    def make(p: Program):
        x = p.map("x", (2, CHANNELS, 9, 11))
        h = p.graph.activation(x)
        y = p.graph.conv2d(h, weight_of(p, attrs), **attrs)
        loss = p.graph.sum_to(p.graph.multiply(y, p.map("seed", y.shape)))
        more = p.graph.sum_to(p.graph.multiply(h, p.map("other", h.shape)))
        return p.graph.gradient(p.graph.add(loss, more), [x])

    compare(make, "mixed")


@pytest.mark.parametrize("level", FP32_LEVELS)
def test_weights_are_rounded_to_nearest_even(level):
    """Each pixel of the picture is one of them."""
    values = np.random.default_rng(1).standard_normal(299) * 10.0 ** np.linspace(-37, 37, 299)
    ties = [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-23, 1 + 3 * 2.0**-8 - 2.0**-23]
    values = np.array([*ties, *values], np.float32)
    graph = _core.Graph()
    x = graph.input("x", (1, values.size, 1, values.size))
    y = graph.conv2d(x, graph.constant(values.reshape(1, -1, 1, 1)))
    plan = graph.compile([y], precision="bf16", cpu_level=level)
    (found,) = plan.run({"x": np.eye(values.size, dtype=np.float32)[None, :, None]})
    np.testing.assert_array_equal(found.ravel(), narrow(values))


def encoder_gradient(size: int):
    """Return the gradient of a style loss, and the bytes of the maps in fp32 that it needs."""
    p = Program(values_rounded=False)
    image = x = p.map("image", (1, 3, size, size))
    needed, loss = 0, None
    for channels, previous in ((64, 3), (64, 64), (128, 64), (128, 128)):
        x = p.graph.conv2d(x, p.weight(channels, previous, 3, 3), p.bias(channels), pad=1)
        x = p.graph.activation(x)
        needed += 4 * int(np.prod(x.shape))
        gram = p.graph.gram(x, scale=1 / np.prod(x.shape[2:]))
        target = p.graph.constant(np.zeros(gram.shape, np.float32))
        term = p.graph.feature_loss(gram, target)
        loss = term if loss is None else p.graph.add(loss, term)
        x = p.graph.max_pool(x) if channels == previous else x
    return p.graph, p.graph.gradient(loss, [image]), needed


@pytest.mark.parametrize("level", FP32_LEVELS)
def test_maps_are_nowhere_copied_as_floats(level):
    """All maps of the pass forward are there at once, and half as large."""
    graph, outputs, needed = encoder_gradient(256)
    options = {"cpu_level": level, "threads": 2, "dry": True}
    fp32, bf16 = (graph.compile(outputs, precision=p, **options).bytes for p in ("fp32", "bf16"))
    assert bf16 < fp32 - needed / 2
