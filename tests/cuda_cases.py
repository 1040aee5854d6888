"""What the CUDA backend must do, on the emulator and on a GPU.

test_cuda_emulated.py and test_cuda_gpu.py import these tests; each loads its own library first.
"""

import numpy as np
import op_cases
import pytest
from method_cases import METHODS
from op_cases import (
    BF16_ERROR,
    EPS,
    INTEGER_CONVOLUTIONS,
    WINOGRAD_ERROR,
    Arrays,
    Case,
    is_half,
    narrow,
)
from test_ops import Program, cases, half_reference, reference, relative_error

import depthstyle as ds
from depthstyle import _core, optimisers

CASES = [*op_cases.CASES, *METHODS]
CONVOLUTIONS = [case for case in CASES if case.op.startswith("conv2d")]
# Of the size sum|t| of an element: cuDNN may round the sum before bias and end are added to it, and
# sums gradients of weights into bf16.
BF16_PASSING = 2 * BF16_ERROR
# Factors that masks and gradients make are a bf16 and the bf16 nearest to the rest.
SPLIT_ERROR = BF16_ERROR**2
# Both factors of a product are cut to 11 significant bits, some units do not round.
TF32_ERROR = 2 * 2.0**-10


def allowed(case: Case, inputs: Arrays, rounding: float = 0.0) -> np.ndarray | float:
    """Return the largest error of each element; `rounding` is of its size sum|t|."""
    bound = case.bound(inputs, lambda absolute: reference(case, absolute))
    return bound * (1 + rounding / ((4 * np.sqrt(case.terms) + 8) * EPS))


@cases(CASES)
def test_value_in_fp32(case):
    inputs = case.inputs()
    expected = reference(case, inputs)
    (found,) = Program(case, inputs, backend="cuda")(inputs)
    assert found.shape == expected.shape
    if case in CONVOLUTIONS and relative_error(found, expected) < WINOGRAD_ERROR:
        return  # cuDNN has Winograd kernels too
    assert (np.abs(found - expected) - allowed(case, inputs)).max() <= 0


@cases(CASES)
def test_value_in_bf16(case):
    program = Program(case, case.inputs(), backend="cuda", precision="bf16")
    inputs, expected, bound = half_reference(case, program.node)
    if case in CONVOLUTIONS:
        bound = allowed(case, inputs, BF16_PASSING)
    if case.op in ("gram", "gram_backward"):
        bound = bound + allowed(case, inputs, SPLIT_ERROR)
    assert (np.abs(program(inputs)[0] - expected) - bound).max() <= 0


@cases(CONVOLUTIONS)
def test_value_in_tf32(case):
    inputs = case.inputs()
    (found,) = Program(case, inputs, backend="cuda", precision="tf32")(inputs)
    error = np.abs(found - reference(case, inputs))
    assert (error - allowed(case, inputs, TF32_ERROR)).max() <= 0


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@cases(INTEGER_CONVOLUTIONS)
def test_convolution_of_integers_is_exact(case, precision):
    """Tensor cores multiply small integers without error and sum them in fp32."""
    inputs = case.inputs()
    expected = reference(case, inputs)
    program = Program(case, inputs, backend="cuda", precision=precision)
    if precision == "bf16" and is_half(expected.shape, program.node.kind):
        expected = narrow(expected)
    np.testing.assert_array_equal(program(inputs)[0], expected)


FINE_IMAGES = [  # channels, kernel, stride, groups
    (3, 3, 1, 1),
    (1, 3, 2, 1),
    (2, 7, 1, 1),
    (3, 7, 2, 1),
    (4, 9, 1, 1),
    (3, 9, 2, 1),
    (4, 3, 2, 2),
]


