"""Every op on every backend: values, gradients, and what must be refused.

Rows: op_cases.py, and method_cases.py for the methods' own kernels.
"""

import numpy as np
import op_cases
import pytest
from levels import FP32_LEVELS
from method_cases import METHODS
from op_cases import (
    BF16_ERROR,
    INTEGER_CONVOLUTIONS,
    WINOGRAD_ERROR,
    Arrays,
    Case,
    Operand,
    conv,
    half_inputs,
    is_half,
    narrow,
)

from depthstyle import _core

CASES = [*op_cases.CASES, *METHODS]
LEVELS = FP32_LEVELS
BACKENDS = ["ref", *LEVELS]
ALL_LEVELS = _core.cpu_levels()  # for bf16
# More threads than rows of work, a number that divides nothing, and the plain case.
THREADS = (1, 2, 5)
# Half the width of a finite difference: the error h^2 f''' / 6 of smooth ops and the rounding
# eps |f| / h of float64 are both below 1e-7 for values of order one.
STEP = 2.0**-13
DIFFERENCE_ERROR = 1e-6


def cases(rows):
    """Parametrise over rows of the table."""
    return pytest.mark.parametrize("case", rows, ids=[row.id for row in rows])


class Program:
    """An op compiled on its own; inputs given as arrays, in order."""

    def __init__(self, case: Case, inputs: Arrays, gradients: bool = False, **options):
        graph = _core.Graph()
        self.fed, nodes = [], []
        for i, (operand, array) in enumerate(zip(case.operands, inputs, strict=True)):
            if operand.constant and not gradients:
                nodes.append(graph.constant(array, kind=operand.kind))
            else:
                nodes.append(graph.input(f"in{i}", operand.shape, kind=operand.kind))
                self.fed.append(i)
        self.node = getattr(graph, case.op)(*nodes, **case.attrs)
        outputs = [self.node]
        if gradients:
            weight = graph.input("weight", self.node.shape, kind=self.node.kind)
            loss = graph.sum_to(graph.multiply(self.node, weight))
            outputs = graph.gradient(loss, [nodes[i] for i in case.differentiable])
            self.loss_plan = graph.compile([loss], **options)
        self.plan = graph.compile(outputs, poison=True, **options)

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run the op."""
        return self.plan.run(self.feed(inputs))

    def feed(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Name the inputs that are no constants."""
        return {f"in{i}": inputs[i] for i in self.fed}

    def gradients(self, inputs: Arrays, weight: np.ndarray) -> Arrays:
        """Return the gradients of sum(op * weight)."""
        return self.plan.run({**self.feed(inputs), "weight": weight})

    def loss(self, inputs: Arrays, weight: np.ndarray) -> float:
        """Return sum(op * weight)."""
        return self.loss_plan.run({**self.feed(inputs), "weight": weight})[0].item()


def reference(case: Case, inputs: Arrays) -> np.ndarray:
    """Return the op in float64, on the reference backend."""
    return Program(case, inputs, backend="ref", dtype="float64")(inputs)[0]


def compile_on(case: Case, inputs: Arrays, backend: str, threads: int = 1, **options) -> Program:
    """Return the op in float32 on "ref" or on a CPU level."""
    if backend == "ref":
        return Program(case, inputs, backend="ref", dtype="float32", **options)
    return Program(case, inputs, backend="cpu", cpu_level=backend, threads=threads, **options)


def uses_winograd(program: Program) -> bool:
    """Return whether the plan chose a Winograd kernel."""
    return "winograd" in program.plan.dump()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative L2 error."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_every_op_has_a_row():
    """Leaves compute nothing; updates change their inputs and are in test_updates.py."""
    names = {op["name"] for op in _core.ops() if not op["name"].endswith("_update")}
    assert {case.op for case in CASES} == names - {"input", "constant", "variable"}


@cases(CASES)
def test_value_on_every_backend(case):
    inputs = case.inputs()
    expected = reference(case, inputs)
    bound = case.bound(inputs, lambda absolute: reference(case, absolute))
    for backend in BACKENDS:
        program = compile_on(case, inputs, backend)
        (found,) = program(inputs)
        assert found.dtype == np.float32
        assert found.shape == expected.shape == program.node.shape
        if uses_winograd(program):
            assert relative_error(found, expected) < WINOGRAD_ERROR, backend
        else:
            excess = np.abs(found - expected) - bound
            assert excess.max() <= 0, (backend, np.unravel_index(excess.argmax(), found.shape))


