"""Element-wise ends of kernels: fused or not, forward and backward, the numbers are the same.

A plan computes conv -> (+ addend) -> activation in one pass where its backend can, and multiplies
the gradient by the activation's derivative in the last pass of the backward convolution.
"""

import numpy as np
import pytest
from levels import FP32_LEVELS

from depthstyle import _core

# As WINOGRAD_ERROR of op_cases.py: one convolution forward; twice as much through two.
ERROR = 3e-6
ACTIVATIONS = ["relu", "leaky_relu", "elu", "relu6", "sigmoid", "tanh"]
# channels in, between and out, then the attributes of both convolutions
NETWORKS = {
    "maps": (32, 48, 32, 3, {"pad": 1}),
    "image": (3, 64, 3, 3, {"pad": 1}),
    "tails": (20, 33, 18, 3, {"pad": 1, "pad_mode": "reflect"}),
    "strided": (16, 24, 16, 3, {"pad": 1, "stride": 2}),
    "pointwise": (32, 48, 17, 1, {}),
    "depthwise": (24, 24, 24, 3, {"pad": 1, "groups": 24}),
}
SIZE = (13, 18)


def build(network: str, kind: str, with_addend: bool):
    """Return a graph, its outputs (loss, result, gradients) and what to feed it."""
    rng = np.random.default_rng(3)
    channels_in, between, out, kernel, attrs = NETWORKS[network]
    groups = attrs.get("groups", 1)
    graph = _core.Graph()
    feed = {"x": rng.standard_normal((2, channels_in, *SIZE))}
    x = graph.input("x", feed["x"].shape)

    def convolve(node, channels):
        shape = (channels, node.shape[1] // groups, kernel, kernel)
        scale = np.sqrt(np.prod(shape[1:]))
        weight = graph.constant((rng.standard_normal(shape) / scale).astype(np.float32))
        bias = graph.constant(rng.standard_normal((1, channels, 1, 1)).astype(np.float32))
        return graph.conv2d(node, weight, bias, **attrs)

    def finish(node, name):
        if with_addend:
            feed[name] = rng.standard_normal(node.shape)
            node = graph.add(node, graph.input(name, node.shape))
        return graph.activation(node, kind=kind, alpha=0.3)

    y = finish(convolve(finish(convolve(x, between), "a"), out), "b")
    feed["weight"] = rng.standard_normal(y.shape)
    loss = graph.sum_to(graph.multiply(y, graph.input("weight", y.shape)))
    feed = {name: value.astype(np.float32) for name, value in feed.items()}
    return graph, [y, *graph.gradient(loss, [x])], feed


@pytest.mark.parametrize("with_addend", [False, True], ids=["plain", "addend"])
@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_fused_ends_compute_what_separate_nodes_do(network, kind, with_addend):
    graph, outputs, feed = build(network, kind, with_addend)
    expected = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        found = graph.compile(outputs, cpu_level=level, threads=2, poison=True).run(feed)
        for a, b in zip(found, expected, strict=True):
            assert np.linalg.norm(a - b) < 2 * ERROR * np.linalg.norm(b), level


# Ops whose last pass takes in an addend and an activation, and what they need beside x.
PASSES = {
    "instance_norm": (2, {"epsilon": 1e-3}),
    "batch_norm": (4, {"epsilon": 1e-3}),
    "affine": (0, {"scale": 1.5, "shift": -0.2}),
    "multiply": (1, {}),
    "add": (1, {}),
}
FUSED = ["relu", "leaky_relu", "relu6"]


@pytest.mark.parametrize("kind", [*FUSED, "elu"])
@pytest.mark.parametrize("channels", [3, 32, 37])
@pytest.mark.parametrize("op", PASSES)
def test_passes_take_in_an_addend_and_an_activation(op, channels, kind):
    count, attrs = PASSES[op]
    rng = np.random.default_rng(4)
    graph = _core.Graph()
    shape = (2, channels, *SIZE)
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name in ("x", "addend")}
    x, addend = (graph.input(name, shape) for name in feed)
    vectors = rng.uniform(0.5, 1.5, (count, 1, channels, 1, 1)).astype(np.float32)
    y = getattr(graph, op)(x, *map(graph.constant, vectors), **attrs)
    y = graph.activation(graph.add(y, addend), kind=kind, alpha=0.3)
    (expected,) = graph.compile([y], backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        plan = graph.compile([y], cpu_level=level, threads=2, poison=True)
        assert len(plan.dump().splitlines()) == 1 + (1 if kind in FUSED else 2)
        assert np.linalg.norm(plan.run(feed)[0] - expected) < ERROR * np.linalg.norm(expected)


# What lies in front of a convolution: its own pad, a border (top, bottom, left, right, mode), the
# factor of a nearest enlargement in front of that.
FRONTS = {
    "same": (0, (0, 1, 0, 1, "zero"), 1),
    "wide": (0, (1, 2, 3, 0, "replicate"), 1),
    "reflected": (0, (2, 1, 0, 2, "reflect"), 1),
    "enlarged": (1, None, 2),
    "both": (0, (1, 1, 1, 1, "reflect"), 2),
    "tripled": (0, (2, 2, 2, 2, "zero"), 3),
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_convolutions_read_through_borders_and_enlargements(network, front):
    rng = np.random.default_rng(4)
    channels, out, _, kernel, attrs = NETWORKS[network]
    attrs = {**attrs, "pad": FRONTS[front][0], "pad_mode": "reflect"}
    graph = _core.Graph()
    x = graph.input("x", (2, channels, 7, 10))
    node = x
    if FRONTS[front][2] > 1:
        height, width = (size * FRONTS[front][2] for size in x.shape[2:])
        node = graph.resize(node, h=height, w=width, mode="nearest")
    if border := FRONTS[front][1]:
        sides = dict(zip(("top", "bottom", "left", "right", "mode"), border, strict=True))
        node = graph.pad(node, **sides)
    shape = (out, channels // attrs.get("groups", 1), kernel, kernel)
    weight = graph.constant(rng.standard_normal(shape).astype(np.float32))
    y = graph.activation(graph.conv2d(node, weight, **attrs), kind="relu")
    feed = {"x": rng.standard_normal(x.shape).astype(np.float32)}
    (expected,) = graph.compile([y], backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        plan = graph.compile([y], cpu_level=level, threads=2, poison=True)
        (found,) = plan.run(feed)
        assert np.linalg.norm(found - expected) < ERROR * np.linalg.norm(expected), level
        assert "through" in plan.dump() and "resize" not in plan.dump()


def test_borders_with_other_readers_stay():
    graph = _core.Graph()
    x = graph.input("x", (1, 8, 6, 7))
    weight = graph.constant(np.ones((8, 8, 3, 3), np.float32))
    padded = graph.pad(x, top=1, bottom=1, left=1, right=1)
    y = graph.conv2d(padded, weight)
    for outputs in (
        [y, padded],
        [graph.conv2d(padded, weight), y],
        [graph.conv2d(padded, weight, pad=1)],
    ):
        plan = graph.compile(outputs)
        assert "through" not in plan.dump() and "pad " in plan.dump()


def test_a_gated_sum_reads_its_gate_beside_its_operands():
    rng = np.random.default_rng(5)
    shape = (1, 48, 37, 53)  # several work items, and a tail
    graph = _core.Graph()
    a, b, y = (graph.input(name, shape) for name in "aby")
    out = graph.activation_backward(graph.add(a, b), y, kind="relu")
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name in "aby"}
    expected = np.where(feed["y"] > 0, feed["a"] + feed["b"], 0)
    for level in FP32_LEVELS:
        plan = graph.compile([out], cpu_level=level, threads=2, poison=True)
        assert len(plan.dump().splitlines()) == 2
        np.testing.assert_array_equal(plan.run(feed)[0], expected)


@pytest.mark.parametrize("channels", [3, 32, 37])
def test_the_gradient_of_a_border_takes_in_an_addend_and_a_gate(channels):
    rng = np.random.default_rng(5)
    graph = _core.Graph()
    shapes = {
        "dy": (2, channels, 9, 10),
        "addend": (2, channels, 7, 8),
        "gate": (2, channels, 7, 8),
    }
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    dy, addend, gate = (graph.input(name, shape) for name, shape in shapes.items())
    dx = graph.pad_backward(dy, top=1, bottom=1, left=1, right=1, mode="reflect")
    y = graph.activation_backward(graph.add(dx, graph.affine(addend, scale=2.0)), gate)
    (expected,) = graph.compile([y], backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        plan = graph.compile([y], cpu_level=level, threads=2, poison=True)
        assert len(plan.dump().splitlines()) == 1 + 2
        assert np.linalg.norm(plan.run(feed)[0] - expected) < ERROR * np.linalg.norm(expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_convolution_does_not_overwrite_its_input_that_is_added_to_it(network):
    rng = np.random.default_rng(6)
    channels, _, _, kernel, attrs = NETWORKS[network]
    attrs = {"pad": kernel // 2, "groups": attrs.get("groups", 1)}
    graph = _core.Graph()
    x = graph.input("x", (2, channels, *SIZE))
    node = graph.affine(x, scale=2.0)
    weight = rng.standard_normal((channels, channels // attrs["groups"], kernel, kernel))
    y = graph.add(graph.conv2d(node, graph.constant(weight.astype(np.float32)), **attrs), node)
    feed = {"x": rng.standard_normal(x.shape).astype(np.float32)}
    (expected,) = graph.compile([y], backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        plan = graph.compile([y], cpu_level=level, threads=2, poison=True)
        error = np.linalg.norm(plan.run(feed)[0] - expected)
        assert error < ERROR * np.linalg.norm(expected), level
