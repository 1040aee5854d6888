"""The binding: arguments, arrays in and out, errors, interruption, threads, forks, memory."""

import gc
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import depthstyle
from depthstyle import _core
from depthstyle.errors import Busy, NumericalError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def scale_plan(shape=(1, 3, 4, 5), **options):
    """A plan of y = 2 x + 1."""
    g = _core.Graph()
    x = g.input("x", shape)
    return g.compile([g.affine(x, scale=2, shift=1)], **options)


def long_plan(**options):
    """A plan that would run for many seconds."""
    g = _core.Graph()
    x = g.input("x", (1, 5, 500, 500))
    y = x
    for _ in range(5000):
        y = g.multiply(y, x)
    plan = g.compile([y], **options)
    plan.set("x", np.ones((1, 5, 500, 500), np.float32))
    return plan


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
        (lambda: g.input("y" * 32, (1, 3, 8, 8)), ValueError, "must have at most 31 bytes"),
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


def exported(array):
    if not array.dtype.isnative:
        pytest.skip("DLPack has no byte order")
    return Exported(array)


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", "i2", "u2", "<i4", ">u4", "i8", "f2", "<f4", ">f4", "<f8", ">f8", "g"],
)
@pytest.mark.parametrize("view", ["plain", "reversed", "strided", "fortran", "readonly", "dlpack"])
def test_arrays_of_any_kind_are_read_right(rng, dtype, view):
    array = rng.integers(0, 2 if dtype == "?" else 100, (2, 3, 8, 10)).astype(dtype)
    if view == "dlpack" and dtype == "g":
        pytest.skip("DLPack has no long double")
    array = {
        "plain": lambda a: a,
        "reversed": lambda a: a[:, ::-1, :, ::-1],
        "strided": lambda a: a[:, :, ::2, 1::3],
        "fortran": np.asfortranarray,
        "readonly": lambda a: a,
        "dlpack": lambda a: a,
    }[view](array)
    before = array.copy()
    array.flags.writeable = view != "readonly"
    given = exported(array) if view == "dlpack" else array
    plan = scale_plan(array.shape, backend="ref", dtype="float64")
    (out,) = plan.run({"x": given})
    np.testing.assert_array_equal(out, 2 * before.astype(np.float64) + 1)
    g = _core.Graph()
    (kept,) = g.compile([g.affine(g.constant(given))], backend="ref", dtype="float64").run()
    np.testing.assert_array_equal(kept, before)
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


# Interruption, threads, processes


def test_what_poll_raises_ends_the_run():
    class StopError(Exception):
        pass

    def stop():
        raise StopError

    with pytest.raises(StopError):
        long_plan().run(poll=stop)


def test_poll_is_called_now_and_then():
    times = []

    def poll():
        times.append(time.monotonic())
        if len(times) == 5:
            raise KeyError

    with pytest.raises(KeyError):
        long_plan().run(poll=poll)
    assert min(np.diff(times)) >= 0.05


@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_ctrl_c_ends_a_run_within_a_second(backend):
    plan = long_plan(backend=backend)
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        plan.run()
    assert time.monotonic() - pressed[0] < 1
    timer.join()


def test_the_gil_is_free_during_a_run_and_the_plan_is_busy():
    plan = long_plan()
    refusals, running, stop = [], threading.Event(), threading.Event()

    def poll():
        running.set()
        if stop.is_set():
            raise KeyError

    def run():
        with pytest.raises(KeyError):
            plan.run(poll=poll)

    worker = threading.Thread(target=run)
    worker.start()
    assert running.wait(20)
    for use in (plan.run, plan.dump, lambda: plan.get("x"), lambda: plan.set("x", 1.0)):
        with pytest.raises(Busy, match="is running in another thread") as caught:
            use()
        refusals.append(caught.value)
    (out,) = scale_plan().run({"x": np.zeros((1, 3, 4, 5))})
    assert (out == 1).all()
    stop.set()
    worker.join(20)
    assert not worker.is_alive()
    assert plan.get("x").shape == (1, 5, 500, 500)


