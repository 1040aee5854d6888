"""What the table of ops does not reach in the convolution kernels: threads, buffers, large maps."""

import numpy as np
import pytest
from levels import FP32_LEVELS

from depthstyle import _core

# As WINOGRAD_ERROR of op_cases.py.
ERROR = 3e-6
# channels in and out, kernel size, attributes: one of each way of working
KERNELS = {
    "winograd by tile": (24, 72, 3, {"pad": 1}),
    "winograd by group": (272, 384, 3, {"pad": 1}),
    "direct": (20, 72, 5, {"pad": 2}),
    "strided": (20, 72, 3, {"pad": 1, "stride": 2}),
    "pointwise": (40, 72, 1, {}),
    "from an image": (3, 72, 3, {"pad": 1}),
    "depthwise": (40, 40, 5, {"pad": 2, "groups": 40, "stride": 2}),
    "grouped": (64, 64, 3, {"pad": 1, "groups": 8}),
    "by set": (144, 288, 3, {"pad": 1, "stride": 2}),
}


def convolution(kernel: str, size: tuple[int, int], end: str):
    """Return a graph, its outputs (result, gradient) and what to feed it.

    The input is used twice, by the convolution and by `end`, so that its gradient is a sum.
    """
    rng = np.random.default_rng(5)
    channels, out, taps, attrs = KERNELS[kernel]
    graph = _core.Graph()
    x = graph.input("x", (2, channels, *size))
    doubled = graph.affine(x, scale=2.0)
    width = channels // attrs.get("groups", 1)
    weight = rng.standard_normal((out, width, taps, taps)) / np.sqrt(width * taps**2)
    y = graph.conv2d(doubled, graph.constant(weight.astype(np.float32)), **attrs)
    seed = graph.constant(rng.standard_normal(y.shape).astype(np.float32), kind="map")
    loss = graph.sum_to(graph.multiply(y, seed))
    if end == "shared":
        target = graph.constant(np.zeros(x.shape, np.float32), kind="map")
        loss = graph.add(loss, graph.feature_loss(doubled, target))
    feed = {"x": rng.standard_normal(x.shape).astype(np.float32)}
    return graph, [y, *graph.gradient(loss, [x])], feed


@pytest.mark.parametrize("kernel", KERNELS)
def test_same_bits_for_any_number_of_threads(kernel):
    graph, outputs, feed = convolution(kernel, (13, 23), "alone")
    for level in FP32_LEVELS:
        one = graph.compile(outputs, cpu_level=level, threads=1).run(feed)
        for threads in (2, 3):
            more = graph.compile(outputs, cpu_level=level, threads=threads).run(feed)
            for a, b in zip(one, more, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_added_to_another_in_its_buffer(kernel):
    graph, outputs, feed = convolution(kernel, (7, 11), "shared")
    expected = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        found = graph.compile(outputs, cpu_level=level, threads=2, poison=True).run(feed)
        for a, b in zip(found, expected, strict=True):
            assert np.linalg.norm(a - b) < ERROR * np.linalg.norm(b), level


@pytest.mark.parametrize("channels", [3, 8])
def test_output_larger_than_the_caches(channels):
    rng = np.random.default_rng(6)
    graph = _core.Graph()
    x = graph.input("x", (1, channels, 221, 241))
    weight = graph.constant(rng.standard_normal((64, channels, 3, 3)).astype(np.float32))
    y = graph.conv2d(x, weight, pad=1)
    feed = {"x": rng.standard_normal(x.shape).astype(np.float32)}
    (expected,) = graph.compile([y], backend="ref", dtype="float64").run(feed)
    for level in FP32_LEVELS:
        (found,) = graph.compile([y], cpu_level=level, threads=2).run(feed)
        assert np.linalg.norm(found - expected) < ERROR * np.linalg.norm(expected), level
