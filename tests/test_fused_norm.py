"""Instance norm and what else wants statistics of a map, behind and before convolutions by tiles.

Such a convolution measures its output while it writes it, so that means and variances are those of
the stored values, and normalises its input while it reads it. On the level that this processor has,
and on AMX's, emulated.
"""

import johnson_files
import numpy as np
import pytest
from levels import BF16_LEVELS
from op_cases import BF16_ERROR, EPS
from test_ops import relative_error

from depthstyle import _core, networks

# A tile sums up 64 values of a channel.
TILE_TERMS = 64
# So little that a variance of rounding errors would show.
EPSILON = 1e-20


@pytest.fixture(params=BF16_LEVELS)
def engine(request):
    """A module of the engine and its level that multiplies bf16."""
    if request.param == "amx":
        return request.getfixturevalue("amx_core"), "amx"
    if request.param not in _core.cpu_levels():
        pytest.skip("this processor has no instructions for bf16")
    return _core, request.param


def constant(graph, rng, shape, mean=0.0, deviation=1.0):
    """Add normal values."""
    return graph.constant((mean + deviation * rng.standard_normal(shape)).astype(np.float32))


def convolve(graph, rng, x, channels, kernel=3, mean=0.0, deviation=1.0, **attrs):
    """Add a convolution whose outputs are about normal, and in the first channel all the same."""
    shape = (channels, x.shape[1], kernel, kernel)
    weight = rng.standard_normal(shape) * deviation / np.sqrt(np.prod(shape[1:]))
    weight[0] = 0
    bias = constant(graph, rng, (1, channels, 1, 1), mean)
    return graph.conv2d(x, graph.constant(weight.astype(np.float32)), bias, **attrs)


def transposed(graph, rng, x, channels, height, width):
    """Add a transposed convolution of stride 2."""
    weight = constant(graph, rng, (x.shape[1], channels, 3, 3), 0.2, 0.1)
    return graph.conv2d_backward_input(x, weight, stride=2, pad=1, h=height, w=width)


def ended(graph, rng, x):
    """Add a convolution with everything that its end may be."""
    y = convolve(graph, rng, x, x.shape[1], pad=1)
    return graph.activation(graph.add(y, x), kind="leaky_relu", alpha=0.3)


# The input, and what makes a map of it.
MADE = {
    "strided, tails": ((2, 40, 15, 35), lambda *a: convolve(*a, 72, pad=1, stride=2)),
    "segments": ((1, 64, 9, 1100), lambda *a: convolve(*a, 32, pad=1, stride=2)),
    "1x1 where it lies": ((2, 40, 12, 20), lambda *a: convolve(*a, 80, kernel=1)),
    "1x1 with a tail": ((2, 40, 7, 9), lambda *a: convolve(*a, 80, kernel=1)),
    "transposed": ((2, 40, 9, 19), lambda *a: transposed(*a, 24, 17, 38)),
    "a pixel": ((2, 40, 3, 3), lambda *a: convolve(*a, 24, stride=3)),
    "large mean": ((2, 40, 15, 70), lambda *a: convolve(*a, 24, mean=200, deviation=2, stride=2)),
    "image": ((2, 3, 19, 35), lambda *a: convolve(*a, 24, mean=200, kernel=5, pad=2)),
    "same size": ((2, 40, 19, 35), lambda *a: convolve(*a, 24, mean=200, pad=1)),
    "with an end": ((2, 40, 19, 35), ended),
}


def build(core, made):
    """Return a graph, its random numbers, an input, a map made of it, and what to feed."""
    rng = np.random.default_rng(7)
    shape, make = MADE[made]
    graph = core.Graph()
    x = graph.input("x", shape)
    feed = {"x": rng.standard_normal(shape).astype(np.float32)}
    return graph, rng, x, make(graph, rng, x), feed


