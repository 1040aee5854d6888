"""L-BFGS: the steps of torch.optim.LBFGS, minima of known functions, threads, bad input."""

from pathlib import Path

import numpy as np
import pytest

from depthstyle import _core
from depthstyle._core import LBFGS
from depthstyle.errors import NumericalError

EPSILON = np.finfo(np.float32).eps
GOLDEN = Path(__file__).parent / "golden" / "lbfgs.npz"


@pytest.mark.parametrize("name", ["quadratic", "short_history", "rosenbrock"])
def test_takes_torchs_steps(name):
    """Each step starts from torch's position, so that only one step's rounding is compared."""
    golden = np.load(GOLDEN)
    positions, losses, gradients, settings = (
        golden[f"{name}_{key}"] for key in ("x", "loss", "gradient", "settings")
    )
    history, rate = int(settings[0]), float(settings[1])
    lbfgs = LBFGS(positions.shape[1], history, rate)
    for k in range(len(positions) - 1):
        x = positions[k].copy()
        lbfgs.step(x, losses[k], gradients[k])
        step = np.abs(positions[k + 1] - positions[k]).max()
        # The sum rounds once; the direction is a chain of up to 2 history sums in float32.
        allowed = EPSILON * (np.abs(positions[k + 1]).max() + 2 * min(k + 1, history) * step)
        assert np.abs(x - positions[k + 1]).max() <= allowed, k


def quadratic(x):
    curvature = np.geomspace(1, 30, x.size)
    return 0.5 * np.sum(curvature * (x - 1) ** 2), curvature * (x - 1)


def rosenbrock(x):
    head, tail = x[:-1], x[1:]
    gradient = np.zeros_like(x)
    gradient[1:] += 20 * (tail - head**2)
    gradient[:-1] += -40 * head * (tail - head**2) - 2 * (1 - head)
    return np.sum(10 * (tail - head**2) ** 2 + (1 - head) ** 2), gradient


@pytest.mark.parametrize(("function", "rate"), [(quadratic, 1.0), (rosenbrock, 0.5)])
@pytest.mark.parametrize("history", [5, 100])
def test_finds_the_minimum(function, rate, history):
    x = np.linspace(-1, 0.5, 12, dtype=np.float32)
    lbfgs = LBFGS(x.size, history, rate)
    first = function(x.astype(np.float64))[0]
    for _ in range(150):
        loss, gradient = function(x.astype(np.float64))
        slope = lbfgs.step(x, loss, gradient.astype(np.float32))
        assert slope <= 0
    assert function(x.astype(np.float64))[0] < 1e-9 * first
    np.testing.assert_allclose(x, 1, atol=1e-4)


def test_first_step_is_at_most_the_rate():
    gradient = np.array([3, -1], np.float32)
    x = np.zeros(2, np.float32)
    slope = LBFGS(2, rate=0.5).step(x, 1.0, gradient)
    np.testing.assert_allclose(x, -0.5 * gradient / 4, rtol=2 * EPSILON)
    assert slope == -10


def test_pairs_without_curvature_are_left_out():
    gradient = np.array([1, 2], np.float32)
    x = np.zeros(2, np.float32)
    lbfgs = LBFGS(2)
    lbfgs.step(x, 1.0, gradient)
    before = x.copy()
    lbfgs.step(x, 1.0, gradient)
    np.testing.assert_array_equal(x, before - gradient)


def two_loops(pairs, gradient):
    """Return -H g by the two loops over vectors, in float64."""
    direction, alphas = -gradient, []
    for s, y in reversed(pairs):
        alphas.append(s @ direction / (s @ y))
        direction = direction - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        direction = direction * ((s @ y) / (y @ y))
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        direction = direction + (alpha - y @ direction / (s @ y)) * s
    return direction


