"""Adam, SGD, clamp and keep: the formulas step by step in float64, and what must be refused."""

import numpy as np
import pytest
from levels import FP32_LEVELS

from depthstyle import _core

# A plane with a tail, a map in blocks with empty lanes, several pieces of work.
SHAPES = [(1, 3, 5, 7), (2, 20, 3, 3), (1, 2, 67, 131)]
RATES = [0.5, 0.5, 0.5, 0.05, 0.05]


def run(op, shape, states, attrs, gradients, **options):
    """Return x after every step, the states at the end, and the start."""
    start = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    graph = _core.Graph()
    nodes = [graph.variable("x", start)]
    for name in states:
        scalar = name == "step"
        zeros = np.zeros((1, 1, 1, 1) if scalar else shape, np.float32)
        nodes.append(graph.variable(name, zeros, kind="plain" if scalar else "map"))
    nodes += [graph.input("gradient", shape), graph.input("rate", (1, 1, 1, 1), kind="plain")]
    plan = graph.compile([getattr(graph, op)(*nodes, **attrs)], **options)
    path = [plan.run({"gradient": g, "rate": r})[0] for g, r in zip(gradients, RATES, strict=True)]
    np.testing.assert_array_equal(plan.get("x"), path[-1])
    return path, {name: plan.get(name) for name in states}, start.astype(np.float64)


def random_gradients(shape):
    return np.random.default_rng(1).standard_normal((len(RATES), *shape)).astype(np.float32)


REF = [({"backend": "ref", "dtype": "float64"}, 1e-14), ({"backend": "ref"}, 2e-6)]
BACKENDS = [*REF, *(({"cpu_level": level, "threads": 2}, 2e-6) for level in FP32_LEVELS)]


@pytest.mark.parametrize(("options", "tolerance"), BACKENDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(shape, decay, options, tolerance):
    gradients = random_gradients(shape)
    path, states, x = run(
        "adam_update",
        shape,
        ["m", "v", "step"],
        {"weight_decay": decay},
        gradients,
        **options,
    )
    m = v = np.zeros(shape)
    for t, (gradient, rate, found) in enumerate(zip(gradients, RATES, path, strict=True), 1):
        g = gradient + decay * x
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        # float32: the rate and each state round once a step, and x is of order one.
        np.testing.assert_allclose(found, x, rtol=0, atol=(1e-7 if "dtype" in options else 1e-5))
    assert states["step"] == len(RATES)
    np.testing.assert_allclose(states["m"], m, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(states["v"], v, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("options", "tolerance"), BACKENDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
def test_sgd(shape, momentum, decay, options, tolerance):
    gradients = random_gradients(shape)
    attrs = {"momentum": momentum, "weight_decay": decay}
    path, states, x = run("sgd_update", shape, ["velocity"], attrs, gradients, **options)
    velocity = np.zeros(shape)
    for gradient, rate, found in zip(gradients, RATES, path, strict=True):
        velocity = momentum * velocity + gradient + decay * x
        x = x - rate * velocity
        np.testing.assert_allclose(found, x, rtol=tolerance, atol=4 * tolerance)
    np.testing.assert_allclose(states["velocity"], velocity, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("options", [options for options, _ in BACKENDS], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_clamp_is_per_channel_and_keeps_nan(shape, options):
    c = shape[1]
    start = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    start[0, 0, 0, 0] = np.nan
    low = np.linspace(-1, 0, c, dtype=np.float32).reshape(1, c, 1, 1)
    high = low + 0.5
    graph = _core.Graph()
    update = graph.clamp_update(
        graph.variable("x", start), graph.constant(low), graph.constant(high)
    )
    plan = graph.compile([update], **options)
    np.testing.assert_array_equal(plan.run()[0], np.clip(start, low, high))
    np.testing.assert_array_equal(plan.get("x"), np.clip(start, low, high))


@pytest.mark.parametrize("options", [options for options, _ in BACKENDS], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_keep_copies_always_or_where_the_value_is_lower(shape, options):
    graph, one = _core.Graph(), (1, 1, 1, 1)
    x, value = graph.input("x", shape), graph.input("value", one, kind="plain")
    last, best = (graph.variable(name, np.zeros(shape, np.float32)) for name in ("last", "best"))
    least = graph.variable("least", np.full(one, np.inf, np.float32), kind="plain")
    updates = [graph.keep_update(last, x), graph.keep_update(best, x, least, value)]
    plan = graph.compile(updates, **options)
    pictures = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    lowest = None
    for number, loss in enumerate([3.0, 2.0, 2.0, np.nan, 1.0]):
        if number in (0, 1, 4):
            lowest = number
        kept = plan.run({"x": pictures[number], "value": loss})
        np.testing.assert_array_equal(kept[0], pictures[number])
        np.testing.assert_array_equal(kept[1], pictures[lowest])
    assert plan.get("least").item() == 1


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"beta1": 1.0}, "beta1=1"),
        ({"beta2": -0.1}, "beta2=-0.1"),
        ({"epsilon": 0.0}, "epsilon=0"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
    ],
)
def test_bad_settings_of_adam(attrs, message):
    with pytest.raises(ValueError, match=f"adam_update: {message}"):
        run("adam_update", (1, 3, 2, 2), ["m", "v", "step"], attrs, [])


def test_bad_shapes():
    graph = _core.Graph()
    x, small = graph.variable("x", np.zeros((1, 3, 4, 4))), graph.input("small", (1, 3, 4, 3))
    one = graph.constant(np.zeros((1, 1, 1, 1)))
    with pytest.raises(ValueError, match="sgd_update: gradient has shape"):
        graph.sgd_update(x, x, small, one)
    with pytest.raises(ValueError, match="sgd_update: rate has shape"):
        graph.sgd_update(x, x, x, small)
    with pytest.raises(ValueError, match="sgd_update: momentum=1"):
        graph.sgd_update(x, x, x, one, momentum=1.0)
    with pytest.raises(ValueError, match="adam_update: step has shape"):
        graph.adam_update(x, x, x, x, x, one)
    with pytest.raises(ValueError, match="clamp_update: low has shape"):
        graph.clamp_update(x, one, one)
    with pytest.raises(ValueError, match="keep_update: x has shape"):
        graph.keep_update(x, small)
    with pytest.raises(ValueError, match="keep_update: least needs a value"):
        graph.keep_update(x, x, one)
    with pytest.raises(ValueError, match="keep_update: value has shape"):
        graph.keep_update(x, x, one, small)