def half_reference(case: Case, node: _core.Node) -> tuple[Arrays, np.ndarray, np.ndarray | float]:
    """Return inputs, result and largest error of an op in bf16, of which `node` is the result.

    It computes in float32 from rounded inputs, and rounds once where the result is a map.
    """
    inputs = half_inputs(case, node.shape, node.kind)
    expected = reference(case, inputs)
    bound = case.bound(inputs, lambda absolute: reference(case, absolute))
    if not is_half(node.shape, node.kind):
        return inputs, expected, bound
    if case.terms == 0:
        return inputs, narrow(expected), 0.0
    return inputs, expected, bound + BF16_ERROR * (np.abs(expected) + bound)


@cases(CASES)
def test_value_in_bf16(case):
    inputs, expected, bound = half_reference(case, compile_on(case, case.inputs(), "ref").node)
    for backend in ["ref", *ALL_LEVELS]:
        program = compile_on(case, inputs, backend, precision="bf16")
        (found,) = program(inputs)
        if is_half(expected.shape, program.node.kind):
            np.testing.assert_array_equal(found, narrow(found), err_msg=backend)
        if uses_winograd(program):
            assert relative_error(found, expected) < WINOGRAD_ERROR + BF16_ERROR, backend
        else:
            excess = np.abs(found - expected) - bound
            assert excess.max() <= 0, (backend, np.unravel_index(excess.argmax(), found.shape))


@cases(INTEGER_CONVOLUTIONS)
def test_direct_convolution_of_integers_in_bf16_is_rounded_once(case):
    inputs = case.inputs()
    expected = reference(case, inputs)
    for backend in ["ref", *ALL_LEVELS]:
        program = compile_on(case, inputs, backend, precision="bf16")
        if uses_winograd(program):
            continue
        once = narrow(expected) if is_half(expected.shape, program.node.kind) else expected
        np.testing.assert_array_equal(program(inputs)[0], once, err_msg=backend)


@cases([case for case in CASES if case.differentiable])
def test_gradients_in_mixed_precision(case):
    """The definition's, but for values that a rounding error carries over to the next bf16."""
    inputs = case.inputs()
    plans = {
        backend: compile_on(case, inputs, backend, gradients=True, precision="mixed")
        for backend in ["ref", *ALL_LEVELS]
    }
    weight = np.random.default_rng(1).standard_normal(plans["ref"].node.shape)
    expected = plans["ref"].gradients(inputs, weight)
    maps = [i for i in case.differentiable if is_half(inputs[i].shape, case.operands[i].kind)]
    for i, gradient in zip(case.differentiable, expected, strict=True):
        if i in maps:
            np.testing.assert_array_equal(gradient, narrow(gradient))
    for backend in ALL_LEVELS:
        for a, b in zip(plans[backend].gradients(inputs, weight), expected, strict=True):
            assert relative_error(a, b) < BF16_ERROR, backend


@cases(CASES)
def test_same_bits_for_any_number_of_threads(case):
    inputs = case.inputs()
    for level, precision in [(level, "fp32") for level in LEVELS] + [(LEVELS[-1], "bf16")]:
        found = [
            compile_on(case, inputs, level, threads, precision=precision)(inputs)[0]
            for threads in THREADS
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other, err_msg=level)


@cases([case for case in CASES if case.differentiable])
def test_gradient_is_that_of_finite_differences(case):
    inputs = case.inputs()
    rng = np.random.default_rng(1)
    program = Program(case, inputs, gradients=True, backend="ref", dtype="float64")
    weight = rng.standard_normal(program.node.shape)
    gradients = program.gradients(inputs, weight)

    def difference(i: int, direction: np.ndarray) -> float:
        ends = []
        for sign in (1, -1):
            moved = list(inputs)
            moved[i] = inputs[i] + sign * STEP * direction
            ends.append(program.loss(moved, weight))
        return (ends[0] - ends[1]) / (2 * STEP)

    for i, gradient in zip(case.differentiable, gradients, strict=True):
        assert gradient.shape == inputs[i].shape
        limit = DIFFERENCE_ERROR * (1 + np.linalg.norm(gradient))
        signs = rng.choice([-1.0, 1.0], (2, *gradient.shape))
        for direction in signs:
            assert abs(difference(i, direction) - np.vdot(gradient, direction)) <= limit
        for place in rng.choice(gradient.size, min(8, gradient.size), replace=False):
            direction = np.zeros(gradient.shape)
            direction.flat[place] = 1
            assert abs(difference(i, direction) - gradient.flat[place]) <= limit