def is_by_tiles(plan) -> bool:
    """Return whether the first step is a convolution by tiles."""
    return "tiles" in plan.dump().splitlines()[1]


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("made", MADE)
def test_measured_maps_have_the_moments_of_what_is_stored(engine, made, precision):
    core, level = engine
    graph, _, _, z, feed = build(core, made)
    outputs = [z, graph.moments(z, epsilon=EPSILON, unbiased=False)]
    found = []
    for threads in (1, 3):
        options = {"cpu_level": level, "precision": precision, "poison": True}
        plan = graph.compile(outputs, threads=threads, **options)
        if not is_by_tiles(plan):
            pytest.skip(f"{level} has a faster kernel for this one")
        assert "measured" in plan.dump().splitlines()[1]
        found.append(plan.run(feed))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    values = found[0][0].astype(np.float64).reshape(*z.shape[:2], -1)
    moments = found[0][1].reshape(*z.shape[:2], 2)
    mean, variance = values.mean(-1), values.var(-1)
    # The sums are those of differences from one of the values.
    largest = np.abs(values - mean[..., None]).max(-1)
    terms = 4 * np.sqrt(TILE_TERMS) + 8
    assert (np.abs(moments[..., 0] - mean) <= EPS * (np.abs(mean) + 2 * terms * largest)).all()
    error = np.abs(moments[..., 1].astype(np.float64) ** 2 - variance - EPSILON)
    bound = EPS * (4 * (variance + EPSILON) + 2 * terms * (variance + largest**2))
    assert (error <= bound).all()
    assert (largest == 0).any() or made in ("transposed", "with an end")


