"""The table of ops: what test_ops.py checks on every backend, one row a case.

How far a float32 kernel may be from float64
--------------------------------------------
Both get the same float32 inputs, so that all of the difference is rounding. A sum of n terms t,
in any order, is off by about sqrt(n) eps sum|t| (eps = 2^-24; the bound of n eps sum|t| is never
met by rounding errors of random sign), a few further roundings add a constant. So each element
must satisfy

    |float32 - float64| <= (4 sqrt(terms) + 8) eps A,    A = sum|t|

- An op that is linear in each input has A = the op itself of the inputs' absolute values:
  `absolute` lists the inputs to take them of (default: all).
- Where the formula is another, `scale(inputs, attrs)` gives A.
- `terms=0` asks for equality: ops that only move or choose values.
- Winograd convolution sums transformed values, which this bound does not describe: it is held to
  a relative L2 error of 3e-6, its error at the largest sums of the networks.

Gradients are compared with finite differences in float64, for the inputs in `wrt`. Ops with kinks
(ReLU, max pooling) get inputs of fill "apart": all values distinct, and far enough from each other
and from the kinks of the activations that a difference step crosses none.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from depthstyle import _core

EPS = 2.0**-24
WINOGRAD_ERROR = 3e-6

Shape = tuple[int, int, int, int]
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Operand:
    """An input: how it is declared and what random values it gets.

    fill: "normal", "far" (around 100), "integers" (-3..3), "positive" (0.5..1.5), "unit" (0..1),
    "apart" (see above).
    """

    shape: Shape
    kind: str = "map"
    fill: str = "normal"
    constant: bool = False  # known to the plan, as the weights of a frozen network


@dataclass(frozen=True)
class Case:
    """One row: an op with its inputs, attributes and tolerance rule."""

    op: str
    operands: tuple[Operand, ...]
    attrs: dict = field(default_factory=dict)
    terms: int = 1
    absolute: tuple[int, ...] | None = None
    scale: Callable[[Arrays, dict], np.ndarray] | None = None
    wrt: tuple[int, ...] | None = None  # None: every input

    @property
    def id(self) -> str:
        """Name of the case in pytest's report."""
        shapes = ["x".join(map(str, o.shape)) + o.kind[0] for o in self.operands]
        return "-".join([self.op, *shapes, *(f"{k}={v}" for k, v in self.attrs.items())])

    @property
    def differentiable(self) -> tuple[int, ...]:
        """The inputs whose gradient is checked."""
        return tuple(range(len(self.operands))) if self.wrt is None else self.wrt

    def inputs(self) -> Arrays:
        """Random values, the same in every run; float64 arrays of float32 numbers."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        return [fill(operand, rng) for operand in self.operands]

    def bound(self, inputs: Arrays, run: Callable[[Arrays], np.ndarray]) -> np.ndarray | float:
        """Return the largest error allowed at each element; `run` is the op in float64."""
        if self.terms == 0:
            return 0.0
        if self.scale:
            size = self.scale(inputs, self.attrs)
        else:
            chosen = range(len(inputs)) if self.absolute is None else self.absolute
            size = run([np.abs(x) if i in chosen else x for i, x in enumerate(inputs)])
        return (4 * np.sqrt(self.terms) + 8) * EPS * size


# bf16 -----------------------------------------------------------------------------------------

# A float is off by at most half a step of 2^-7 once it is bf16.
BF16_ERROR = 2.0**-8
IMAGE_CHANNELS = 4  # maps of up to so many stay in fp32


def narrow(array: np.ndarray) -> np.ndarray:
    """Round to bf16."""
    bits = array.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(array.dtype)


def narrow_image(array: np.ndarray) -> np.ndarray:
    """Round to the sum of two bf16."""
    high = narrow(array.astype(np.float32))
    return (high + narrow(array.astype(np.float32) - high)).astype(array.dtype)


def is_half(shape: tuple[int, ...], kind: str) -> bool:
    """Return whether a tensor is stored as bf16 in that precision."""
    return kind == "map" and shape[1] > IMAGE_CHANNELS


def half_inputs(case: Case, shape: tuple[int, ...], kind: str) -> Arrays:
    """Return a case's values as the op sees them in bf16, given the shape and kind of its result.

    A convolution rounds both of its operands where any of its maps is bf16, images to two of them.
    """
    half = [is_half(operand.shape, operand.kind) for operand in case.operands]
    rounded = [narrow(x) if h else x for x, h in zip(case.inputs(), half, strict=True)]
    if case.op.startswith("conv2d") and (any(half) or is_half(shape, kind)):
        for i in range(2):
            image = case.operands[i].kind == "map" and not half[i]
            rounded[i] = (narrow_image if image else narrow)(rounded[i])
    return rounded


def fill(operand: Operand, rng: np.random.Generator) -> np.ndarray:
    """Return values for an operand."""
    shape, count = operand.shape, int(np.prod(operand.shape))
    values = {
        "normal": lambda: rng.standard_normal(shape),
        "far": lambda: 100 + rng.standard_normal(shape),
        "integers": lambda: rng.integers(-3, 4, shape),
        "positive": lambda: rng.uniform(0.5, 1.5, shape),
        "unit": lambda: rng.uniform(0, 1, shape),
        "apart": lambda: (rng.permutation(count).reshape(shape) - count // 2 + 0.37) * (16 / count),
    }[operand.fill]()
    return np.asarray(values, np.float32).astype(np.float64)


def plain(*shape: int, fill: str = "normal", constant: bool = False) -> Operand:
    """Return an operand that is planar on every backend."""
    return Operand(shape, "plain", fill, constant)


def vector(channels: int, fill: str = "normal") -> Operand:
    """Return one value per channel."""
    return plain(1, channels, 1, 1, fill=fill)


# Convolution ------------------------------------------------------------------------------------


def conv(
    n: int,
    c: int,
    o: int,
    h: int,
    w: int,
    kernel: tuple[int, int] = (3, 3),
    fill: str = "normal",
    constant: bool = True,
    wrt: tuple[int, ...] | None = None,
    **attrs: int | str,
) -> list[Case]:
    """Return a convolution and its two backward ops on the same sizes."""
    kh, kw = kernel
    stride, pad = attrs.get("stride", 1), attrs.get("pad", 0)
    dilation, groups = attrs.get("dilation", 1), attrs.get("groups", 1)
    folds = 4 if attrs.get("pad_mode") == "reflect" else 1
    oh = (h + 2 * pad - dilation * (kh - 1) - 1) // stride + 1
    ow = (w + 2 * pad - dilation * (kw - 1) - 1) // stride + 1
    x, dy = Operand((n, c, h, w), fill=fill), Operand((n, o, oh, ow), fill=fill)
    weight = plain(o, c // groups, kh, kw, fill=fill, constant=constant)
    bias = plain(1, o, 1, 1, fill=fill, constant=constant)
    taps = kh * kw
    return [
        Case("conv2d", (x, weight, bias), attrs, terms=c // groups * taps + 1, wrt=wrt),
        Case(
            "conv2d_backward_input",
            (dy, weight),
            {**attrs, "h": h, "w": w},
            terms=o // groups * taps * folds,
            wrt=wrt,
        ),
        Case(
            "conv2d_backward_weight",
            (x, dy),
            {**attrs, "kh": kh, "kw": kw},
            terms=n * oh * ow,
            wrt=(),
        ),
    ]


CONVOLUTIONS = [
    # the networks' own: images in, feature maps, tails of channels and tiles
    *conv(1, 3, 64, 13, 17, pad=1),
    *conv(2, 3, 20, 8, 8, pad=1, pad_mode="reflect"),
    *conv(1, 64, 3, 9, 10, pad=1, pad_mode="reflect"),
    *conv(1, 16, 16, 12, 12, pad=1),
    *conv(2, 64, 64, 11, 23, pad=1),
    *conv(1, 40, 72, 29, 7, pad=1),
    *conv(1, 65, 33, 5, 6, pad=1),
    *conv(1, 32, 64, 16, 16),
    *conv(1, 32, 32, 10, 9, pad=1, pad_mode="reflect"),
    *conv(1, 16, 16, 4, 4, pad=1, constant=False),
    *conv(1, 16, 16, 1, 1, pad=1),
    # several blocks of tiles, of input and of output channels
    *conv(1, 80, 144, 53, 61, pad=1, wrt=()),
    *conv(1, 512, 80, 9, 14, pad=1, wrt=()),
    # strides, dilation, kernels of other sizes
    *conv(2, 3, 8, 15, 14, stride=2, pad=1),
    *conv(1, 3, 32, 21, 19, kernel=(9, 9), pad=4),
    *conv(1, 32, 48, 14, 15, stride=2, pad=1),
    *conv(1, 24, 16, 13, 12, pad=2, dilation=2),
    *conv(1, 6, 8, 12, 11, kernel=(5, 2), stride=3, pad=2, dilation=2, pad_mode="reflect"),
    *conv(1, 8, 16, 9, 9, kernel=(7, 7), stride=2, pad=3),
    *conv(1, 3, 4, 7, 1, kernel=(3, 1)),
    *conv(1, 3, 4, 5, 5, kernel=(1, 1), pad=2),
    # 1x1
    *conv(2, 48, 64, 7, 9, kernel=(1, 1)),
    *conv(1, 17, 5, 6, 6, kernel=(1, 1)),
    *conv(2, 3, 4, 67, 63, kernel=(1, 1)),
    *conv(1, 64, 16, 9, 8, kernel=(1, 1), stride=2),
    # groups and depth-wise
    *conv(1, 32, 64, 9, 9, pad=1, groups=2),
    *conv(1, 24, 24, 10, 9, pad=1, groups=24),
    *conv(2, 16, 32, 9, 10, kernel=(5, 5), stride=2, pad=2, groups=16),
    *conv(1, 6, 9, 8, 7, stride=2, pad=1, groups=3),
    *conv(1, 40, 40, 23, 21, kernel=(5, 5), stride=2, pad=2, groups=40),
    *conv(2, 33, 33, 9, 40, pad=1, pad_mode="reflect", groups=33, constant=False),
    *conv(1, 32, 32, 9, 13, pad=1, groups=4),
    *conv(1, 64, 64, 8, 27, stride=2, pad=1, groups=4),
    *conv(1, 128, 64, 7, 9, pad=1, groups=2, constant=False),
    *conv(1, 256, 256, 6, 12, stride=2, pad=1, groups=4, wrt=()),
    # items that are a set of output channels; rows of a 1x1 that are read where they lie
    *conv(2, 256, 128, 7, 13, stride=2, pad=1, wrt=()),
    *conv(1, 320, 832, 5, 6, kernel=(1, 1), wrt=()),
    *conv(1, 24, 72, 7, 27, kernel=(1, 1), stride=2, wrt=()),
]

# Every product and sum of these is a small integer: any order of summation gives the same float.
INTEGER_CONVOLUTIONS = [
    *conv(1, 3, 64, 13, 17, fill="integers", pad=1),
    *conv(2, 3, 20, 9, 8, fill="integers", pad=1, pad_mode="reflect"),
    *conv(2, 20, 40, 11, 14, fill="integers", stride=2, pad=1),
    *conv(1, 24, 16, 13, 12, fill="integers", pad=2, dilation=2),
    *conv(1, 33, 65, 6, 7, kernel=(1, 1), fill="integers"),
    *conv(1, 32, 48, 7, 9, kernel=(5, 5), fill="integers", pad=2),
    *conv(1, 32, 32, 9, 9, fill="integers", pad=1, groups=32),
    *conv(1, 32, 64, 9, 9, fill="integers", pad=1, groups=2),
    *conv(1, 32, 32, 13, 15, fill="integers", stride=2, pad=1, groups=4),
    *conv(1, 20, 20, 11, 18, kernel=(5, 5), fill="integers", stride=2, pad=2, groups=20),
    *conv(1, 256, 128, 5, 13, fill="integers", stride=2, pad=1, wrt=()),
    *conv(1, 24, 40, 5, 25, kernel=(1, 1), fill="integers", stride=2),
]

# Pooling ----------------------------------------------------------------------------------------


def windows(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int:
    """Return the number of windows along one side."""
    count = (size + 2 * pad - kernel + (stride - 1 if ceil else 0)) // stride + 1
    return count - ((count - 1) * stride >= size + pad)


def pools(
    n: int,
    c: int,
    h: int,
    w: int,
    kernel: int = 2,
    stride: int = 2,
    pad: int = 0,
    ceil: bool = False,
    kind: str = "map",
) -> list[Case]:
    """Return max pooling, average pooling (without border) and their backward ops."""
    attrs = {"kernel": kernel, "stride": stride, "ceil": ceil}
    apart = Operand((n, c, h, w), kind, fill="apart")
    overlaps = (-(-kernel // stride)) ** 2

    def pooled(border: int) -> Operand:
        sides = (windows(size, kernel, stride, border, ceil) for size in (h, w))
        return Operand((n, c, *sides), kind)

    border = {**attrs, "pad": pad}
    back = {**attrs, "h": h, "w": w}
    return [
        Case("max_pool", (apart,), border, terms=0),
        Case("max_pool_backward", (pooled(pad), apart), border, overlaps, (0,), wrt=()),
        Case("avg_pool", (Operand((n, c, h, w), kind),), attrs, terms=kernel**2),
        Case("avg_pool_backward", (pooled(0),), back, terms=overlaps),
    ]


POOLS = [
    *pools(1, 16, 8, 8),
    *pools(2, 20, 11, 13),
    *pools(2, 20, 11, 13, ceil=True),
    *pools(1, 3, 7, 9, kind="plain"),
    *pools(1, 70, 10, 11, kernel=3, ceil=True),
    *pools(2, 18, 10, 11, kernel=3, pad=1),
    *pools(1, 18, 9, 11, kernel=3, pad=1, ceil=True),
    *pools(1, 33, 9, 10, kernel=3, stride=1, pad=1),
    *pools(1, 17, 14, 9, kernel=5, stride=4, pad=2, ceil=True),
    *pools(1, 5, 8, 7, kernel=2, stride=3, pad=1, ceil=True),
    *pools(1, 6, 1, 5, kernel=1, stride=2),
    *pools(1, 16, 7, 7, kernel=7, stride=7),
]

# Pointwise --------------------------------------------------------------------------------------


def activations(operand: Operand) -> list[Case]:
    """Return every activation with its backward op."""
    exact = {"relu", "relu6", "leaky_relu"}
    dy = Operand(operand.shape, operand.kind)

    def size(inputs: Arrays, attrs: dict) -> np.ndarray:
        return np.abs(inputs[0]) + 1

    def size_backward(inputs: Arrays, attrs: dict) -> np.ndarray:
        dy, y = np.abs(inputs)
        return dy * (1 + attrs.get("alpha", 1) + y + y * y)

    cases = []
    for kind in ("relu", "leaky_relu", "elu", "relu6", "sigmoid", "tanh"):
        attrs = {"kind": kind}
        if kind in ("leaky_relu", "elu"):
            attrs["alpha"] = 0.2 if kind == "leaky_relu" else 1.0
        terms = 0 if kind in exact and kind != "leaky_relu" else 1
        cases.append(Case("activation", (operand,), attrs, terms, scale=size))
        cases.append(
            Case("activation_backward", (dy, operand), attrs, terms, scale=size_backward, wrt=())
        )
    return cases


def pairs(shape: Shape, other: Shape, kind: str, terms: int = 1) -> list[Case]:
    """Return add and multiply of a map with something to be broadcast."""
    operands = (Operand(shape), Operand(other, kind))
    return [Case("add", operands, terms=terms), Case("multiply", operands, terms=terms)]


POINTWISE = [
    *activations(Operand((2, 20, 7, 9), fill="apart")),
    *activations(Operand((1, 3, 5, 7), fill="apart")),
    *activations(plain(1, 1, 13, 3, fill="apart")),
    *pairs((2, 20, 5, 7), (2, 20, 5, 7), "map"),
    *pairs((1, 50, 19, 23), (1, 50, 19, 23), "map"),
    *pairs((2, 20, 5, 7), (1, 20, 1, 1), "plain"),
    *pairs((2, 20, 5, 7), (2, 20, 1, 1), "plain"),
    *pairs((2, 20, 5, 7), (2, 20, 1, 1), "map"),
    *pairs((2, 20, 5, 7), (1, 1, 1, 1), "plain"),
    *pairs((2, 20, 5, 7), (1, 1, 5, 7), "plain"),
    *pairs((2, 20, 5, 7), (2, 1, 5, 7), "map"),
    *pairs((2, 20, 5, 7), (1, 20, 1, 7), "plain"),
    *pairs((1, 3, 5, 7), (1, 3, 5, 1), "plain"),
    Case("multiply", (plain(1, 1, 6, 6), plain(1, 1, 6, 6))),
    Case(
        "affine",
        (Operand((2, 18, 5, 3)),),
        {"scale": -1.75, "shift": 0.3},
        scale=lambda inputs, attrs: 1.75 * np.abs(inputs[0]) + 0.3,
    ),
    Case("sum_to", (Operand((2, 20, 5, 7)),), terms=1400),
    Case("sum_to", (Operand((2, 20, 5, 7)),), {"c": 20}, terms=70),
    Case("sum_to", (Operand((2, 20, 5, 7)),), {"n": 2, "h": 5, "w": 7}, terms=20),
    Case("sum_to", (Operand((1, 18, 40, 41)),), {"c": 18}, terms=1640),
    Case("sum_to", (Operand((2, 3, 9, 11)),), {"n": 2}, terms=297),
    Case("sum_to", (plain(1, 3, 5, 7),), {"h": 5}, terms=21),
    Case("broadcast", (plain(1, 20, 1, 1),), dict(n=2, c=20, h=3, w=5, kind="map"), terms=0),
    Case("broadcast", (plain(1, 1, 3, 5),), dict(n=2, c=6, h=3, w=5, kind="plain"), terms=0),
    Case("broadcast", (Operand((2, 20, 3, 5)),), dict(n=2, c=20, h=3, w=5, kind="plain"), terms=0),
    Case("broadcast", (plain(2, 20, 3, 5),), dict(n=2, c=20, h=3, w=5, kind="map"), terms=0),
]

# Shape ------------------------------------------------------------------------------------------


def pads(shape: Shape, top: int, bottom: int, left: int, right: int) -> list[Case]:
    """Return a border in every mode, with its backward op."""
    n, c, h, w = shape
    dy = Operand((n, c, h + top + bottom, w + left + right))
    cases = []
    for mode in ("zero", "reflect", "replicate"):
        attrs = {"top": top, "bottom": bottom, "left": left, "right": right, "mode": mode}
        cases.append(Case("pad", (Operand(shape),), attrs, terms=0))
        copies = 1 if mode == "zero" else (1 + max(top, bottom)) * (1 + max(left, right))
        cases.append(Case("pad_backward", (dy,), attrs, terms=copies))
    return cases


RESIZES = [
    {"mode": "nearest"},
    {"mode": "bilinear"},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "bilinear", "antialias": True},
    {"mode": "bicubic"},
    {"mode": "bicubic", "antialias": True},
    {"mode": "lanczos", "antialias": True},
]


def resize_size(op: str) -> Callable[[Arrays, dict], np.ndarray]:
    """Return A of a resize: the same with the absolute values of weights and pixels."""

    def absolute(size: int, attrs: dict) -> np.ndarray:
        """One side's weights, found by resizing the rows of a unit matrix."""
        graph = _core.Graph()
        unit = np.eye(size)[None, None]
        node = getattr(graph, op)(graph.constant(unit), **{**attrs, "w": size})
        plan = graph.compile([node], backend="ref", dtype="float64")
        return np.abs(plan.run()[0][0, 0])

    def scale(inputs: Arrays, attrs: dict) -> np.ndarray:
        x = np.abs(inputs[0])
        rows = absolute(x.shape[2], attrs)
        columns = absolute(x.shape[3], {**attrs, "h": attrs["w"]})
        return rows @ x @ columns.T

    return scale


