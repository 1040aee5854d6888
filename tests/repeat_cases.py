"""What a repeated run of a plan must do on every backend.

The files of tests that import these have a fixture `place`, the options that compile for a backend.
"""

import numpy as np
import pytest

import depthstyle as ds
from depthstyle import _core

RATES = np.geomspace(0.5, 0.001, 80, dtype=np.float32)  # more than a device queues at a time


def make_descent(**options):
    """Return a plan of weight * |x - 1|^2 and a step of Adam, and the nodes to watch."""
    graph = _core.Graph()
    start = np.linspace(-1, 3, 60, dtype=np.float32).reshape(1, 3, 4, 5)
    x = graph.variable("x", start)
    scalars = {"shape": (1, 1, 1, 1), "kind": "plain"}
    weight, rate = graph.input("weight", **scalars), graph.input("rate", **scalars)
    distance = graph.feature_loss(x, graph.constant(np.ones_like(start), kind="map"))
    loss = graph.multiply(weight, distance)
    (gradient,) = graph.gradient(loss, [x])
    m, v = (graph.variable(name, np.zeros_like(start)) for name in "mv")
    step = graph.variable("step", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
    moved = graph.adam_update(x, m, v, step, gradient, rate)
    return graph.compile([loss, distance, moved], check=[loss], **options), [loss, distance]


def in_single_runs(rates, weights, place):
    plan, _ = make_descent(**place)
    seen = [
        [value.item() for value in plan.run({"rate": rate, "weight": weight})[:2]]
        for rate, weight in zip(rates, weights, strict=True)
    ]
    return np.float32(seen), plan


def test_repeat_is_as_many_single_runs(place):
    weights = np.linspace(1, 2, len(RATES), dtype=np.float32)
    expected, single = in_single_runs(RATES, weights, place)
    plan, watch = make_descent(**place)
    seen = plan.repeat(len(RATES), feeds={"rate": RATES, "weight": weights}, watch=watch)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(plan.get("x"), single.get("x"))
    assert plan.get("step").item() == len(RATES)


def test_repeat_goes_on_where_other_runs_ended(place):
    """Each part feeds other inputs and watches other outputs: a device records anew."""
    expected, single = in_single_runs(RATES[:8], np.ones(8), place)
    plan, (loss, distance) = make_descent(**place)
    parts = [
        plan.repeat(2, {"weight": 1.0}, feeds={"rate": RATES[:2]}, watch=[loss, distance])[:, 1],
        plan.repeat(3, feeds={"rate": RATES[2:5]}, watch=[distance])[:, 0],
        plan.run({"rate": RATES[5]})[1].ravel(),
    ]
    assert plan.repeat(1, {"rate": RATES[6]}).shape == (1, 0)
    parts.append(plan.run({"rate": RATES[7]})[1].ravel())
    np.testing.assert_array_equal(np.concatenate(parts), np.delete(expected[:, 1], 6))
    np.testing.assert_array_equal(plan.get("x"), single.get("x"))


@pytest.mark.parametrize("bad", [0, 2, 70])
def test_repeat_holds_still_from_the_first_loss_that_is_not_finite(place, bad):
    weights = np.ones(len(RATES), np.float32)
    weights[bad] = np.nan
    plan, watch = make_descent(**place)
    with pytest.raises(ds.NumericalError, match="not finite") as caught:
        plan.repeat(len(RATES), feeds={"rate": RATES, "weight": weights}, watch=watch)
    assert caught.value.iteration == bad
    expected, single = in_single_runs(RATES[:bad], weights[:bad], place)
    np.testing.assert_array_equal(caught.value.seen[:-1], expected.reshape(bad, 2))
    assert np.isnan(caught.value.seen[bad, 0]) and np.isfinite(caught.value.seen[bad, 1])
    np.testing.assert_array_equal(plan.get("x"), single.get("x"))
    assert plan.get("step").item() == bad
    more = {"rate": RATES[bad], "weight": 1.0}
    np.testing.assert_array_equal(plan.run(more)[2], single.run(more)[2])


def test_poll_ends_a_repeated_run_before_it_starts(place):
    plan, _ = make_descent(**place)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.repeat(10**9, {"weight": 1.0, "rate": 0.0}, poll=stop)


def test_repeat_names_bad_arguments(place):
    plan, (loss, _) = make_descent(**place)
    with pytest.raises(ValueError, match="input 'weight' has no value"):
        plan.repeat(2, feeds={"rate": [1, 2]})
    for arguments, message in [
        ({"count": 0}, "count=0"),
        ({"count": 2, "feeds": {"rote": [1, 2]}}, "no input or variable 'rote'"),
        ({"count": 2, "feeds": {"rate": [1, 2, 3]}}, "'rate'.*: give an array of 2 numbers"),
        ({"count": 2, "feeds": {"x": [1, 2]}}, "no scalar input"),
        ({"count": 2, "watch": [plan.outputs[2]]}, "no scalar output"),
        ({"count": 2, "watch": [loss] * 65}, "at most 64"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan.repeat(**arguments, inputs={"weight": 1.0, "rate": 1.0})
    assert plan.get("step").item() == 0
