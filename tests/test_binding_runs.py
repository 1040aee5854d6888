"""The binding during a run: interruption, threads, forks, errors of the engine, memory."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from test_binding import scale_plan

from depthstyle import _core
from depthstyle.errors import Busy, NumericalError


@pytest.fixture
def rng():
    return np.random.default_rng(7)


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


def test_a_graph_is_busy_while_it_is_compiled():
    g = _core.Graph()
    y = x = g.input("x", (1, 16, 8, 8))
    weight = np.zeros((16, 16, 3, 3), np.float32)
    for _ in range(3000):
        y = g.conv2d(y, g.constant(weight), pad=1)
    refused, done = [], threading.Event()

    def compile_it():
        g.compile([y])
        done.set()

    worker = threading.Thread(target=compile_it)
    worker.start()
    while not done.is_set() and not refused:
        try:
            g.affine(x, scale=2.0)
        except Busy as error:
            refused.append(str(error))
    worker.join()
    assert refused == ["graph: is being compiled in another thread; add nodes before or after"]
    g.affine(x, scale=2.0)


def test_a_cancelled_run_changes_all_variables_or_none():
    g = _core.Graph()
    x = g.variable("x", np.ones((1, 1, 1, 4), np.float32), kind="plain")
    velocity = g.variable("velocity", np.zeros((1, 1, 1, 4), np.float32), kind="plain")
    big = g.variable("big", np.ones((1, 5, 500, 500), np.float32))
    slow = big
    for _ in range(300):
        slow = g.multiply(slow, big)
    rate = g.constant(np.ones((1, 1, 1, 1), np.float32))
    updated = g.sgd_update(x, velocity, x, rate)
    again = g.sgd_update(updated, velocity, x, rate)
    plan = g.compile([g.sum_to(slow), again])

    def stop():
        raise KeyError

    with pytest.raises(KeyError):
        plan.run(poll=stop)
    assert (plan.get("x") == 1).all()
    assert (plan.get("velocity") == 0).all()


def test_ctrl_c_arrives_within_a_step():
    g = _core.Graph()
    x = g.input("x", (1, 64, 700, 700))
    y = g.conv2d(x, g.constant(np.zeros((512, 64, 3, 3), np.float32)), pad=1)
    plan = g.compile([g.sum_to(y)], threads=1)
    calls = []

    def poll():
        calls.append(plan)
        if len(calls) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        plan.run({"x": np.zeros(x.shape, np.float32)}, poll=poll)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the interface has another name")
def test_a_second_interpreter_is_refused():
    code = (
        "import _xxsubinterpreters as i\n"
        "import depthstyle._core\n"
        "one = i.create()\n"
        "try:\n"
        "    i.run_string(one, 'import depthstyle._core')\n"
        "except i.RunFailedError as error:\n"
        "    print('refused', error)\n"
        "i.destroy(one)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused"), done.stdout


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


@pytest.mark.parametrize("backend", ["cpu", "ref"])
@pytest.mark.parametrize("channels", [3, 20])
def test_a_map_can_be_checked(backend, channels):
    g = _core.Graph()
    x = g.input("x", (2, channels, 24, 25), kind="map")
    y = g.affine(x, scale=1e38)
    plan = g.compile([y], check=[y], backend=backend)
    values = np.ones((2, channels, 24, 25), np.float32)
    np.testing.assert_array_equal(plan.run({"x": values})[0], np.float32(1e38))
    values[1, channels - 1, 23, 24] = 100
    with pytest.raises(NumericalError, match="not finite"):
        plan.run({"x": values})


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_any_allocation_may_fail(backend, precision, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hint: lost.append(str(hint.exc_value)))
    weights = np.full((20, 3, 3, 3), 0.1, np.float32)
    image = np.ones((1, 3, 12, 14), np.float32)

    def build_and_run(fail_at):
        g = _core.Graph(fail_at=fail_at)
        x = g.variable("x", image)
        y = g.activation(g.conv2d(x, g.constant(weights), pad=1), kind="relu")
        loss = g.sum_to(g.multiply(y, y))
        outputs, options = [loss, *g.gradient(loss, [x])], {"backend": backend, "threads": 2}
        plan = g.compile(outputs, precision=precision, check=[loss], **options)
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