@cases(INTEGER_CONVOLUTIONS)
def test_direct_convolution_of_integers_is_exact(case):
    inputs = case.inputs()
    expected = reference(case, inputs)
    assert np.abs(expected).max() < 2**24
    for backend in BACKENDS:
        program = compile_on(case, inputs, backend)
        if uses_winograd(program):
            continue
        np.testing.assert_array_equal(program(inputs)[0], expected, err_msg=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [(64, 64), (20, 40), (3, 64)])
def test_forward_and_backward_convolution_are_adjoint(channels, backend):
    """<conv(x), dy> = <x, backward_input(dy)>."""
    forward, backward, _ = conv(1, *channels, 14, 18, pad=1)
    x, weight, bias = forward.inputs()
    dy, _ = backward.inputs()
    y = compile_on(forward, [x, weight, 0 * bias], backend)([x, weight, 0 * bias])[0]
    dx = compile_on(backward, [dy, weight], backend)([dy, weight])[0]
    size = np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs(np.vdot(y.astype(float), dy) - np.vdot(x, dx.astype(float))) < WINOGRAD_ERROR * size


def run_one(op: str, arrays: Arrays, backend: str, **attrs) -> np.ndarray:
    """Return an op of feature maps."""
    graph = _core.Graph()
    nodes = [graph.input(f"in{i}", array.shape) for i, array in enumerate(arrays)]
    options = {} if backend == "ref" else {"cpu_level": backend}
    name = "ref" if backend == "ref" else "cpu"
    plan = graph.compile([getattr(graph, op)(*nodes, **attrs)], backend=name, **options)
    return plan.run({f"in{i}": array for i, array in enumerate(arrays)})[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [3, 16])
def test_max_pool_gradient_goes_to_the_first_of_equal_values(channels, backend):
    x = np.zeros((1, channels, 4, 4), np.float32)
    dy = np.arange(1, 4 * channels + 1, dtype=np.float32).reshape(1, channels, 2, 2)
    expected = np.zeros_like(x)
    expected[:, :, ::2, ::2] = dy
    np.testing.assert_array_equal(run_one("max_pool_backward", [dy, x], backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [3, 16])
def test_border_of_max_pool_never_wins(channels, backend):
    x = np.full((1, channels, 3, 3), -5, np.float32)
    y = run_one("max_pool", [x], backend, kernel=3, stride=1, pad=1)
    np.testing.assert_array_equal(y, np.full_like(x, -5))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "elu", "relu6", "sigmoid", "tanh"])
def test_activations_of_extreme_values(kind, channels, backend):
    """No overflow on the way to a finite result, and a NaN stays visible."""
    x = np.array([-1e30, -100, 0, 100, 1e30, np.nan], np.float32)
    x = np.broadcast_to(x, (1, channels, 1, 6)).copy()
    y = run_one("activation", [x], backend, kind=kind, alpha=0.5)[0, -1, 0]
    expected = {
        "relu": [0, 0, 0, 100, 1e30],
        "leaky_relu": [-5e29, -50, 0, 100, 1e30],
        "elu": [-0.5, -0.5, 0, 100, 1e30],
        "relu6": [0, 0, 0, 6, 6],
        "sigmoid": [0, 0, 0.5, 1, 1],
        "tanh": [-1, -1, 0, 1, 1],
    }[kind]
    np.testing.assert_allclose(y[:5], expected, rtol=1e-6, atol=1e-30)
    assert np.isnan(y[5])


def declare(*operands):
    """Return a graph and its inputs from (shape, kind) pairs."""
    graph = _core.Graph()
    nodes = [graph.input(f"in{i}", shape, kind=kind) for i, (shape, kind) in enumerate(operands)]
    return graph, nodes