@pytest.mark.parametrize("whole_batch", [False, True], ids=["picture", "batch"])
@pytest.mark.parametrize("made", ["strided, tails", "transposed", "large mean"])
def test_steps_that_find_statistics_compute_what_the_definition_does(engine, made, whole_batch):
    """A norm and its gradients, AdaIN, beside a concatenation that takes the map in as well."""
    core, level = engine
    graph, rng, x, z, feed = build(core, made)
    channels = z.shape[1]
    gamma, beta = (constant(graph, rng, (1, channels, 1, 1), mean, 0.2) for mean in (1, 0))
    y = graph.instance_norm(z, gamma, beta, epsilon=1e-3, whole_batch=whole_batch)
    style = constant(graph, rng, (1, channels, 1, 2), 2, 0.2)
    both = graph.concat(z, graph.adain(z, style, epsilon=1e-3))
    seed = graph.input("seed", y.shape)
    feed["seed"] = rng.standard_normal(y.shape).astype(np.float32)
    loss = graph.sum_to(graph.multiply(y, seed))
    outputs = [both, y, *graph.gradient(loss, [x, gamma])]
    expected = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
    options = {"cpu_level": level, "precision": "bf16", "poison": True}
    plan = graph.compile(outputs, threads=1, **options)
    assert " measured" in plan.dump()
    found = plan.run(feed)
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 2 * BF16_ERROR
    for other in ({"threads": 3}, {"threads": 1, "reuse": False}):
        for a, b in zip(found, graph.compile(outputs, **options, **other).run(feed), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_norm_takes_over_the_memory_of_a_measured_map(engine):
    core, level = engine
    graph, _, _, z, feed = build(core, "strided, tails")
    plan = graph.compile([graph.instance_norm(z)], cpu_level=level, precision="bf16", poison=True)
    lines = plan.dump().splitlines()
    assert "measured" in lines[1] and "in place" in lines[2]
    assert np.isfinite(plan.run(feed)[0]).all()


def test_a_measured_map_is_no_part_of_another(engine):
    """There the next part would lie where its statistics belong."""
    core, level = engine
    rng = np.random.default_rng(8)
    graph = core.Graph()
    x = graph.input("x", (1, 40, 15, 35))
    z, other = (convolve(graph, rng, x, 64, pad=1, stride=2) for _ in range(2))
    outputs = [graph.concat(z, other), graph.moments(z)]
    plan = graph.compile(outputs, cpu_level=level, precision="bf16", poison=True)
    assert " measured" in plan.dump()
    joined, moments = plan.run({"x": rng.standard_normal(x.shape).astype(np.float32)})
    np.testing.assert_allclose(moments[0, :, 0, 0], joined[0, :64].mean((1, 2)), atol=1e-6)


# Between a norm and a convolution: an activation, the factor of an enlargement, a border (top,
# bottom, left, right, mode), the convolution.
FRONTS = {
    "bare": (None, 1, None, {"pad": 1, "stride": 2}),
    "relu": ("relu", 1, None, {"pad": 1, "stride": 2}),
    "leaky": ("leaky_relu", 1, None, {"pad": 1, "pad_mode": "reflect", "stride": 2}),
    "relu6, zeros": ("relu6", 1, (0, 1, 0, 1, "zero"), {"stride": 2}),
    "replicated": ("relu", 1, (1, 2, 3, 0, "replicate"), {"dilation": 2}),
    "enlarged": ("relu", 2, None, {"pad": 1, "stride": 2}),
    "enlarged, reflected": ("relu", 2, (2, 1, 0, 2, "reflect"), {"stride": 2}),
    "1x1": ("relu", 1, None, {"kernel": 1}),
    "same size": ("relu", 1, (1, 1, 1, 1, "reflect"), {}),
}
VECTORS = ("both", "gamma", "neither")


def read(graph, node, front):
    """Add what lies between a norm and a convolution."""
    kind, factor, border, _ = FRONTS[front]
    if kind:
        node = graph.activation(node, kind=kind, alpha=0.3)
    made = node
    if factor > 1:
        node = graph.resize(node, h=factor * node.shape[2], w=factor * node.shape[3])
    if border:
        sides = ("top", "bottom", "left", "right", "mode")
        node = graph.pad(node, **dict(zip(sides, border, strict=True)))
    return made, node


def check_fused(core, level, graph, made, y, feed, precision="bf16"):
    """Compare a plan with one that has to store what the norm makes, and with the definition."""
    options = {"cpu_level": level, "precision": precision, "poison": True}
    plan = graph.compile([y], threads=1, **options)
    if "tiles" not in plan.dump().splitlines()[-1]:
        pytest.skip(f"{level} has a faster kernel for this one")
    assert "through norm" in plan.dump() and "instance_norm" not in plan.dump()
    (found,) = plan.run(feed)
    for threads in (1, 3):
        (other,) = graph.compile([y], threads=threads, **options).run(feed)
        np.testing.assert_array_equal(found, other)
    separate = graph.compile([y, made], threads=1, **options)
    assert "through norm" not in separate.dump() and "instance_norm" in separate.dump()
    np.testing.assert_array_equal(found, separate.run(feed)[0])
    (expected,) = graph.compile([y], backend="ref", precision=precision).run(feed)
    assert relative_error(found, expected) < BF16_ERROR


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("front", FRONTS)
def test_convolutions_normalise_what_they_read(engine, front, vectors, precision):
    core, level = engine
    graph, rng, _, z, feed = build(core, "strided, tails")
    channels = z.shape[1]
    affine = [constant(graph, rng, (1, channels, 1, 1), mean, 0.3) for mean in (1, 0)]
    affine = affine[: len(VECTORS) - 1 - VECTORS.index(vectors)]
    affine = [graph.affine(vector, scale=2.0, shift=0.5) for vector in affine]  # made by a step
    node = graph.instance_norm(z, *affine, epsilon=1e-3, whole_batch=vectors == "gamma")
    made, node = read(graph, node, front)
    y = graph.activation(convolve(graph, rng, node, 40, **FRONTS[front][3]), kind="relu")
    check_fused(core, level, graph, made, y, feed, precision)


@pytest.mark.parametrize("channels", [8, 16, 33, 64])
def test_maps_that_nobody_measured_are_normalised_too(engine, channels):
    """An input; empty lanes and blocks with one half."""
    core, level = engine
    rng = np.random.default_rng(9)
    graph = core.Graph()
    x = graph.input("x", (2, channels, 13, 37))
    made = graph.activation(graph.instance_norm(x), kind="relu")
    y = convolve(graph, rng, made, 24, stride=2, pad=1)
    check_fused(core, level, graph, made, y, {"x": rng.standard_normal(x.shape) + 100})


def test_a_transposed_convolution_normalises_what_it_reads(engine):
    core, level = engine
    graph, rng, _, z, feed = build(core, "strided, tails")
    made = graph.activation(graph.instance_norm(z), kind="relu")
    check_fused(core, level, graph, made, transposed(graph, rng, made, 24, 15, 36), feed)


def test_what_was_normalised_may_be_added(engine):
    core, level = engine
    graph, rng, _, z, feed = build(core, "strided, tails")
    made = graph.instance_norm(z)
    check_fused(core, level, graph, made, graph.add(convolve(graph, rng, made, 72, pad=1), z), feed)


def test_a_norm_behind_an_enlargement(engine):
    """It divides by the same deviation as before it."""
    core, level = engine
    graph, rng, _, z, feed = build(core, "strided, tails")
    node = graph.resize(z, h=2 * z.shape[2], w=2 * z.shape[3])
    node = graph.activation(graph.instance_norm(node), kind="relu")
    y = convolve(graph, rng, node, 24, pad=1, stride=2)
    plan = graph.compile([y], cpu_level=level, precision="bf16", poison=True)
    assert "resize" not in plan.dump() and "instance_norm" not in plan.dump()
    (expected,) = graph.compile([y], backend="ref", precision="bf16").run(feed)
    assert relative_error(plan.run(feed)[0], expected) < BF16_ERROR


def test_norms_with_other_readers_stay(engine):
    """Of a graph with gradients, of a residual block, outputs; and those before another norm."""
    core, level = engine
    graph, rng, x, z, feed = build(core, "strided, tails")
    norm = graph.activation(graph.instance_norm(z), kind="leaky_relu", alpha=0.5)
    y = convolve(graph, rng, norm, 72, pad=1, stride=1)
    again = convolve(graph, rng, graph.instance_norm(norm), 24, pad=1, stride=2)
    seed = graph.input("seed", y.shape)
    feed["seed"] = rng.standard_normal(y.shape).astype(np.float32)
    gradients = graph.gradient(graph.sum_to(graph.multiply(y, seed)), [x])
    for outputs in ([y, *gradients], [y, norm], [graph.add(y, norm)], [again]):
        plan = graph.compile(outputs, cpu_level=level, precision="bf16", poison=True)
        assert "instance_norm" in plan.dump()
        expected = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
        for a, b in zip(plan.run(feed), expected, strict=True):
            assert relative_error(a, b) < 4 * BF16_ERROR


def test_a_border_before_a_norm_stays(engine):
    """It has a part in the statistics."""
    core, level = engine
    graph, rng, _, z, feed = build(core, "strided, tails")
    node = graph.instance_norm(graph.pad(z, top=1, bottom=1, left=1, right=1))
    y = convolve(graph, rng, node, 24, stride=2)
    plan = graph.compile([y], cpu_level=level, precision="bf16", poison=True)
    assert "pad " in plan.dump() and "through norm" in plan.dump()
    (expected,) = graph.compile([y], backend="ref", precision="bf16").run(feed)
    assert relative_error(plan.run(feed)[0], expected) < BF16_ERROR


# Five before residual sums, one whose result is read by a residual block and the sum behind it;
# then one before another norm, and one of an image. Batch norms are folded into convolutions.
NORMS_LEFT = {
    "pytorch-examples": 5 + 1,
    "original": 5 + 1,
    "original-batch": 0,
    "original-nearest": 5 + 1 + 1,
    "lengstrom": 5 + 1 + 1,
}


@pytest.mark.parametrize("form", johnson_files.FORMS)
def test_johnson(amx_core, form):
    weights, x = johnson_files.weights(form), johnson_files.picture(form)
    graph = amx_core.Graph()
    node = graph.input("x", x.shape)
    (y,) = networks.build("johnson").add(graph, node, weights, ["output"]).values()

    def run(**options):
        return graph.compile([y], **options).run({"x": x})[0]

    exact = run(backend="ref", dtype="float64")
    options = {"cpu_level": "amx", "precision": "bf16"}
    lines = graph.compile([y], **options).dump().splitlines()
    norms = [line for line in lines if "instance_norm" in line]
    assert len(norms) == NORMS_LEFT[form]
    assert sum("+ addend" in line for line in norms) == min(len(norms), 5)
    found = run(**options, threads=1, poison=True)
    np.testing.assert_array_equal(found, run(**options, threads=3, reuse=False))
    defined = run(backend="ref", precision="bf16")
    assert relative_error(found, exact) < 1.25 * relative_error(defined, exact)
