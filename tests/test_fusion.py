"""Element-wise ends of kernels: fused or not, forward and backward, the numbers are the same.

A plan computes conv -> (+ addend) -> activation in one pass where its backend can, and multiplies
the gradient by the activation's derivative in the last pass of the backward convolution.
"""

import numpy as np
import pytest

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
    for level in _core.cpu_levels():
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
    for level in _core.cpu_levels():
        plan = graph.compile([y], cpu_level=level, threads=2, poison=True)
        assert len(plan.dump().splitlines()) == 1 + (1 if kind in FUSED else 2)
        assert np.linalg.norm(plan.run(feed)[0] - expected) < ERROR * np.linalg.norm(expected)
