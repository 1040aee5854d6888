"""The kernels on AMX's tiles on a machine without them: registers in plain C (amx_emulator/).

Networks of integers against the definition, to the bit; the rows of bf16 of the tables of ops; an
iteration of Gatys; and bugs that are planted in a copy of the sources, which must be found.
"""

import shutil

import numpy as np
import pytest
import test_ops
from amx_emulator.build import CSRC, build, load
from op_cases import BF16_ERROR, EPS
from test_ops import CASES, cases
from tile_cases import CONVOLUTIONS, ENDS, GRAMS, gatys, gram, integers, network, pooled, styled

from depthstyle.errors import NumericalError

OPS = ("conv2d", "conv2d_backward_input", "gram", "gram_backward")
TILED = [case for case in CASES if case.op in OPS]
LEVEL = "amx"


@pytest.fixture(scope="module")
def core(amx_core):
    """The emulated engine."""
    return amx_core


def differences(problem, threads: int = 1, precision: str = "bf16") -> int:
    """Return how many values differ from the definition."""
    graph, outputs, feed = problem
    expected = graph.compile(outputs, backend="ref", precision=precision).run(feed)
    options = {"cpu_level": LEVEL, "threads": threads, "precision": precision, "poison": True}
    plan = graph.compile(outputs, **options)
    assert "tiles" in plan.dump()
    return sum((a != b).sum() for a, b in zip(plan.run(feed), expected, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(core, name, threads):
    assert differences(network(CONVOLUTIONS[name], core=core), threads) == 0


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["no border", "strided", "1x1 where it lies"])
def test_beginnings_and_ends(core, name, end, precision):
    assert differences(network(CONVOLUTIONS[name], end, core=core), precision=precision) == 0


@pytest.mark.parametrize("end", ["relu", "enlarged", "bordered", "both"])
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if "image" in name])
def test_images_in_mixed_precision(core, name, end):
    assert differences(network(CONVOLUTIONS[name], end, core=core), 3, "mixed") == 0