X = ((1, 6, 8, 9), "map")
W = ((4, 6, 3, 3), "plain")
REFUSED = [
    ("conv2d", [X, W], {"stride": 0}, "stride=0"),
    ("conv2d", [X, W], {"pad": -1}, "pad=-1"),
    ("conv2d", [X, W], {"dilation": 0}, "dilation=0"),
    ("conv2d", [X, W], {"groups": 4}, "groups=4"),
    ("conv2d", [X, W], {"groups": 2}, "second dimension must be 3"),
    ("conv2d", [X, W], {"pad": 8, "pad_mode": "reflect"}, "pad=8 reflects more.*height of 8"),
    ("conv2d", [X, W], {"dilation": 5}, "kernel height 3 with dilation=5"),
    ("conv2d", [X, ((4, 5, 3, 3), "plain")], {}, r"w has shape \(4, 5, 3, 3\)"),
    ("conv2d", [((1, 6, 8, 9), "plain"), W], {}, "x is of kind plain"),
    ("conv2d", [X, ((4, 6, 3, 3), "map")], {}, "w is of kind map"),
    ("conv2d", [X, W, ((1, 6, 1, 1), "plain")], {}, r"bias has shape \(1, 6, 1, 1\)"),
    ("conv2d_backward_input", [((1, 4, 6, 7), "map"), W], {"h": 9, "w": 9}, "dy has shape"),
    ("conv2d_backward_input", [((1, 4, 6, 7), "map"), W], {"w": 9}, "h=0"),
    ("conv2d_backward_weight", [X, X], {"kh": 3, "kw": 3}, "dy has shape"),
    ("max_pool", [X], {"kernel": 0}, "kernel=0"),
    ("max_pool", [X], {"stride": 0}, "stride=0"),
    ("max_pool", [X], {"kernel": 2, "pad": 2}, "pad=2"),
    ("avg_pool", [X], {"kernel": 9}, "kernel=9 is larger than the map's height of 8"),
    ("max_pool_backward", [X, X], {}, "dy has shape"),
    ("avg_pool_backward", [X], {"h": 8, "w": 9}, "dy has shape"),
    ("activation", [X], {"kind": "elu", "alpha": -1.0}, "alpha=-1"),
    ("activation_backward", [X, W], {}, "dy has shape"),
    ("add", [X, ((1, 5, 1, 1), "plain")], {}, r"b has shape \(1, 5, 1, 1\)"),
    ("multiply", [X, ((1, 6, 8, 9), "plain")], {}, "b is of kind plain"),
    ("multiply", [X, ((1, 6, 1, 9), "map")], {}, "b .* is of kind map"),
    ("sum_to", [X], {"c": 3}, "n, c, h, w = "),
    ("broadcast", [X], {"n": 1, "c": 6, "h": 8, "w": 18}, "n, c, h, w = "),
    ("broadcast", [((1, 1, 1, 1), "plain")], {"c": 2**31, "h": 2**31}, "product at most 2"),
    ("pad", [X], {"top": -1}, "top=-1"),
    ("pad", [X], {"left": 9, "mode": "reflect"}, "left=9 reflects more.*width of 9"),
    ("pad_backward", [X], {"top": 4, "bottom": 4}, "leave nothing"),
    ("resize", [X], {"h": 0, "w": 4}, "h=0"),
    ("resize", [X], {"h": 4, "w": 4, "align_corners": True}, "align_corners has no meaning"),
    ("resize", [X], {"h": 4, "w": 4, "antialias": True}, "antialias has no meaning"),
    (
        "resize",
        [X],
        {"h": 4, "w": 4, "mode": "bicubic", "align_corners": True, "antialias": True},
        "exclude each other",
    ),
    ("resize", [X], {"h": 2**31, "w": 2**31}, "product at most 2"),
    ("concat", [X, ((1, 6, 8, 8), "map")], {}, "an input has shape"),
    ("concat", [X, ((1, 6, 8, 9), "plain")], {}, "is of kind plain"),
    ("slice", [X], {"axis": 0, "end": 1}, "axis=0"),
    ("slice", [X], {"begin": 2, "end": 7}, "end=7"),
    ("slice", [X], {"begin": 2, "end": 2}, "begin=2, end=2"),
    ("slice_backward", [X], {"begin": 1, "size": 6}, "begin=1 with size=6"),
    ("instance_norm", [X], {"epsilon": 0.0}, "epsilon=0"),
    ("instance_norm", [X, ((1, 5, 1, 1), "plain")], {}, "gamma has shape"),
    ("instance_norm_backward", [X, W], {}, "dy has shape"),
    ("batch_norm", [X] + 2 * [((1, 7, 1, 1), "plain")], {}, "mean has shape"),
    ("gram", [X, ((1, 1, 9, 8), "plain")], {}, r"mask has shape \(1, 1, 9, 8\).*resize it"),
    ("gram", [X, X], {}, r"mask has shape .*must be \(1 or 1, 1, 8, 9\)"),
    ("gram_backward", [X, ((1, 1, 6, 5), "plain")], {}, r"dg has shape .* \(1, 1, 6, 6\)"),
    ("gram_backward", [X, ((1, 1, 6, 6), "map")], {}, "dg is of kind map"),
    ("feature_loss", [X, ((1, 6, 8, 8), "map")], {}, "target has shape"),
    ("feature_loss", [X, ((1, 6, 8, 9), "plain")], {}, "target is of kind plain"),
    ("feature_loss", [X, X, ((2, 1, 8, 9), "plain")], {}, "mask has shape"),
    ("feature_loss_backward", [X, X, ((1, 2, 1, 1), "plain")], {}, "dl has shape"),
    ("laplacian", [X], {"pool": 0}, "pool=0"),
    ("laplacian", [X], {"pool": 3}, "pool=3 leaves less than 3x3 of 8 x 9.*at least 9 pixels"),
    ("laplacian_backward", [X], {"pool": 2, "h": 10, "w": 10}, "dy has shape"),
    ("total_variation_backward", [X, X], {}, "dl has shape"),
    ("moments", [X], {"epsilon": 0.0}, "epsilon=0"),
    ("moments", [((1, 6, 1, 1), "map")], {}, "unbiased=1 divides by H W - 1.*unbiased=0"),
    ("moments_backward", [X, X, X], {}, "moments has shape"),
    ("adain", [X, ((1, 6, 2, 1), "plain")], {}, r"style has shape .* \(1, 6, 1, 2\)"),
    ("adain", [X, ((1, 6, 1, 2), "plain"), X], {}, "strength has shape"),
    ("adain_backward", [W, X, ((1, 6, 1, 2), "plain")], {}, "dy has shape"),
    ("adain_backward_style", [X, X, ((2, 6, 1, 2), "plain")], {}, "style has shape"),
    ("dot", [X, W], {}, "b has shape"),
    ("axpy", [X, X, X], {}, "alpha has shape"),
    ("axpy", [((1, 1, 1, 1), "plain"), X, W], {}, "y has shape"),
]