def check_fine_images(channels: int, kernel: int, stride: int, groups: int, **options) -> str:
    """Convolve images of large integers with a small contrast, in every direction.

    16 bits hold them; one bf16 has steps of 4 there. Weights and maps cancel what all pixels have
    in common, so that the results are small, and exact also where they are bf16.
    """
    rng = np.random.default_rng(kernel)
    size = 2 * kernel + 3
    small = (size - kernel) // stride + 1

    def image(side):
        return 512 + rng.integers(0, 4, (2, channels, side, side))

    def maps(side):
        first = rng.integers(-1, 2, (1, 8, side, side))
        return np.concatenate([first, -first])

    def weights(out, inputs):
        random = rng.integers(-1, 2, (out, inputs // groups, kernel, kernel))
        return random - random[..., ::-1]

    arrays = {"image": image(size), "map": maps(size), "to map": maps(small)}
    arrays |= {"to image": image(small), "w": weights(8, channels), "v": weights(channels, 8)}
    feed = {name: array.astype(np.float32) for name, array in arrays.items()}
    graph = _core.Graph()
    nodes = {
        name: graph.input(name, array.shape, "plain" if name in "wv" else "map")
        for name, array in feed.items()
    }
    outputs = []
    for x, w, seed in (("image", "w", "to map"), ("map", "v", "to image")):
        y = graph.conv2d(nodes[x], nodes[w], stride=stride, groups=groups)
        loss = graph.sum_to(graph.multiply(y, nodes[seed]))
        outputs += [y, *graph.gradient(loss, [nodes[x], nodes[w]])]
    exact = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    plan = graph.compile(outputs, precision="bf16", **options)
    for node, found, wanted in zip(outputs, plan.run(feed), exact, strict=True):
        half = is_half(node.shape, node.kind)
        np.testing.assert_array_equal(found, narrow(wanted) if half else wanted, err_msg=node.op)
    return plan.dump()


@pytest.mark.parametrize("sizes", FINE_IMAGES)
def test_images_count_with_16_bits(sizes):
    check_fine_images(*sizes, backend="cuda")


def make_iteration(size=(24, 20), **options):
    """Return a step of Adam on style, content and variation of a picture, ready to run."""
    rng = np.random.default_rng(5)
    graph = _core.Graph()
    image = graph.variable("image", rng.standard_normal((1, 3, *size)).astype(np.float32))
    x, maps = image, []
    for channels, previous in ((16, 3), (32, 16)):
        weight = rng.standard_normal((channels, previous, 3, 3)) / np.sqrt(9 * previous)
        bias = rng.standard_normal((1, channels, 1, 1)) / 10
        x = graph.conv2d(x, graph.constant(weight), graph.constant(bias), pad=1)
        x = graph.activation(x)
        maps.append(x)
        x = graph.max_pool(x)
    loss = graph.total_variation(image, scale=1e-3)
    for y in maps:
        gram = graph.gram(y, scale=1 / (y.shape[2] * y.shape[3]))
        target = graph.constant(rng.standard_normal(gram.shape).astype(np.float32))
        loss = graph.add(loss, graph.feature_loss(gram, target, scale=1 / gram.shape[3]))
    (gradient,) = graph.gradient(loss, [image])
    state = [graph.variable(name, np.zeros(image.shape, np.float32)) for name in ("m", "v")]
    steps = graph.variable("steps", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
    rate = graph.input("rate", (1, 1, 1, 1), kind="plain")
    updated = graph.adam_update(image, *state, steps, gradient, rate)
    return graph.compile([loss, updated], check=[loss], **options)


RATE = {"rate": np.full((1, 1, 1, 1), 0.05, np.float32)}


def test_arrays_come_back_whole():
    """They go and come in pieces of half a million values: here two, the last one cut."""
    graph = _core.Graph()
    x = graph.input("x", (1, 5, 331, 353), kind="map")
    plan = graph.compile([graph.affine(x, scale=2)], backend="cuda", precision="bf16")
    values = narrow(np.random.default_rng(3).standard_normal(x.shape))
    np.testing.assert_array_equal(plan.run({"x": values})[0], 2 * values.astype(np.float32))
    np.testing.assert_array_equal(plan.get("x"), values.astype(np.float32))


@pytest.mark.parametrize("precision, limit", [("fp32", 1e-4), ("bf16", 0.02), ("mixed", 0.02)])
def test_iterations_follow_the_reference(precision, limit):
    """Adam divides by the gradient's size, so that small differences grow from step to step."""
    found = make_iteration(backend="cuda", precision=precision)
    expected = make_iteration(backend="ref")
    for _ in range(5):
        loss, wanted = found.run(RATE)[0].item(), expected.run(RATE)[0].item()
        assert abs(loss - wanted) <= limit * abs(wanted)
    assert found.get("steps").item() == 5


def test_a_recorded_step_is_the_direct_one():
    """A plan that watches its memory runs kernel after kernel, any other one is a recording."""
    results = [
        make_iteration(backend="cuda", precision="bf16", poison=poison).run(RATE)
        for poison in (False, True)
    ]
    for recorded, direct in zip(*results, strict=True):
        np.testing.assert_array_equal(recorded, direct)


def repeated_steps(plans: int, runs: int) -> set[tuple[bytes, ...]]:
    """Return the different sequences of pictures that plans made alike paint."""
    made = [make_iteration(backend="cuda", precision="bf16") for _ in range(plans)]
    return {tuple(plan.run(RATE)[1].tobytes() for _ in range(runs)) for plan in made}


def test_updates_hold_still_where_a_loss_is_not_finite():
    plan = make_iteration(backend="cuda")
    good = plan.run(RATE)[1]
    bad = good.copy()
    bad[0, 1, 2, 3] = np.nan
    plan.set("image", bad)
    with pytest.raises(ds.NumericalError, match="image"):
        plan.run(RATE)
    assert plan.get("steps").item() == 1
    np.testing.assert_array_equal(plan.get("image"), bad)
    plan.set("image", good)
    assert np.isfinite(plan.run(RATE)[0]).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_session_paints_as_on_the_cpu(optimizer):
    """Three steps on pictures: all ops of the Gatys family, with a mask and a Laplacian loss."""
    rng = np.random.default_rng(2)
    content, style = rng.random((2, 40, 36, 3), np.float32)
    depth = np.linspace(0, 1, 40 * 36, dtype=np.float32).reshape(40, 36)
    settings = {"depth": depth, "style_masks": "sigmoid", "laplacian_weight": 1.0, "scales": 1}
    painted = {}
    for device in ("cuda", "cpu"):
        where = {"device": device, "precision": "fp32"}
        session = ds.Session(content, style, optimizer=optimizer, **where, **settings)
        session.step(3)
        painted[device] = session.losses["total"], session.image
    # Flipped decisions of ReLU and max-pool move the gradient by about 1e-3.
    np.testing.assert_allclose(painted["cuda"][0], painted["cpu"][0], rtol=1e-3)
    assert np.abs(painted["cuda"][1] - painted["cpu"][1]).mean() < 1 / 255


def test_several_iterations_in_one_go_are_single_ones(monkeypatch):
    """Losses, pictures and the error are the same, wherever in the sequence it comes."""
    monkeypatch.setattr(optimisers, "_SECONDS", 1e6)
    content, style = np.random.default_rng(4).random((2, 10, 12, 3), np.float32)
    options = {"schedule": ((0, 0.1), (3, 1e30)), "clamp": False, "device": "cuda", "scales": 1}
    options |= {"style_layers": ["relu1_1"], "content_layers": ["relu1_2"]}
    runs = [ds.Session(content, style, optimizer="adam", **options) for _ in range(2)]
    errors = []
    for run, count in zip(runs, (9, 1), strict=True):
        with pytest.raises(ds.NumericalError) as caught:
            for _ in range(9 // count):
                run.step(count)
        errors.append((str(caught.value), caught.value.iteration, caught.value.layer))
    assert errors[0] == errors[1] and errors[0][1] == 4
    assert runs[0].losses == runs[1].losses and len(runs[0].losses["total"]) == 4
    for name in ("image", "best"):
        np.testing.assert_array_equal(getattr(runs[0], name), getattr(runs[1], name))


def test_lbfgs_goes_on_from_its_state_on_and_off_the_gpu():
    """Its vectors lie on the GPU; in a state they are planar, for any device."""
    content, style = np.random.default_rng(4).random((2, 10, 12, 3), np.float32)
    options = {"optimizer": "lbfgs", "history": 2, "scales": 1, "precision": "fp32"}
    options |= {"style_layers": ["relu1_1"], "content_layers": ["relu1_2"]}
    whole, again, here = (
        ds.Session(content, style, device=device, **options) for device in ("cuda", "cuda", "cpu")
    )
    whole.step(4)
    state = whole.state()
    whole.step(2)
    again.restore(state, "memory")
    again.step(2)
    assert again.losses == whole.losses
    np.testing.assert_array_equal(again.image, whole.image)
    with pytest.warns(ds.ReproducibilityWarning):
        here.restore(state, "memory")
    here.step(2)
    np.testing.assert_allclose(here.losses["total"], whole.losses["total"], rtol=1e-3)


def test_lbfgs_steps_as_on_the_host():
    """In chunks of the vectors, and with more pairs than go into one kernel."""
    shape, history = (1, 3, 37, 53), 120
    rng, graph = np.random.default_rng(6), _core.Graph()
    start, gradient = rng.standard_normal((2, *shape)).astype(np.float32)
    names = {name: graph.variable(name, start) for name in ("x", "slope")}
    plan = graph.compile([graph.keep_update(*names.values())], backend="cuda")
    x = start.copy()
    there = _core.LBFGS(x.size, history, plan=plan)
    here = _core.LBFGS(x.size, history, threads=1)
    steps = rng.standard_normal((history, x.size)).astype(np.float32)
    changes = steps * np.linspace(1, 2, x.size, dtype=np.float32)
    rows = np.concatenate([gradient.reshape(1, -1) / 100, start.reshape(1, -1), steps, changes])
    products = rows[2:].astype(np.float64) @ changes.T.astype(np.float64)
    products = products.reshape(1, 2, history, history)
    products[0, 0] = np.triu(products[0, 0])
    np.asarray(here)[:] = rows
    for number, row in enumerate(rows):
        there.set_row(number, "x", row)
    here.state = there.state = True, history - 1, products
    plan.set("slope", start + gradient)
    slopes = there.step("x", 1.0, "slope"), here.step(x, 1.0, start + gradient)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-9)
    found, expected = there.get_row(0, "x").ravel(), np.asarray(here)[0]
    # Rows that go into a second kernel are added to a sum that was rounded.
    assert np.abs(found - expected).max() <= 4 * EPS * np.abs(expected).max()
    np.testing.assert_allclose(there.state[2], here.state[2], rtol=1e-9, atol=1e-9)
