"""Depth networks against PyTorch modules with the same seeded weights (golden/depth_modules.py).

In float64 the reference kernels must agree with PyTorch to rounding. In float32 PyTorch's own
distance from its float64 result is the yardstick: Winograd's F(4x4,3x3) rounds up to ten times as
coarsely as the direct convolution that PyTorch computes, and no more is allowed here.
"""

from pathlib import Path

import depth_weights
import numpy as np
import pytest

from depthstyle import _core, networks

NAMES = tuple(depth_weights.SHAPES)
WINOGRAD = 10
# below this, one rounding of one float32 number is what the yardstick measures
FLOOR = 2 * np.finfo(np.float32).eps
EXACT = 1e-12


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "depth_networks.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def arrays(name):
    return depth_weights.weights(name)


def error(found, wanted):
    return np.linalg.norm(np.asarray(found, np.float64) - wanted) / np.linalg.norm(wanted)


def directions(found):
    """What to multiply the outputs with, in the form that the module returns."""
    if isinstance(found, dict):
        return {key: depth_weights.direction(y.shape) for key, y in found.items()}
    return depth_weights.direction(found.shape)


def test_float64_agrees_with_pytorch(name, arrays, golden):
    network = networks.build(name)
    weights = {key: array.astype(np.float64) for key, array in arrays.items()}
    graph = _core.Graph()
    x = graph.input("x", depth_weights.SIZES[name], kind="map")
    wanted = network.returns or network.layers[-1:]
    nodes = network.add(graph, x, weights, wanted)
    total = None
    for node in nodes.values():
        dy = graph.constant(depth_weights.direction(node.shape), kind="map")
        part = graph.sum_to(graph.multiply(node, dy))
        total = part if total is None else graph.add(total, part)
    gradient = graph.gradient(total, [x])
    plan = graph.compile([*nodes.values(), *gradient], backend="ref", dtype="float64")
    *values, gradient = plan.run({"x": depth_weights.input_of(name).astype(np.float64)})
    for key, value in zip(nodes, values, strict=True):
        expected = golden[f"{name}/{depth_weights.label(key)}"]
        assert error(value.reshape(expected.shape), expected) < EXACT
    assert error(depth_weights.thinned(gradient), golden[f"{name}/gradient"]) < EXACT


def assert_as_exact(found, golden, key):
    wanted = golden[key]
    allowed = WINOGRAD * max(float(golden[f"{key}/error"]), FLOOR)
    assert error(found, wanted) < max(allowed, float(golden[f"{key}/worst"])), key


def test_float32_is_as_exact_as_pytorchs(name, arrays, golden):
    net = networks.load(name, arrays)
    x = depth_weights.input_of(name)
    found = net(x)
    maps = found if isinstance(found, dict) else {"depth": found}
    for key, value in maps.items():
        wanted = f"{name}/{depth_weights.label(key)}"
        assert value.shape == golden[wanted].shape
        assert_as_exact(value, golden, wanted)
    gradient = net.gradient(x, directions(found))
    assert gradient.shape == x.shape
    assert_as_exact(depth_weights.thinned(gradient), golden, f"{name}/gradient")