def resizes(shape: Shape, h: int, w: int, kind: str = "map") -> list[Case]:
    """Return a resize in every mode, with its backward op."""
    x, y = Operand(shape, kind), Operand((*shape[:2], h, w), kind)
    cases = []

    def taps(before: int, after: int) -> int:
        return min(before, 6 * -(-before // after) + 1)

    for attrs in RESIZES:
        exact = attrs["mode"] == "nearest"
        terms = 0 if exact else taps(shape[2], h) * taps(shape[3], w)
        there, back = {"h": h, "w": w, **attrs}, {"h": shape[2], "w": shape[3], **attrs}
        cases.append(Case("resize", (x,), there, terms, scale=resize_size("resize")))
        terms = taps(h, shape[2]) * taps(w, shape[3])
        cases.append(
            Case("resize_backward", (y,), back, terms, scale=resize_size("resize_backward"))
        )
    return cases


def joins(*channels: int, h: int = 3, kind: str = "map") -> list[Case]:
    """Return a concat of feature maps with these numbers of channels."""
    return [Case("concat", tuple(Operand((2, c, h, 5), kind) for c in channels), terms=0)]


def slices(shape: Shape, axis: int, begin: int, end: int) -> list[Case]:
    """Return a slice and its backward op."""
    small = tuple(end - begin if i == axis else size for i, size in enumerate(shape))
    back = {"axis": axis, "begin": begin, "size": shape[axis]}
    cut = {"axis": axis, "begin": begin, "end": end}
    return [
        Case("slice", (Operand(shape),), cut, terms=0),
        Case("slice_backward", (Operand(small),), back, terms=0),
    ]


SHAPES = [
    *pads((2, 20, 5, 6), 1, 1, 1, 1),
    *pads((1, 3, 7, 5), 4, 0, 3, 2),
    *pads((1, 16, 4, 4), 0, 0, 0, 3),
    *resizes((2, 20, 5, 7), 10, 14),
    *resizes((1, 3, 11, 9), 4, 5),
    *resizes((1, 1, 12, 10), 7, 23, kind="plain"),
    *resizes((1, 17, 3, 2), 1, 1),
    *resizes((1, 2, 1, 1), 5, 4),
    *resizes((1, 3, 23, 40), 5, 11),
    *joins(16, 32),
    *joins(3, 20, 1),
    *joins(5, 16, 7, 18),
    *joins(9),
    *joins(18, 3, h=419),
    *joins(1, 2, kind="plain"),
    *slices((2, 48, 3, 5), 1, 16, 32),
    *slices((2, 40, 3, 5), 1, 5, 23),
    *slices((1, 20, 7, 5), 2, 2, 5),
    *slices((2, 20, 3, 9), 3, 4, 9),
]

# Normalisation ----------------------------------------------------------------------------------


def statistics(x: np.ndarray, attrs: dict) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], int]:
    """Return mean and 1 / sqrt(var + epsilon) per group, its axes and its number of pixels."""
    axes = (0, 2, 3) if attrs.get("whole_batch") else (2, 3)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return mean, 1 / np.sqrt(var + attrs["epsilon"]), axes, x.size // mean.size