def test_plans_of_one_graph_run_at_the_same_time(rng):
    g = _core.Graph()
    y = x = g.input("x", (1, 5, 50, 50))
    for _ in range(50):
        y = g.affine(g.add(y, x), scale=0.5)
    values = rng.normal(size=x.shape).astype(np.float32)
    expected = g.compile([y]).run({"x": values})[0]
    results = []

    def work():
        plan = g.compile([y], threads=2)
        results.extend(plan.run({"x": values})[0] for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 80
    assert all(np.array_equal(result, expected) for result in results)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_plan_says_so_and_a_new_one_works():
    plan = scale_plan(threads=2)
    plan.set("x", np.zeros((1, 3, 4, 5)))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        code = 1
        try:
            plan.run()
        except Busy as error:
            del plan
            gc.collect()
            fresh = scale_plan(threads=2).run({"x": np.zeros((1, 3, 4, 5))})
            code = 0 if "another process" in str(error) and (fresh[0] == 1).all() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (plan.run()[0] == 1).all()


# Errors of the engine


def test_a_loss_that_is_not_finite_names_its_layer():
    g = _core.Graph()
    x = g.input("x", (1, 3, 4, 5))
    y = g.affine(x, scale=1e38)
    loss = g.sum_to(g.multiply(y, y))
    plan = g.compile([loss], check=[loss])
    with pytest.raises(NumericalError, match="not finite") as caught:
        plan.run({"x": np.ones((1, 3, 4, 5))})
    assert "#" in caught.value.layer
    assert caught.value.iteration is None
    assert plan.run({"x": np.zeros((1, 3, 4, 5))})[0].item() == 0


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_any_allocation_may_fail(backend, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hint: lost.append(str(hint.exc_value)))
    weights = np.full((20, 3, 3, 3), 0.1, np.float32)
    image = np.ones((1, 3, 12, 14), np.float32)

    def build_and_run(fail_at):
        g = _core.Graph(fail_at=fail_at)
        x = g.variable("x", image)
        y = g.activation(g.conv2d(x, g.constant(weights), pad=1), kind="relu")
        loss = g.sum_to(g.multiply(y, y))
        plan = g.compile([loss, *g.gradient(loss, [x])], backend=backend, threads=2, check=[loss])
        plan.dump()
        return plan.run()

    expected = build_and_run(-1)
    failures = 0
    while True:
        try:
            results = build_and_run(failures)
            break
        except MemoryError as error:
            assert "cannot allocate" in str(error)
            failures += 1
    assert failures > 20
    assert not lost
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_thousand_graphs_leave_nothing_behind():
    image = np.ones((1, 3, 12, 14), np.float32)
    objects = (_core.Graph, _core.Node, _core.Plan, image)
    gc.collect()
    before = [sys.getrefcount(one) for one in objects]
    for _ in range(1000):
        g = _core.Graph()
        x = g.variable("x", image)
        loss = g.sum_to(g.multiply(x, g.constant(image, kind="map")))
        plan = g.compile([loss, *g.gradient(loss, [x])], threads=1)
        plan.run(poll=lambda: None)
        with pytest.raises(ValueError, match="no input or variable"):
            plan.run({"y": image})
        with pytest.raises(ValueError, match="must be an integer"):
            g.max_pool(x, stride=None)
    del g, x, loss, plan
    gc.collect()
    assert [sys.getrefcount(one) for one in objects] == before


def test_types_cannot_be_made_or_changed_from_outside():
    for kind in (_core.Node, _core.Plan):
        with pytest.raises(TypeError, match="cannot create"):
            kind()
    for kind in (_core.Graph, _core.Node, _core.Plan):
        with pytest.raises(TypeError, match="immutable"):
            kind.anything = 1
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Derived", (kind,), {})