@pytest.mark.parametrize("length", [1, 2, 7, 2047, 2049, 4100])
@pytest.mark.parametrize("history", [1, 2, 5, 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_takes_the_steps_of_two_loops_over_vectors(length, history, threads):
    """From the same float32 pairs; 9 steps fill the short rings twice, every third is refused."""
    rng = np.random.default_rng(length + history)
    curvature = np.linspace(1, 2, length)
    lbfgs, pairs, kept = LBFGS(length, history, threads=threads), [], 0
    x = rng.standard_normal(length).astype(np.float32)
    previous = step = None
    for k in range(14):
        gradient = (curvature * x + 0.1 * rng.standard_normal(length)).astype(np.float32)
        if k % 3 == 2:
            gradient = previous - step  # y = -s
        if k:
            change = (gradient - previous).astype(np.float64)
            if step.astype(np.float64) @ change > 1e-10:
                pairs = [*pairs, (step.astype(np.float64), change)][-history:]
                kept += 1
        g = gradient.astype(np.float64)
        direction = two_loops(pairs, g)
        t = 1 if k else min(1, 1 / np.abs(g).sum())
        before = x.copy()
        slope = lbfgs.step(x, 1.0, gradient)
        step, previous = np.asarray(lbfgs)[0].copy(), gradient
        # The products of ill-matched pairs grow in both loops; in float64 they have 1e-16 each.
        size = np.abs(direction).max()
        assert np.abs(step - t * direction).max() <= EPSILON * size
        assert slope == pytest.approx(g @ direction, rel=1e-9)
        np.testing.assert_array_equal(x, before + step if slope <= 0 else before)
        assert lbfgs.state[2].shape == (1, 2, len(pairs), len(pairs))
    assert length == 1 or 5 < kept < 13


def test_products_are_those_of_the_kept_pairs():
    rng = np.random.default_rng(3)
    lbfgs, x = LBFGS(4001, 4), np.ones(4001, np.float32)
    for _ in range(7):
        lbfgs.step(x, 1.0, (x + 0.1 * rng.standard_normal(4001)).astype(np.float32))
    _, newest, products = lbfgs.state
    rows = np.asarray(lbfgs).astype(np.float64)
    s, y = rows[2:6], rows[6:]
    assert newest == 1
    age = (newest - np.arange(4)) % 4
    expected = np.stack([np.where(age[:, None] >= age, s @ y.T, 0), y @ y.T])
    np.testing.assert_allclose(products[0], expected, rtol=1e-10, atol=1e-10)


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((6, 100_003)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        x = np.zeros((1, 1, 1, 100_003), np.float32)
        lbfgs = LBFGS(x.size, history=3, threads=threads)
        slopes = [lbfgs.step(x, 1.0, gradient) for gradient in gradients]
        results.append((x.tobytes(), slopes))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("loss", "value"), [(np.nan, 1), (np.inf, 1), (1, np.nan), (1, np.inf)])
def test_what_is_not_finite_leaves_everything_as_it_was(loss, value):
    good = np.array([1, 2, 3], np.float32)
    bad = np.array([1, value, 3], np.float32)
    x, undisturbed = np.zeros(3, np.float32), np.zeros(3, np.float32)
    lbfgs, other = LBFGS(3), LBFGS(3)
    for step in range(3):
        with pytest.raises(NumericalError, match="not finite"):
            lbfgs.step(x, loss, bad)
        lbfgs.step(x, 1.0, good * (3 - step))
        other.step(undisturbed, 1.0, good * (3 - step))
        np.testing.assert_array_equal(x, undisturbed)


def test_bad_arguments_are_named():
    for arguments, message in [
        ({"n": 0}, "n=0"),
        ({"n": 3, "history": 0}, "history=0"),
        ({"n": 3, "rate": -1.0}, "rate=-1.0"),
        ({"n": 3, "rate": float("nan")}, "rate=nan"),
        ({"n": 3, "threads": 0}, "threads=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            LBFGS(**arguments)
    lbfgs, good = LBFGS(3), np.zeros(3, np.float32)
    frozen = good.copy()
    frozen.flags.writeable = False
    for x in (np.zeros(3), [0, 0, 0], frozen, np.zeros(6, np.float32)[::2]):
        with pytest.raises(ValueError, match=r"x: must be a writable, contiguous float32"):
            lbfgs.step(x, 1.0, good)
    with pytest.raises(ValueError, match="gradient: has 4 values; give 3"):
        lbfgs.step(good, 1.0, np.zeros(4, np.float32))


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        LBFGS(2**30, history=2**31 - 1)


@pytest.mark.filterwarnings("error")
def test_every_failed_allocation_is_a_memory_error():
    for allocation in range(20):
        try:
            LBFGS(5, threads=2, fail_at=allocation)
        except MemoryError:
            continue
        break
    assert 5 < allocation < 19


def test_state_and_memory_move_to_another():
    first, second = (LBFGS(50, 3) for _ in range(2))
    x = np.linspace(-1, 1, 50, dtype=np.float32)
    scale = np.linspace(1, 3, 50, dtype=np.float32)
    for _ in range(5):
        first.step(x, 1.0, scale * x)
    assert np.asarray(first).shape == (8, 50)
    np.asarray(second)[...] = np.asarray(first)
    second.state = first.state
    assert second.state[:2] == first.state[:2]
    np.testing.assert_array_equal(second.state[2], first.state[2])
    other = x.copy()
    for _ in range(3):
        first.step(x, 1.0, scale * x)
        second.step(other, 1.0, scale * other)
        np.testing.assert_array_equal(x, other)


@pytest.mark.parametrize(
    "state",
    [
        None,
        (True, 0),
        (True, 0, np.ones((1, 2, 0, 0))),
        (True, -1, np.ones((1, 2, 1, 1))),
        (True, 3, np.ones((1, 2, 3, 3))),
        (True, 0, np.ones((1, 2, 4, 4))),
        (True, 0, np.ones((1, 2, 1, 2))),
        (True, 0, np.ones((1, 1, 1, 1))),
        (True, 0, np.ones((1, 2, 1, 1), np.float32)),
        (True, 0, "x"),
    ],
)
def test_what_is_no_state_is_refused(state):
    lbfgs = LBFGS(50, 3)
    with pytest.raises((ValueError, TypeError), match=r"LBFGS\.state"):
        lbfgs.state = state
    started, newest, products = lbfgs.state
    assert (started, newest, products.shape) == (False, -1, (1, 2, 0, 0))


def test_variables_of_a_plan_move_as_arrays_do():
    graph, shape = _core.Graph(), (1, 3, 4, 5)
    x = np.linspace(-1, 1, 60, dtype=np.float32)
    variable = graph.variable("x", x.reshape(shape))
    slope = graph.variable("slope", np.zeros(shape, np.float32))
    many = graph.variable("many", np.zeros((1, 20, 3, 1), np.float32))
    updates = [graph.keep_update(slope, graph.affine(variable, scale=3)), graph.affine(many)]
    plan = graph.compile(updates)
    bound, free = LBFGS(60, 2, plan=plan), LBFGS(60, 2)
    for _ in range(5):
        free.step(x, 1.0, 3 * x)
        plan.run()
        bound.step("x", 1.0, "slope")
        np.testing.assert_array_equal(plan.get("x").ravel(), x)
    rows = np.asarray(bound)
    np.testing.assert_array_equal(bound.get_row(3, "x").ravel(), rows[3])
    bound.set_row(5, "x", rows[2].copy())
    np.testing.assert_array_equal(rows[5], rows[2])
    for refused, message in [
        (lambda: free.step("x", 1.0, "slope"), "give arrays, or with plan="),
        (lambda: bound.step("x", 1.0, "y"), "no input or variable 'y'"),
        (lambda: bound.step("x", 1.0, "many"), "'many' must have 60 values in at most 4 channels"),
        (lambda: bound.get_row(6, "x"), "row 6 of 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            refused()