def instance_norm_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of gamma (x - mean) scale + beta, with mean|x| for the terms of the mean."""
    x, *vectors = inputs
    _, scale, axes, _ = statistics(x, attrs)
    gamma, beta = (*np.abs(vectors), 1, 0)[:2] if len(vectors) < 2 else np.abs(vectors)
    return gamma * scale * (np.abs(x) + np.abs(x).mean(axes, keepdims=True)) + beta


def instance_norm_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of gamma scale (dy - mean(dy) - xhat mean(dy xhat))."""
    dy, x, *gamma = inputs
    mean, scale, axes, _ = statistics(x, attrs)
    xhat = (np.abs(x) + np.abs(mean)) * scale
    both = np.abs(dy).mean(axes, keepdims=True) + xhat * (np.abs(dy) * xhat).mean(
        axes, keepdims=True
    )
    return np.abs(gamma[0] if gamma else 1) * scale * (np.abs(dy) + both)


def instance_norm_backward_gamma_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of sum(dy xhat)."""
    dy, x = inputs
    mean, scale, _, _ = statistics(x, attrs)
    return (np.abs(dy) * (np.abs(x) + np.abs(mean)) * scale).sum((0, 2, 3), keepdims=True)


def batch_norm_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of gamma (x - mean) / sqrt(var + epsilon) + beta."""
    x, mean, var, *vectors = inputs
    gamma, beta = np.abs(vectors) if vectors else (1, 0)
    return gamma * (np.abs(x) + np.abs(mean)) / np.sqrt(var + attrs["epsilon"]) + beta