@pytest.mark.parametrize("op, operands, attrs, message", REFUSED, ids=lambda value: str(value)[:40])
def test_bad_shapes_and_attributes_are_refused(op, operands, attrs, message):
    graph, nodes = declare(*operands)
    with pytest.raises(ValueError, match=f"{op}: .*{message}"):
        getattr(graph, op)(*nodes, **attrs)


def test_statistics_of_batch_norm_have_no_gradient():
    vector = ((1, 6, 1, 1), "plain")
    graph, (x, mean, var) = declare(X, vector, vector)
    loss = graph.sum_to(graph.batch_norm(x, mean, var))
    with pytest.raises(ValueError, match="mean of batch_norm is a constant"):
        graph.gradient(loss, [mean])


@pytest.mark.parametrize("op", ["gram", "feature_loss", "adain"])
def test_masks_have_no_gradient(op):
    mask = ((1, 1, 8, 9), "plain")
    graph, (x, weights) = declare(X, mask)
    moments = graph.constant(np.ones((1, 6, 1, 2)))
    given = {"gram": [x, weights], "feature_loss": [x, x, weights], "adain": [x, moments, weights]}
    loss = graph.sum_to(getattr(graph, op)(*given[op]))
    with pytest.raises(ValueError, match=f"gradient: {op} gives none to its (mask|strength)"):
        graph.gradient(loss, [weights])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 3, 7, 5), (2, 20, 19, 23)])
def test_a_mask_of_ones_changes_no_bit(shape, backend):
    x = np.random.default_rng(0).standard_normal(shape)
    ones = np.ones((1, 1, *shape[2:]))
    dg = np.random.default_rng(1).standard_normal((shape[0], 1, shape[1], shape[1]))
    for op, inputs in (("gram", [x]), ("gram_backward", [x, dg]), ("feature_loss", [x, 2 * x])):
        results = []
        for arrays in (inputs, [*inputs, ones]):
            operands = [Operand(a.shape, "plain" if a.shape[1] == 1 else "map") for a in arrays]
            case = Case(op, tuple(operands), {"scale": 0.7})
            results.append(compile_on(case, arrays, backend)(arrays)[0])
        np.testing.assert_array_equal(*results)
