"""Plans: where tensors lie, what is fused, in which order steps run, what happens to NaN."""

import re

import numpy as np
import pytest

from depthstyle import _core
from depthstyle.errors import NumericalError

LINE = 64  # every tensor starts on a cache line


@pytest.mark.parametrize(
    ("lives", "offsets", "total"),
    [
        pytest.param([], [], 0, id="nothing"),
        pytest.param([(0, 0, 1)], [0], LINE, id="rounded up to a line"),
        pytest.param([(0, 1, 100), (1, 2, 100)], [0, 128], 256, id="overlap in one step"),
        pytest.param([(0, 1, 100), (2, 3, 100)], [0, 0], 128, id="one after the other"),
        pytest.param(
            [(0, 1, 64), (1, 2, 128), (2, 3, 64)], [128, 0, 128], 192, id="largest at the bottom"
        ),
        pytest.param(
            [(0, 9, 512), (0, 2, 256), (0, 9, 192), (3, 9, 128), (3, 9, 64)],
            [0, 512, 768, 512, 640],
            960,
            id="two share the place of a dead third",
        ),
        pytest.param(
            [(0, 9, 640), (0, 3, 320), (0, 9, 256), (0, 3, 192), (0, 9, 128), (5, 9, 100)],
            [0, 640, 960, 1216, 1408, 1216],
            1536,
            id="the smallest gap that fits",
        ),
        pytest.param([(0, 0, 0), (0, 0, 64)], [0, 0], 64, id="empty workspace"),
    ],
)
def test_offsets_are_exactly_these(lives, offsets, total):
    assert _core.memory_plan(lives, True) == (offsets, total)


def test_without_reuse_everything_has_its_own_place():
    assert _core.memory_plan([(0, 0, 64), (1, 1, 64), (2, 2, 1)], False) == ([0, 64, 128], 192)