def norms(
    shape: Shape, affine: bool, whole_batch: bool = False, fill: str = "normal"
) -> list[Case]:
    """Return instance norm and its backward ops."""
    x, dy, c = Operand(shape, fill=fill), Operand(shape), shape[1]
    attrs = {"epsilon": 1e-3, "whole_batch": whole_batch}
    vectors = (vector(c), vector(c)) if affine else ()
    pixels = shape[2] * shape[3] * (shape[0] if whole_batch else 1)
    return [
        Case("instance_norm", (x, *vectors), attrs, pixels, scale=instance_norm_size),
        Case(
            "instance_norm_backward",
            (dy, x, *vectors[:1]),
            attrs,
            pixels,
            scale=instance_norm_backward_size,
            wrt=(),
        ),
        Case(
            "instance_norm_backward_gamma",
            (dy, x),
            attrs,
            shape[0] * shape[2] * shape[3],
            scale=instance_norm_backward_gamma_size,
            wrt=(),
        ),
    ]


def batch_norms(shape: Shape, affine: bool) -> list[Case]:
    """Return batch norm and its backward op; mean and var are constants."""
    x, c = Operand(shape), shape[1]
    vectors = (vector(c), vector(c)) if affine else ()
    given = (vector(c), vector(c, fill="positive"))
    attrs = {"epsilon": 1e-3}
    return [
        Case(
            "batch_norm",
            (x, *given, *vectors),
            attrs,
            scale=batch_norm_size,
            wrt=(0, 3, 4) if affine else (0,),
        ),
        Case(
            "batch_norm_backward",
            (x, given[1], *vectors[:1]),
            attrs,
            absolute=(0, 2),
            wrt=(),
        ),
    ]


NORMS = [
    *norms((2, 20, 5, 7), affine=True),
    *norms((1, 33, 9, 11), affine=False),
    *norms((1, 3, 6, 5), affine=True),
    *norms((3, 18, 4, 3), affine=True, whole_batch=True),
    # several chunks of pixels, and maps far from zero
    *norms((1, 17, 37, 41), affine=True, fill="far"),
    *norms((1, 2, 129, 131), affine=False, fill="far"),
    *batch_norms((2, 20, 5, 7), affine=True),
    *batch_norms((1, 3, 6, 5), affine=False),
]

CASES = [*CONVOLUTIONS, *POOLS, *POINTWISE, *SHAPES, *NORMS]
