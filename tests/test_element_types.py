"""bf16 in whole plans: which tensors have it, its rounding, and that backends agree on results."""

import numpy as np
import pytest
from cuda_cases import FINE_IMAGES, RATE, check_fine_images, make_iteration
from op_cases import BF16_ERROR, narrow
from test_fusion import NETWORKS, build

from depthstyle import _core

LEVELS = _core.cpu_levels()


def steps(plan) -> list[str]:
    """Return the lines of a plan's dump without the head."""
    return plan.dump().splitlines()[1:]


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_feature_maps_are_bf16_and_images_are_not(backend):
    half = {
        precision: {
            line.split()[1]
            for line in steps(make_iteration(backend=backend, precision=precision))
            if " bf16" in line
        }
        for precision in ("fp32", "bf16", "mixed")
    }
    assert half["fp32"] == set()
    backward = {"max_pool_backward", "gram_backward", "conv2d_backward_input"}
    assert half["mixed"] >= backward and "conv2d" not in half["mixed"]
    assert half["bf16"] >= {*backward, "conv2d", "max_pool"}
    plain = {"gram", "feature_loss", "total_variation", "total_variation_backward", "adam_update"}
    assert not plain & (half["bf16"] | half["mixed"])


@pytest.mark.parametrize("sizes", FINE_IMAGES)
def test_images_count_with_16_bits(sizes):
    check_fine_images(*sizes, backend="ref")
    for level in LEVELS:
        check_fine_images(*sizes, cpu_level=level, threads=2, poison=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("precision", ["bf16", "mixed"])
def test_iterations_follow_the_reference(precision, level):
    """The reference rounds before each fused end and the CPU after it: a step of bf16 apart."""
    found = make_iteration(precision=precision, cpu_level=level, threads=2, poison=True)
    expected = make_iteration(backend="ref", precision=precision)
    for _ in range(3):
        loss, image = found.run(RATE)
        wanted, _ = expected.run(RATE)
        np.testing.assert_allclose(loss, wanted, rtol=BF16_ERROR)
    assert np.isfinite(image).all()
    assert found.get("steps").item() == 3


@pytest.mark.parametrize("kind", ["relu", "elu"])
@pytest.mark.parametrize("network", NETWORKS)
def test_fused_ends_in_mixed_precision(network, kind):
    """The gates are fp32, what they let through is bf16, after at most four roundings."""
    graph, outputs, feed = build(network, kind, with_addend=True)
    expected = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    for level in LEVELS:
        plan = graph.compile(outputs, precision="mixed", cpu_level=level, threads=2, poison=True)
        for a, b in zip(plan.run(feed), expected, strict=True):
            assert np.linalg.norm(a - b) < 4 * BF16_ERROR * np.linalg.norm(b), level


def build_ends(network: str, kind: str):
    """Return a graph of a convolution, forward and backward, with ends, its outputs and inputs.

    The gate is given: where a rounding decides on which side of a kink a value lies, the gradients
    of two backends differ by more than roundings.
    """
    rng = np.random.default_rng(8)
    channels, out, _, kernel, attrs = NETWORKS[network]
    graph = _core.Graph()
    feed = {}

    def give(name, shape):
        feed[name] = narrow(rng.standard_normal(shape).astype(np.float32))
        return graph.input(name, shape)

    weight = rng.standard_normal((out, channels // attrs.get("groups", 1), kernel, kernel))
    weight = graph.constant(narrow(weight.astype(np.float32)))
    x = give("x", (2, channels, 13, 18))
    y = graph.conv2d(x, weight, **attrs)
    dx = graph.conv2d_backward_input(give("dy", y.shape), weight, h=13, w=18, **attrs)
    y = graph.activation(graph.add(y, give("a", y.shape)), kind=kind, alpha=0.3)
    dx = graph.add(dx, give("b", x.shape))
    return graph, [y, graph.activation_backward(dx, give("gate", x.shape), kind=kind)], feed


@pytest.mark.parametrize("kind", ["relu", "elu"])
@pytest.mark.parametrize("network", NETWORKS)
def test_fused_ends_in_bf16(network, kind):
    """At most three roundings, and one where the end is fused."""
    graph, outputs, feed = build_ends(network, kind)
    expected = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    plans = [graph.compile(outputs, backend="ref", precision="bf16")]
    for level in LEVELS:
        plans.append(graph.compile(outputs, precision="bf16", cpu_level=level, poison=True))
    for plan in plans:
        for a, b in zip(plan.run(feed), expected, strict=True):
            assert np.linalg.norm(a - b) < 3 * BF16_ERROR * np.linalg.norm(b)


SPECIAL = [
    *(0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-40, 2.0**-133),
    # a tie to even below and above, and the floats beside them
    *(1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-23, 1 + 3 * 2.0**-8 - 2.0**-23),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("channels", [5, 33, 64])
def test_rounding_to_bf16(channels, level):
    values = np.random.default_rng(0).standard_normal(300) * 10.0 ** np.arange(-38, 37, 0.25)
    values = np.array([*SPECIAL, *values], np.float32).reshape(1, 1, 1, -1)
    graph = _core.Graph()
    x = graph.input("x", values.shape, kind="plain")
    y = graph.broadcast(x, n=1, c=channels, h=1, w=values.size, kind="map")
    (found,) = graph.compile([y], precision="bf16", cpu_level=level, poison=True).run({"x": values})
    with np.errstate(over="ignore"):
        expected = np.where(np.isnan(values), values, narrow(values))
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    assert (np.signbit(found) == np.signbit(expected))[~np.isnan(found)].all()


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_variables_that_updates_change_stay_fp32(backend):
    rng = np.random.default_rng(6)
    start = rng.standard_normal((1, 8, 5, 6)).astype(np.float32)
    graph = _core.Graph()
    x = graph.variable("x", start)
    m, v = (graph.variable(name, np.zeros_like(start)) for name in ("m", "v"))
    fixed = graph.variable("fixed", start)
    count = graph.variable("count", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
    rate = graph.input("rate", (1, 1, 1, 1), kind="plain")
    (gradient,) = graph.gradient(graph.dot(x, x), [x])
    updated = graph.adam_update(x, m, v, count, gradient, rate)
    outputs = [updated, graph.add(fixed, fixed)]
    plan = graph.compile(outputs, backend=backend, precision="bf16", poison=True)
    np.testing.assert_array_equal(plan.get("x"), start)
    np.testing.assert_array_equal(plan.get("fixed"), narrow(start))
    moved, doubled = plan.run({"rate": np.full((1, 1, 1, 1), 1e-4, np.float32)})
    # The first step of Adam is the rate against the sign of the gradient.
    np.testing.assert_allclose(start - moved, 1e-4 * np.sign(start), rtol=1e-2)
    np.testing.assert_array_equal(doubled, narrow(narrow(start) * 2))


def test_float64_arrays_enter_and_leave():
    x = np.random.default_rng(7).standard_normal((2, 37, 3, 4))
    graph = _core.Graph()
    y = graph.affine(graph.input("x", x.shape), scale=1)
    for backend in ("ref", "cpu"):
        (found,) = graph.compile([y], backend=backend, precision="bf16").run({"x": x})
        np.testing.assert_array_equal(found, narrow(x.astype(np.float32)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"precision": "half"}, "precision='half' must be one of fp32.tf32.bf16.mixed"),
        ({"precision": "tf32"}, "precision='tf32' is of GPUs"),
        ({"precision": "tf32", "backend": "ref"}, "precision='tf32' is of GPUs"),
        (
            {"precision": "bf16", "backend": "ref", "dtype": "float64"},
            "precision='bf16' must be 'fp32' with dtype='float64'",
        ),
    ],
)
def test_precisions_that_a_backend_lacks(options, message):
    graph = _core.Graph()
    with pytest.raises(ValueError, match=message):
        graph.compile([graph.input("x", (1, 8, 2, 2))], **options)