def test_random_lives_never_collide():
    random = np.random.default_rng(5)
    for _ in range(200):
        first = random.integers(0, 30, 40)
        last = first + random.integers(0, 12, 40)
        size = random.integers(0, 2000, 40)
        lives = [tuple(map(int, row)) for row in zip(first, last, size, strict=True)]
        offsets, total = _core.memory_plan(lives, True)
        separate = sum(-(-bytes_ // LINE) * LINE for _, _, bytes_ in lives)
        assert total <= separate
        for i, (a, b, n) in enumerate(lives):
            assert offsets[i] % LINE == 0
            assert offsets[i] + n <= total
            for j, (c, d, m) in enumerate(lives[:i]):
                together = a <= d and c <= b
                apart = offsets[i] + n <= offsets[j] or offsets[j] + m <= offsets[i]
                assert apart or not together or not n or not m


def steps(plan):
    """Ops of the plan's steps, in order."""
    return [line.split()[1] for line in plan.dump().splitlines()[1:]]


def random_graph(seed):
    """A random graph of maps (1, 32, 9, 7) with a loss and the gradient to its input."""
    random = np.random.default_rng(seed)
    graph = _core.Graph()
    x = graph.input("x", (1, 32, 9, 7))
    weight = graph.constant(np.float32(random.standard_normal((32, 32, 3, 3)) / 17))
    maps, losses = [x], []
    for _ in range(12):
        a, b = (maps[i] for i in random.integers(0, len(maps), 2))
        kind = random.integers(0, 8)
        if kind == 0:
            maps.append(graph.conv2d(a, weight, pad=1))
        elif kind == 1:
            maps.append(graph.add(a, b))
        elif kind == 2:
            maps.append(graph.activation(a, kind="relu"))
        elif kind == 3:
            maps.append(graph.activation(a, kind="tanh"))
        elif kind == 4:
            maps.append(graph.multiply(graph.affine(a, scale=0.5), b))
        elif kind == 5:
            maps.append(graph.slice(graph.concat(a, b), axis=1, begin=16, end=48))
        elif kind == 6:
            both = graph.concat(graph.affine(a, scale=0.5), graph.concat(b, a))
            maps.append(graph.add(graph.slice(both, axis=1, begin=32, end=64), a))
        else:
            losses.append(graph.sum_to(graph.gram(a, scale=1 / 63)))
    total = graph.feature_loss(maps[-1], x, scale=1 / 63)
    for loss in losses:
        total = graph.add(total, loss)
    (gradient,) = graph.gradient(total, [x])
    return graph, [total, gradient], np.float32(random.standard_normal((1, 32, 9, 7)))


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_random_graphs_give_the_same_bits_under_every_plan(seed, backend):
    graph, outputs, x = random_graph(seed)
    results = [
        graph.compile(outputs, backend=backend, **options).run({"x": x})
        for options in ({}, {"reuse": False}, {"poison": True}, {"reuse": False, "poison": True})
    ]
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert np.array_equal(a, b)
            assert np.isfinite(a).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_gives_the_same_bits_again(seed):
    graph, outputs, x = random_graph(seed)
    plan = graph.compile(outputs)
    first = plan.run({"x": x})
    plan.run({"x": x + 1})
    for a, b in zip(plan.run({"x": x}), first, strict=True):
        assert np.array_equal(a, b)


def network():
    """Three convolutions with ReLU, a pool, a Gram and a content loss, the gradient."""
    random = np.random.default_rng(0)
    graph = _core.Graph()
    x = graph.input("x", (1, 16, 16, 16))
    w = graph.constant(np.float32(random.standard_normal((16, 16, 3, 3)) / 12))
    bias = graph.constant(np.zeros((1, 16, 1, 1), np.float32))
    first = graph.activation(graph.conv2d(x, w, bias, pad=1))
    middle = graph.activation(graph.conv2d(first, w, bias, pad=1))
    second = graph.activation(graph.conv2d(graph.max_pool(middle), w, bias, pad=1))
    style = graph.feature_loss(graph.gram(first), graph.constant(np.ones((1, 1, 16, 16), "f")))
    content = graph.feature_loss(second, graph.constant(np.ones(second.shape, "f"), kind="map"))
    total = graph.add(style, content)
    (gradient,) = graph.gradient(total, [x])
    return graph, total, gradient


def test_element_wise_ends_are_fused_on_cpu_and_not_on_ref():
    graph, total, gradient = network()
    fused = steps(graph.compile([total, gradient]))
    assert "activation" not in fused
    # That of the deepest map follows a loss, which ends with nothing.
    assert fused.count("activation_backward") == 1
    plain = steps(graph.compile([total, gradient], backend="ref"))
    assert plain.count("activation") == plain.count("activation_backward") == 3


def test_an_asked_intermediate_is_not_fused_away():
    graph = _core.Graph()
    x = graph.input("x", (1, 16, 8, 8))
    w = graph.constant(np.float32(np.random.default_rng(1).standard_normal((16, 16, 3, 3))))
    raw = graph.conv2d(x, w, pad=1)
    relu = graph.activation(raw)
    picture = np.float32(np.random.default_rng(2).standard_normal((1, 16, 8, 8)))
    before, after = graph.compile([raw, relu]).run({"x": picture})
    assert (before < 0).any()
    assert np.array_equal(np.maximum(before, 0), after)


def test_dead_nodes_do_not_run():
    graph, total, gradient = network()
    assert len(steps(graph.compile([total]))) < len(steps(graph.compile([total, gradient])))
    x = graph.input("unused", (1, 1, 1, 1))
    graph.affine(x, scale=2)
    graph.compile([total]).run({"x": np.zeros((1, 16, 16, 16), np.float32)})


def test_a_style_gradient_is_made_right_before_it_is_added():
    graph, total, gradient = network()
    order = steps(graph.compile([total, gradient]))
    assert order.index("gram_backward") > order.index("max_pool_backward")


def test_memory_is_reused():
    graph, total, gradient = network()
    reused = graph.compile([total, gradient]).bytes
    separate = graph.compile([total, gradient], reuse=False).bytes
    assert reused < 0.8 * separate


def test_updates_run_after_everything_that_reads_the_old_value():
    graph = _core.Graph()
    x = graph.variable("x", np.float32([[[[1, 2, 3]]]]))
    rate = graph.constant(np.float32([[[[0.5]]]]))
    velocity = graph.variable("velocity", np.zeros((1, 1, 1, 3), np.float32))
    loss = graph.feature_loss(x, graph.constant(np.zeros((1, 1, 1, 3), "f"), kind="map"))
    (gradient,) = graph.gradient(loss, [x])
    updated = graph.sgd_update(x, velocity, gradient, rate)
    double = graph.affine(x, scale=2)
    plan = graph.compile([updated, double, loss])
    new, twice, value = plan.run()
    assert value.item() == 14
    assert np.array_equal(twice.ravel(), [2, 4, 6])
    assert np.array_equal(new.ravel(), [0, 0, 0])
    assert np.array_equal(plan.get("x").ravel(), [0, 0, 0])


@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_nan_is_traced_to_the_first_node_and_leaves_variables_alone(backend):
    graph = _core.Graph()
    x = graph.variable("image", np.float32([[[[1e30, 2]]]]))
    square = graph.multiply(x, x)
    loss = graph.sum_to(graph.affine(square))
    (gradient,) = graph.gradient(loss, [x])
    velocity = graph.variable("velocity", np.zeros((1, 1, 1, 2), np.float32))
    rate = graph.constant(np.float32([[[[0.5]]]]))
    updated = graph.sgd_update(x, velocity, gradient, rate)
    plan = graph.compile([loss, updated], backend=backend, check=[loss])
    with pytest.raises(NumericalError, match=re.escape(f"multiply #{square.id}")):
        plan.run()
    assert np.array_equal(plan.get("image").ravel(), np.float32([1e30, 2]))
    plan.set("image", np.float32([[[[np.nan, 2]]]]))
    with pytest.raises(NumericalError, match="'image'"):
        plan.run()


def test_the_graph_may_grow_after_a_plan_was_made():
    graph, total, gradient = network()
    plan = graph.compile([total, gradient])
    x = np.float32(np.random.default_rng(3).standard_normal((1, 16, 16, 16)))
    before = plan.run({"x": x})
    for _ in range(1000):
        total = graph.affine(total, scale=1.0)
    for a, b in zip(plan.run({"x": x}), before, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("channels", [(16, 32, 16), (32, 20), (20, 32), (16, 3)])
def test_inputs_of_a_concat_are_made_in_its_memory(channels):
    random = np.random.default_rng(6)
    graph = _core.Graph()
    x = graph.input("x", (1, 16, 20, 20))
    weights = [np.float32(random.standard_normal((c, 16, 1, 1))) for c in channels]
    parts = [graph.activation(graph.conv2d(x, graph.constant(w))) for w in weights]
    joined = graph.concat(*parts)
    outputs = [graph.affine(joined, scale=2.0), parts[0], graph.affine(parts[1], scale=3.0)]
    picture = np.float32(random.standard_normal((1, 16, 20, 20)))
    plan = graph.compile(outputs)
    expected = graph.compile(outputs, reuse=False).run({"x": picture})
    for _ in range(2):
        for a, b in zip(plan.run({"x": picture}), expected, strict=True):
            assert np.array_equal(a, b)
    begins = np.cumsum((0, *channels[:-1]))
    last = len(channels) - 1
    convolutions = [line for line in plan.dump().splitlines() if "conv2d" in line]
    assert [line.endswith("in place") for line in convolutions] == [
        c > 4 and begin % 16 == 0 and (c % 16 == 0 or i == last)
        for i, (c, begin) in enumerate(zip(channels, begins, strict=True))
    ]
