"""The binding: the list of ops, arguments, arrays in and out."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

import depthstyle
from depthstyle import _core

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def scale_plan(shape=(1, 3, 4, 5), **options):
    """A plan of y = 2 x + 1."""
    g = _core.Graph()
    x = g.input("x", shape)
    return g.compile([g.affine(x, scale=2, shift=1)], **options)


class Exported:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


# The list of ops


def test_every_op_is_a_method_with_its_sentence():
    for op in _core.ops():
        assert callable(getattr(_core.Graph, op["name"]))
        if op["inputs"] != (0, 0):
            doc = getattr(_core.Graph, op["name"]).__doc__
            assert doc.endswith(op["text"])
            assert all(f"{attribute['name']}=" in doc for attribute in op["attributes"])


def test_stub_is_made_from_the_list_of_ops():
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources of the engine are not beside the tests")
    script = runpy.run_path(str(ROOT / "csrc" / "py" / "make_stub.py"))
    stub = (ROOT / "depthstyle" / "_core.pyi").read_text()
    assert script["make_stub"]() == stub, "run: make stub"


def test_stub_names_everything_of_the_module():
    stub = (Path(depthstyle.__file__).parent / "_core.pyi").read_text()
    for name in dir(_core):
        assert name.startswith("__") or f" {name}" in stub
    for kind in (_core.Graph, _core.Node, _core.Plan):
        for name in vars(kind):
            assert name.startswith("__") or f"def {name}(" in stub


# Arguments


def test_nodes_tell_what_they_are():
    g = _core.Graph()
    x = g.input("x", (2, 3, 8, 9))
    w = g.constant(np.zeros((4, 3, 3, 3), np.float32), name="weights")
    y = g.conv2d(x, w, pad=1)
    assert (x.op, x.name, x.kind, x.shape, x.id) == ("input", "x", "map", (2, 3, 8, 9), 0)
    assert (w.op, w.name, w.kind) == ("constant", "weights", "plain")
    assert y.shape == (2, 4, 8, 9)
    assert y.graph is g
    assert g.size == 3
    assert repr(y) == "<Node conv2d #2 (2, 4, 8, 9)>"
    assert repr(x) == "<Node input #0 'x' (2, 3, 8, 9)>"


def test_nodes_compare_by_graph_and_number():
    g, other = _core.Graph(), _core.Graph()
    x, stranger = g.input("x", (1, 1, 1, 1)), other.input("x", (1, 1, 1, 1))
    (again,) = g.compile([x]).outputs
    assert again == x and again is not x and hash(again) == hash(x)
    assert x != stranger
    assert x != 0
    with pytest.raises(TypeError):
        x < again  # noqa: B015


def test_a_gradient_that_is_zero_everywhere_is_an_error():
    g = _core.Graph()
    x, other = g.input("x", (1, 3, 8, 8)), g.input("other", (1, 3, 8, 8))
    loss = g.sum_to(x)
    with pytest.raises(ValueError, match="the loss does not depend on input #1 'other'"):
        g.gradient(loss, [x, other])
    with pytest.raises(ValueError, match="was defined after the loss"):
        g.gradient(loss, [g.affine(loss)])
    (dx,) = g.gradient(loss, (x,))
    assert dx.shape == x.shape
    assert g.gradient(loss, []) == []


def test_optional_inputs_may_be_none():
    g = _core.Graph()
    x = g.input("x", (1, 3, 8, 8))
    w = g.constant(np.zeros((4, 3, 3, 3)))
    assert g.conv2d(x, w, None).shape == g.conv2d(x, w).shape
    with pytest.raises(TypeError, match="conv2d: input 1: NoneType is no node"):
        g.conv2d(x, None)


@pytest.mark.parametrize(
    ("attributes", "error", "words"),
    [
        ({"strid": 1}, TypeError, "conv2d: no attribute 'strid'; it takes stride, pad, dilation"),
        ({"stride": "2"}, ValueError, "conv2d: stride='2' must be an integer"),
        ({"stride": 1.5}, ValueError, "conv2d: stride=1.5 must be an integer"),
        ({"stride": True}, ValueError, "conv2d: stride=True must be an integer"),
        ({"stride": 2**70}, ValueError, "conv2d: stride=1180591620717411303424 must be an integer"),
        ({"pad_mode": "wrap"}, ValueError, r"conv2d: pad_mode='wrap' must be one of zero\|reflect"),
        ({"pad_mode": "zer"}, ValueError, "pad_mode='zer' must be one of"),
        ({"pad_mode": 1}, ValueError, "pad_mode=1 must be one of"),
        ({"pad_mode": "\ud800"}, ValueError, "pad_mode=.* must be one of"),
    ],
)
def test_bad_attributes_are_named(attributes, error, words):
    g = _core.Graph()
    x, w = g.input("x", (1, 3, 8, 8)), g.constant(np.zeros((4, 3, 3, 3)))
    with pytest.raises(error, match=words):
        g.conv2d(x, w, **attributes)
    assert g.size == 2


def test_bad_numbers_and_flags_are_named():
    g = _core.Graph()
    x = g.input("x", (1, 3, 8, 8))
    for bad in (np.nan, np.inf, "1", None, True, 1j):
        with pytest.raises(ValueError, match=r"affine: scale=.* must be a finite number"):
            g.affine(x, scale=bad)
    for bad in (1, "yes", None):
        with pytest.raises(ValueError, match=r"max_pool: ceil=.* must be True or False"):
            g.max_pool(x, ceil=bad)
    assert g.affine(x, scale=np.float32(2), shift=-1).shape == x.shape
    assert g.max_pool(x, kernel=np.int64(2), ceil=True).shape == (1, 3, 4, 4)


def test_bad_inputs_are_named():
    g, other = _core.Graph(), _core.Graph()
    x, stranger = g.input("x", (1, 3, 8, 8)), other.input("x", (1, 3, 8, 8))
    for bad, error, words in [
        (lambda: g.add(x), ValueError, "add: 1 inputs given, 2"),
        (lambda: g.add(x, x, x), ValueError, "add: 3 inputs given, at most 2 wanted: a, b"),
        (lambda: g.add(x, 3), TypeError, "add: input 1: int is no node; wrap an array"),
        (lambda: g.add(x, stranger), ValueError, "add: input 1: .* belongs to another graph"),
        (lambda: g.concat(*[x] * 40), ValueError, "concat: 40 inputs given, at most 8"),
        (lambda: g.gradient(x, [x]), ValueError, "gradient: loss has shape"),
        (lambda: g.gradient(x, 3), TypeError, "gradient: wrt: int is no sequence"),
        (lambda: g.gradient(x, [stranger]), ValueError, "gradient: wrt: .* another graph"),
        (lambda: g.compile(x), TypeError, "compile: outputs: .*Node is no sequence"),
        (lambda: g.compile([]), ValueError, "compile: outputs is empty"),
        (lambda: g.compile([x], check=[stranger]), ValueError, "compile: check: .* another graph"),
        (lambda: g.input("x", (1, 3, 8, 8)), ValueError, "input: name='x' is taken"),
        (lambda: g.input("", (1, 3, 8, 8)), ValueError, "input: name='' must not be empty"),
        (lambda: g.input("y" * 64, (1, 3, 8, 8)), ValueError, "must have at most 63 bytes"),
        (lambda: g.input("y", (3, 8, 8)), ValueError, r"shape=\(3, 8, 8\) must be four integers"),
        (lambda: g.input("y", 3), ValueError, "shape=3 must be four integers"),
        (lambda: g.input("y", (1, 0, 8, 8)), ValueError, "every dimension must be at least 1"),
        (lambda: g.input("y", (2**40, 2, 8, 8)), ValueError, "at most 2.40"),
        (lambda: g.input("y", (1, 1, 1, 1), kind="image"), ValueError, "kind='image' must be one"),
        (lambda: g.constant(np.zeros((0, 1, 1, 1))), ValueError, "at least 1"),
    ]:
        with pytest.raises(error, match=words):
            bad()
    assert g.size == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "gpu"}, r"compile: backend='gpu' must be one of cpu\|ref"),
        ({"dtype": "float16"}, r"compile: dtype='float16' must be one of float32\|float64"),
        ({"dtype": "float64"}, "dtype='float64' must be 'float32' unless backend='ref'"),
        ({"threads": 0}, "threads=0 must be an integer from 1 to 256, or None"),
        ({"threads": 10**6}, "threads=1000000 must be"),
        ({"threads": 1.5}, "threads=1.5 must be"),
        ({"threads": True}, "threads=True must be"),
        ({"cpu_level": "sse9"}, r"compile: cpu_level='sse9' must be one of \['portable'"),
    ],
)
def test_bad_compile_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        scale_plan(**options)


def test_a_plan_tells_what_it_is():
    plan = scale_plan(backend="ref", dtype="float64")
    assert (plan.backend, plan.dtype) == ("ref", "float64")
    plan = scale_plan(threads=2, cpu_level="portable")
    assert (plan.backend, plan.dtype) == ("cpu", "float32")
    assert (plan.threads, plan.cpu_level) == (2, "portable")
    assert plan.bytes >= 2 * 4 * 60
    assert "affine" in plan.dump()


def test_default_threads(monkeypatch):
    try:
        _core.set_num_threads(3)
        assert _core.get_num_threads() == 3
        assert scale_plan().threads == 3
        assert scale_plan(threads=1).threads == 1
        with pytest.raises(ValueError, match="threads=0 must be"):
            _core.set_num_threads(0)
        assert _core.get_num_threads() == 3
    finally:
        _core.set_num_threads(None)
    if hasattr(os, "sched_getaffinity"):
        assert _core.get_num_threads() == min(len(os.sched_getaffinity(0)), 256)


def test_cpu_features_can_be_masked(monkeypatch):
    best = _core.cpu_levels()
    assert best[0] == "portable"
    assert scale_plan().cpu_level == best[-1]
    monkeypatch.setenv("DEPTHSTYLE_CPU", "portable")
    assert _core.cpu_levels() == ["portable"]
    assert scale_plan().cpu_level == "portable"
    monkeypatch.setenv("DEPTHSTYLE_CPU", "mmx")
    message = r"DEPTHSTYLE_CPU='mmx' must be one of portable\|neon\|avx2\|avx512"
    for refused in (_core.cpu_levels, scale_plan):
        with pytest.raises(ValueError, match=message):
            refused()


# Arrays in and out


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "<f4"), ("ref", "<f4"), ("ref", "<f8")])
@pytest.mark.parametrize("channels", [3, 5, 17])
def test_values_pass_through_every_layout(rng, backend, dtype, channels):
    values = rng.normal(size=(2, channels, 3, 7)).astype(dtype)
    plan = scale_plan(values.shape, backend=backend, dtype=values.dtype.name)
    (out,) = plan.run({"x": values})
    np.testing.assert_array_equal(out, 2 * values + 1)
    np.testing.assert_array_equal(plan.get("x"), values)
    assert out.dtype == values.dtype and out.flags.c_contiguous and out.flags.owndata


DTYPES = ["?", "i1", "u1", "i2", "u2", "<i4", ">u4", "i8", "f2", "<f4", ">f4", "<f8", ">f8", "g"]
VIEWS = {
    "plain": lambda a: a,
    "reversed": lambda a: a[:, ::-1, :, ::-1],
    "strided": lambda a: a[:, :, ::2, 1::3],
    "fortran": np.asfortranarray,
}


def check_reading(given, values):
    """What a plan reads from `given` are `values`, as input and as constant."""
    plan = scale_plan(values.shape, backend="ref", dtype="float64")
    (out,) = plan.run({"x": given})
    np.testing.assert_array_equal(out, 2 * values.astype(np.float64) + 1)
    g = _core.Graph()
    (kept,) = g.compile([g.affine(g.constant(given))], backend="ref", dtype="float64").run()
    np.testing.assert_array_equal(kept, values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("writable", [True, False])
def test_arrays_of_any_kind_are_read_right(rng, dtype, view, writable):
    array = VIEWS[view](rng.integers(0, 2 if dtype == "?" else 100, (2, 3, 8, 10)).astype(dtype))
    before = array.copy()
    array.flags.writeable = writable
    check_reading(array, before)
    np.testing.assert_array_equal(array, before)


# DLPack has neither byte order nor long double.
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype[0] not in ">g"])
@pytest.mark.parametrize("view", VIEWS)
def test_dlpack_of_any_kind_is_read_right(rng, dtype, view):
    array = VIEWS[view](rng.integers(0, 2 if dtype == "?" else 100, (2, 3, 8, 10)).astype(dtype))
    before = array.copy()
    check_reading(Exported(array), before)
    np.testing.assert_array_equal(array, before)


def test_unaligned_memory_is_read_right():
    raw = np.zeros(4 * 6 + 1, np.uint8)
    array = raw[1:].view(np.float32).reshape(1, 1, 2, 3)
    array[...] = np.arange(6).reshape(1, 1, 2, 3)
    (out,) = scale_plan((1, 1, 2, 3)).run({"x": array})
    np.testing.assert_array_equal(out, 2 * array + 1)


def test_leading_dimensions_may_be_left_out(rng):
    values = rng.normal(size=(4, 5)).astype(np.float32)
    (out,) = scale_plan((1, 1, 4, 5)).run({"x": values})
    np.testing.assert_array_equal(out[0, 0], 2 * values + 1)
    for number in (3, 3.0, np.float32(3), np.array(3)):
        (out,) = scale_plan((1, 1, 1, 1)).run({"x": number})
        assert out.item() == 7


def test_results_speak_dlpack(rng):
    values = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    (out,) = scale_plan().run({"x": values})
    (again,) = scale_plan().run({"x": Exported(out)})
    np.testing.assert_array_equal(again, 2 * (2 * values + 1) + 1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 3, 4, 6)), r"input 'x': shape \(1, 3, 4, 6\) must be \(1, 3, 4, 5\)"),
        (np.zeros((4, 5)), r"input 'x': shape \(1, 1, 4, 5\) must be"),
        (np.zeros(60), r"input 'x': has 1 dimension\(s\); give \(N, C, H, W\)"),
        (np.zeros((1, 1, 3, 4, 5)), r"input 'x': has 5 dimension\(s\)"),
        (np.zeros((1, 3, 4, 5), complex), "input 'x': dtype complex128 holds no real numbers"),
        (np.zeros((1, 3, 4, 5), "S1"), "dtype .* holds no real numbers"),
        (np.zeros((1, 3, 4, 5), object), "dtype object holds no real numbers"),
        (np.zeros((1, 3, 4, 5), "M8[s]"), "dtype .* holds no real numbers"),
        ([[1.0]], "input 'x': list is no array; pass a NumPy array or an object with __dlpack__"),
        (None, "input 'x': NoneType is no array"),
    ],
)
def test_bad_arrays_are_named(array, words):
    plan = scale_plan()
    with pytest.raises(ValueError, match=words):
        plan.run({"x": array})
    with pytest.raises(ValueError, match=words):
        plan.set("x", array)
    with pytest.raises(ValueError, match="input 'x' has no value"):
        plan.run()


def test_a_refusing_exporter_is_named():
    class Refusing(Exported):
        def __dlpack__(self, **options):
            raise BufferError("lives on a GPU")

    with pytest.raises(ValueError, match=r"input 'x': numpy.from_dlpack refuses it \(lives on a"):
        scale_plan().run({"x": Refusing(np.zeros(3))})


def test_names_are_checked():
    g = _core.Graph()
    y = g.add(g.input("x", (1, 1, 1, 1)), g.variable("v", np.ones((1, 1, 1, 1))))
    unused = g.input("unused", (1, 1, 1, 1))
    plan = g.compile([y])
    for bad in ("z", "", 3, None, y, "\ud800"):
        with pytest.raises((ValueError, UnicodeEncodeError)):
            plan.get(bad)
    with pytest.raises(ValueError, match=r"no input or variable 'z'; there are \['x', 'v'"):
        plan.run({"z": np.ones((1, 1, 1, 1))})
    with pytest.raises(TypeError, match="run: inputs is a list; give a dict"):
        plan.run([1])
    with pytest.raises(ValueError, match="run: input 'x' has no value; give it in inputs"):
        plan.run()
    plan.set(unused.name, 1.0)
    with pytest.raises(ValueError, match="no output depends on 'unused'"):
        plan.get("unused")
    assert plan.run({"x": 2.0})[0].item() == 3
    assert plan.run()[0].item() == 3
    plan.set("v", 5.0)
    assert plan.run()[0].item() == 7
    assert plan.get("v").item() == 5


def test_a_plan_does_not_mind_a_growing_graph(rng):
    values = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    g = _core.Graph()
    y = g.affine(g.input("x", values.shape), scale=2, shift=1)
    plan = g.compile([y])
    for _ in range(1000):
        y = g.affine(y, scale=3)
    np.testing.assert_array_equal(plan.run({"x": values})[0], 2 * values + 1)


def test_types_cannot_be_made_or_changed_from_outside():
    for kind in (_core.Node, _core.Plan):
        with pytest.raises(TypeError, match="cannot create"):
            kind()
    for kind in (_core.Graph, _core.Node, _core.Plan):
        with pytest.raises(TypeError, match="immutable"):
            kind.anything = 1
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Derived", (kind,), {})