def test_weights_that_are_inputs(core):
    assert differences(network(CONVOLUTIONS["strided"], constant=False, core=core)) == 0


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", GRAMS)
def test_gram(core, sizes, threads, precision):
    assert differences(gram(*sizes, core=core), threads, precision) == 0


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """Round to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).view(np.float32)


def steps(plan, op: str) -> list[str]:
    """Return the lines of a dump with the steps of an op."""
    return [line for line in plan.dump().splitlines()[1:] if line.split()[1] == op]


# Whose gradient to a map takes no style gradient in, and the others.
APART = ("image in", "image out", "strided", "reflected border")
STYLED = [n for n in CONVOLUTIONS if not any(word in n for word in ("image", "stri", "refl"))]


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("end", ["none", "relu", "leaky_relu", "addend"])
@pytest.mark.parametrize("name", STYLED)
def test_style_gradients_are_summed_with_the_convolution(core, name, end, precision):
    """To the bit the sum, rounded once: S has two parts, and so have features in mixed."""
    bits = (6, 11) if precision == "bf16" else (11, 5)
    graph, outputs, feed = styled(CONVOLUTIONS[name], end, bits, core=core)
    (exact,) = graph.compile(outputs, backend="ref", dtype="float64").run(feed)
    for threads in (1, 3):
        options = {"cpu_level": LEVEL, "threads": threads, "precision": precision, "poison": True}
        plan = graph.compile(outputs, **options)
        (line,) = steps(plan, "conv2d_backward_input")
        assert "+ gram" in line and ("+ addend" in line) == (end == "addend")
        assert not steps(plan, "gram_backward")
        np.testing.assert_array_equal(plan.run(feed)[0], round_to_bf16(exact))


@pytest.mark.parametrize("name", APART)
def test_style_gradients_that_stay_a_step(core, name):
    graph, outputs, feed = styled(CONVOLUTIONS[name], bits=(1, 1), core=core)
    plan = graph.compile(outputs, cpu_level=LEVEL, threads=2, precision="bf16", poison=True)
    assert "+ gram" not in plan.dump() and steps(plan, "gram_backward")
    (expected,) = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
    np.testing.assert_array_equal(plan.run(feed)[0], expected)


@pytest.mark.parametrize("added", ["features", "output"])
def test_style_gradients_beside_other_readers(core, added):
    """A sum with the features themselves, which are read until the end, or a gradient asked for."""
    rng = np.random.default_rng(15)
    graph = core.Graph()
    shapes = {"x": (1, 40, 9, 20), "dy": (1, 64, 9, 20), "dg": (1, 1, 40, 40)}
    feed = {name: integers(rng, shape) for name, shape in shapes.items()}
    x, dy = (graph.input(name, shapes[name]) for name in ("x", "dy"))
    weight = graph.constant(integers(rng, (64, 40, 3, 3), 1))
    features = graph.activation(x)
    style = graph.gram_backward(features, graph.input("dg", shapes["dg"], "plain"))
    dx = graph.add(graph.conv2d_backward_input(dy, weight, h=9, w=20, pad=1), style)
    outputs = [graph.add(dx, features)] if added == "features" else [dx, style]
    expected = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
    plan = graph.compile(outputs, cpu_level=LEVEL, threads=2, precision="bf16", poison=True)
    (line,) = steps(plan, "conv2d_backward_input")
    assert ("+ gram" in line) == (added == "features")
    for found, wanted in zip(plan.run(feed), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", ["none", "relu"])
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if "image out" not in name])
def test_gradients_of_pools_are_read_from_what_was_pooled(core, name, end, threads, precision):
    graph, outputs, feed = pooled(CONVOLUTIONS[name], end, core=core)
    (expected,) = graph.compile(outputs, backend="ref", precision=precision).run(feed)
    options = {"cpu_level": LEVEL, "threads": threads, "precision": precision, "poison": True}
    plan = graph.compile(outputs, **options)
    (line,) = steps(plan, "conv2d_backward_input")
    assert "unpooled" in line
    assert not steps(plan, "max_pool_backward") and not steps(plan, "activation_backward")
    np.testing.assert_array_equal(plan.run(feed)[0], expected)


@pytest.mark.parametrize(
    ("name", "end", "window"),
    [
        ("image out", "relu", {}),
        ("strided", "leaky_relu", {}),
        ("no border", "relu", {"ceil": True}),
        ("no border", "relu", {"kernel": 3}),
        ("no border", "none", {"kernel": 3, "pad": 1}),
        ("no border", "relu", {"stride": 3}),
    ],
)
def test_gradients_of_pools_that_stay_a_step(core, name, end, window):
    graph, outputs, feed = pooled(CONVOLUTIONS[name], end, core=core, **window)
    (expected,) = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
    plan = graph.compile(outputs, cpu_level=LEVEL, threads=2, precision="bf16", poison=True)
    assert "unpooled" not in plan.dump() and steps(plan, "max_pool_backward")
    np.testing.assert_array_equal(plan.run(feed)[0], expected)


def raw_pool(core, gate: str):
    """Return the last ops of `pooled` alone, of zeros of both signs, plus what was pooled."""
    rng = np.random.default_rng(17)
    graph = core.Graph()
    shapes = {"dy": (2, 40, 5, 11), "x": (2, 40, 11, 23), "gate": (2, 40, 11, 23)}
    feed = {name: integers(rng, shape, 1) for name, shape in shapes.items()}
    feed["x"] = np.copysign(np.maximum(feed["x"], 0), rng.standard_normal(shapes["x"]))
    feed["x"] = feed["x"].astype(np.float32)
    dy, x, other = (graph.input(name, shape) for name, shape in shapes.items())
    x = graph.activation(x, kind="leaky_relu", alpha=1.0)  # in memory that others may take over
    pool = dx = graph.max_pool_backward(dy, x, kernel=2, stride=2)
    if gate:
        dx = graph.activation_backward(dx, {"x": x, "gate": other}[gate])
    weight = graph.constant(integers(rng, (40, 40, 3, 3), 1))
    dx = graph.conv2d_backward_input(dx, weight, h=11, w=23, pad=1)
    return graph, [graph.add(dx, x), pool], feed


@pytest.mark.parametrize(
    ("gate", "count", "unpooled"),
    [("", 1, True), ("x", 1, True), ("gate", 1, False), ("", 2, False), ("x", 2, False)],
)
def test_pools_with_zeros_of_both_signs_other_gates_and_other_readers(core, gate, count, unpooled):
    graph, outputs, feed = raw_pool(core, gate)
    expected = graph.compile(outputs[:count], backend="ref", precision="bf16").run(feed)
    options = {"cpu_level": LEVEL, "threads": 2, "precision": "bf16", "poison": True}
    plan = graph.compile(outputs[:count], **options)
    assert ("unpooled" in plan.dump()) == unpooled
    for found, wanted in zip(plan.run(feed), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@cases(TILED)
def test_value_in_bf16(core, case, monkeypatch):
    """As test_ops.py, on this level alone."""
    monkeypatch.setattr(test_ops, "_core", core)
    monkeypatch.setattr(test_ops, "ALL_LEVELS", [LEVEL])
    test_ops.test_value_in_bf16(case)


@cases([case for case in TILED if case.op in ("conv2d", "gram")])
def test_forward_in_mixed_precision(core, case, monkeypatch):
    """Three products of bf16: both operands lose 2^-18 of their size, and so much is left out."""
    monkeypatch.setattr(test_ops, "_core", core)
    inputs = case.inputs()
    expected = test_ops.reference(case, inputs)
    bound = case.bound(inputs, lambda absolute: test_ops.reference(case, absolute))
    size = bound / ((4 * np.sqrt(case.terms) + 8) * EPS)
    program = test_ops.compile_on(case, inputs, LEVEL, precision="mixed")
    if "tiles" not in program.plan.dump():
        pytest.skip("another kernel, as in fp32")
    (found,) = program(inputs)
    assert (np.abs(found - expected) - bound - 3 * 2.0**-18 * size).max() <= 0


@pytest.mark.parametrize("pool", ["avg_pool", "max_pool"])
@pytest.mark.parametrize("precision", ["bf16", "mixed"])
def test_iteration(core, precision, pool):
    """Near the definition: its sums are rounded in another order; equal for any threads."""
    graph, outputs, feed = gatys(core, pool)
    expected = graph.compile(outputs, backend="ref", precision=precision).run(feed)
    options = {"cpu_level": LEVEL, "precision": precision}
    plans = [graph.compile(outputs, threads=n, **options) for n in (1, 2, 5)]
    assert len(steps(plans[0], "gram_backward")) == 1  # of the last layer
    assert not steps(plans[0], "max_pool_backward")
    found = [plan.run(feed) for plan in plans]
    for a, b in zip(found[0], expected, strict=True):
        assert test_ops.relative_error(a, b) < BF16_ERROR
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


# A file of csrc/cpu, what stands there and what a mistake would make of it.
BUGS = {
    "the tiles are not given back": ("k/tiles_amx.h", "    tile_release();\n", ""),
    "the tiles are not configured": ("k/tiles_amx.h", "tile_configure(&config);", "(void)config;"),
    "a sum begins with the last one": ("k/tiles_amx.h", "    tile_zero(2);\n", ""),
    "rows of a ladder lie too far apart": ("k/tiles_amx.h", "x + 4 * row", "x + 5 * row"),
    "a column too many at the tail": (
        "conv_tiles.c",
        "ds_minimum(columns - c, DS_TILE_ROWS)",
        "ds_minimum(columns - c + 1, DS_TILE_ROWS)",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(bug, amx_module, tmp_path):
    sources = shutil.copytree(CSRC, tmp_path / "csrc")
    name, right, wrong = BUGS[bug]
    path = sources / "cpu" / name
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    core = load(build(tmp_path, sources, amx_module.parent))
    try:
        assert differences(network(CONVOLUTIONS["no border"], core=core)) > 0
    except NumericalError as error:
        assert "wrote behind its output" in str(error)
