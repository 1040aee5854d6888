"""What a running session promises: interruption, threads, forks, callbacks, memory, repetition.

python tests/reliability/runs.py              every campaign in full
python tests/reliability/runs.py forks=50     the named ones, with other counts
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import seeded
from campaign import main

import depthstyle as ds
from depthstyle import _core, gatys
from depthstyle.errors import Busy

CONTENT, STYLE = seeded.picture(1, 40, 48), seeded.picture(2, 40, 40)
WEIGHTS = seeded.encoder_weights()


def session(**options) -> ds.Session:
    options = {"weights": WEIGHTS, "iterations": 4, "history": 3, **options}
    content = options.pop("content", CONTENT)
    return ds.Session(content, options.pop("style", STYLE), **options)


def everything(run: ds.Session) -> dict:
    """All that a session holds, to compare two of them."""
    tensors = {name: array.tobytes() for name, array in run.state().tensors.items()}
    return {"losses": run.losses, **tensors}


# Interruption


def interrupts(count: int, folder: Path) -> str:
    """Press Ctrl-C at random moments; every session goes on as if it had not been pressed.

    A third of the runs have a network of VGG19's size and pictures of 384 x 384 (128 x 128 for
    few interruptions), whose single steps are long.
    """
    randoms, delays, complete = random.Random(1), [], 0
    side = 384 if count >= 100 else 128
    large = {"content": seeded.picture(1, side, side), "style": seeded.picture(2, side, side)}
    large |= {"weights": seeded.weights("vgg19"), "scales": 1, "iterations": 2}
    for options in ({}, {"optimizer": "adam"}, large):
        whole = session(**options)
        start = time.monotonic()
        whole.step(whole.iterations)
        length, expected = time.monotonic() - start, everything(whole)
        wanted, run = len(delays) + count // 3, session(**options)
        while len(delays) < wanted:
            delays += _interrupt_once(run, randoms.uniform(0, 1.1 * length))
            if run.iteration == run.iterations:
                assert everything(run) == expected, "an interruption changed the result"
                run, complete = session(**options), complete + 1
    delays = np.sort(delays) * 1000
    assert delays[-1] < 2000, "no answer"
    return (
        f"{len(delays)} interruptions, {complete} runs complete with the bytes of an uninterrupted "
        f"one; answered within {delays[len(delays) // 2]:.0f} ms (median), "
        f"{delays[int(0.99 * len(delays))]:.0f} ms (99 %), {delays[-1]:.0f} ms (all)"
    )


def _interrupt_once(run: ds.Session, delay: float) -> list[float]:
    """Let a run go on until a SIGINT after a delay; return the time to its end, if it was there."""
    pressed: list[float] = []

    def press():
        pressed.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = threading.Timer(delay, press)
    answered = []
    try:
        timer.start()
        while run.iteration < run.iterations:
            run.step(2 if run.iteration % 2 == 0 else 1)
        timer.cancel()
        timer.join()
        time.sleep(0)  # where it was pressed after the last step, it arrives here
    except KeyboardInterrupt:
        answered.append(time.monotonic() - pressed[0])
        timer.join()
    return answered


def callbacks(count: int, folder: Path) -> str:
    """Raise in a progress callback at every iteration: it arrives, and the session goes on."""
    whole = session()
    whole.step(8)
    for number in range(count):
        run = session()

        class OwnError(Exception):
            pass

        def fail(state, at=number % 8):
            if state.iteration == at + 1:
                raise OwnError

        with contextlib.suppress(OwnError):
            gatys.run(run, on_step=fail)
            raise AssertionError("the exception was swallowed")
        assert run.iteration == number % 8 + 1
        run.step(8 - run.iteration) if run.iteration < 8 else None
        assert everything(run) == everything(whole)
    return f"{count} exceptions in callbacks arrived, every session went on to the same bytes"


def divergence(count: int, folder: Path) -> str:
    """Let losses become infinite or NaN at any iteration: an error at once, a picture, a way on."""
    ways = ("weight", "picture", "rate")
    for number in range(count):
        way, at = ways[number % 3], number % 7
        options = {"optimizer": "adam", "scales": 1, "iterations": 20, "clamp": False}
        if way == "rate":
            options["schedule"] = ((0, 0.05), (at, 1e30))
        run = session(**options)
        run.step(at) if at else None
        run.save(folder / "x")
        if way == "weight":
            run.weights["style"] = 1e39
        if way == "picture" and run._optimiser is not None:
            image = run._picture("image")
            image.flat[number % image.size] = np.nan
            run._optimiser._plan.set("image", image)
        try:
            run.step(2)
            assert way == "picture" and at == 0, f"{way} at {at} was not seen"
        except ds.NumericalError as error:
            assert error.iteration <= at + 1 and error.layer
        assert np.isfinite(run.image).all() and np.isfinite(run.best).all()
        run.weights["style"] = 1.0
        if way != "rate":
            run.step(2)
        again = session(**options)
        again.resume(folder / "x")
        assert again.iteration == at
    return f"{count} divergences, each seen within 2 iterations, pictures finite, sessions go on"


# Threads and processes


def one_session(count: int, folder: Path) -> str:
    """Use one session from 2 to 16 threads: each call is done or Busy, and none is lost."""
    calls = done = 0
    while calls < count:
        workers = 2 + calls % 15
        run, results = session(scales=1, iterations=1000), []

        def work(run=run, results=results):
            for _ in range(5):
                try:
                    run.step()
                    results.append(True)
                except Busy:
                    results.append(False)
                    time.sleep(0.001)

        _in_threads([work] * workers)
        assert run.iteration == sum(results) == len(run.losses["total"])
        single = session(scales=1, iterations=1000)
        single.step(run.iteration)
        assert everything(single) == everything(run)
        calls, done = calls + len(results), done + sum(results)
    return f"{calls} calls from 2 to 16 threads, {done} done, {calls - done} Busy, same bytes"


def two_sessions(count: int, folder: Path) -> str:
    """Run two sessions in two threads: the bytes of one after the other."""
    kinds = [{"optimizer": "adam"}, {"init": "noise"}]
    expected = []
    for options in kinds:
        run = session(**options)
        run.step(6)
        expected.append(everything(run))
    for _ in range(count):
        runs = [session(**options) for options in kinds]
        _in_threads([lambda run=run: run.step(6) for run in runs])
        assert [everything(run) for run in runs] == expected
    return f"{count} pairs of sessions in two threads, same bytes as one after the other"


def changed_inputs(count: int, folder: Path) -> str:
    """Let another thread write to and resize the arrays of a call: no crash, finite results."""
    network, stop = ds.networks.load("encoder", WEIGHTS), threading.Event()
    x, refused = np.ones((1, 3, 40, 40), "f4"), [0]

    def disturb():
        while not stop.is_set():
            x[:] = 2
            try:
                x.resize((1, 3, 20, 20))
                x.resize((1, 3, 40, 40))
            except ValueError:
                refused[0] += 1

    worker = threading.Thread(target=disturb)
    worker.start()
    try:
        for _ in range(count):
            with contextlib.suppress(ValueError, Busy):
                assert np.isfinite(network(x)).all()
    finally:
        stop.set()
        worker.join()
    return f"{count} calls while another thread changes their arrays, no crash"


def _in_threads(functions) -> None:
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[one]) for one in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def forks(count: int, folder: Path) -> str:
    """Fork while another thread computes: the child's session says so, new plans work."""
    warnings.simplefilter("ignore", DeprecationWarning)
    run, busy, stop = session(), session(scales=1, iterations=10**6), threading.Event()
    run.step(2)
    network, batch = ds.networks.load("encoder", WEIGHTS), np.ones((1, 3, 16, 16), "f4")
    expected = network(batch)

    def load():
        size = 8
        while not stop.is_set():
            busy.step()
            network(np.ones((1, 3, size := 8 + (size + 1) % 32, 16), "f4"))

    worker = threading.Thread(target=load)
    worker.start()
    try:
        for number in range(count):
            child = os.fork()
            if child == 0:
                _in_child(run, lambda: np.array_equal(network(batch), expected), number % 10 == 0)
            deadline = time.monotonic() + 60
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    raise AssertionError("the child hangs")
                time.sleep(0.001)
            assert ended[1] == 0, f"child {number}: status {ended[1]}"
    finally:
        stop.set()
        worker.join()
    run.step(2)
    whole = session()
    whole.step(4)
    assert everything(run) == everything(whole)
    return f"{count} forks under load: {count} clear errors, {count} networks that work, no hang"


def _in_child(run: ds.Session, is_right, fresh: bool) -> None:
    code = 1
    try:
        run.step()
    except Busy as error:
        code = 0 if "another process" in str(error) and is_right() else 2
        del run
        gc.collect()
        if fresh:
            session(threads=2).step(1)
    finally:
        os._exit(code)


# Repetition


def repetitions(count: int, folder: Path) -> str:
    """Repeat runs with 1, 2, 3, 7 and 16 threads: the same bytes every time."""
    seen, threads = {}, (1, 2, 3, 7, 16)
    kinds = [{"optimizer": "adam"}, {"laplacian_weight": 1.0}, {"init": "noise", "tv_weight": 0.1}]
    for number in range(count):
        kind = number % len(kinds)
        run = session(threads=threads[number % len(threads)], **kinds[kind])
        run.step(6)
        assert everything(run) == seen.setdefault(kind, everything(run))
    return f"{count} runs of {len(kinds)} kinds with {threads} threads, 0 differences"


def floating_point_mode(count: int, folder: Path) -> str:
    """Look at the processor's rounding and denormal modes before and after calls."""
    libm = ctypes.CDLL("libm.so.6")

    def control() -> bytes:
        state = (ctypes.c_ubyte * 64)()
        libm.fegetenv(state)
        x87, mxcsr = bytes(state[:2]), int.from_bytes(bytes(state[28:32]), "little")
        return x87 + (mxcsr & ~0x3F).to_bytes(4, "little")  # the lowest bits are flags of the past

    before = control()
    for number in range(count):
        run = session(optimizer=("adam", "lbfgs")[number % 2])
        run.step(2)
        ds.kernels.gram(np.ones((3, 4, 4), "f4"))
        assert control() == before
        assert np.float32(1e-45) * np.float32(1) > 0
    return f"{count} runs, the control bits of x87 and MXCSR unchanged"


# Memory


def _scenarios() -> dict:
    """Calls of the public interface, each from nothing."""
    picture, maps = CONTENT[:16, :16], np.ones((4, 6, 5), "f4")

    def steps(**options):
        return lambda: everything(_stepped(session(content=picture, style=picture, **options)))

    def loaded():
        return ds.networks.load("encoder", str(ds.weights.EMBEDDED))

    return {
        "adam": steps(optimizer="adam"),
        "lbfgs": steps(),
        "one thread": steps(threads=1),
        "reference": steps(device="ref"),
        "laplacian": steps(laplacian_weight=1.0),
        "total variation": steps(tv_weight=1.0),
        "noise": steps(init="noise"),
        "mask": steps(style_masks=np.linspace(0, 1, 256, dtype="f4").reshape(16, 16)),
        "content mask": steps(content_mask=np.full((16, 16), 0.5)),
        "average pooling": steps(pooling="average"),
        "two styles": lambda: everything(
            _stepped(session(content=picture, style=[picture, picture[::-1]]))
        ),
        "network": lambda: loaded()(np.ones((1, 3, 16, 16), "f4")).tobytes(),
        "network gradient": lambda: (
            loaded().gradient(np.ones((1, 3, 8, 8), "f4"), np.ones((1, 128, 1, 1), "f4")).tobytes()
        ),
        "gram": lambda: ds.kernels.gram(maps).tobytes(),
        "laplacian kernel": lambda: ds.kernels.laplacian(np.ones((3, 12, 12), "f4")).tobytes(),
        "adain": lambda: ds.kernels.adain(maps, maps[:, ::-1]).tobytes(),
        "feature loss": lambda: float(ds.kernels.feature_loss(maps, maps)),
        "tv": lambda: float(ds.kernels.tv(maps[:3])),
        "l-bfgs alone": _lbfgs_alone,
        "saved and resumed": lambda: everything(_resumed(picture)),
    }


def _stepped(run: ds.Session) -> ds.Session:
    run.step(2)
    return run


def _lbfgs_alone() -> bytes:
    lbfgs, x = _core.LBFGS(100, 3, threads=2), np.ones(100, "f4")
    for _ in range(4):
        lbfgs.step(x, float((x**2).sum()), 2 * x)
    return x.tobytes()


def _resumed(picture) -> ds.Session:
    first, second = (session(content=picture, style=picture) for _ in range(2))
    first.step(2)
    second.restore(first.state(), "memory")
    return _stepped(second)


class _Failing:
    """Stands in for an engine's class: lets allocation `fail_at` of the `at`-th object fail."""

    def __init__(self, kind, at: int, fail_at: int) -> None:
        self._kind, self._at, self._fail_at = kind, at, fail_at
        self.made = 0

    def __call__(self, *arguments, **keywords):
        self.made += 1
        if self.made - 1 == self._at:
            keywords["fail_at"] = self._fail_at
        return self._kind(*arguments, **keywords)


def allocations(count: int, folder: Path) -> str:
    """Let every allocation of the engine fail in turn: MemoryError, no leak, and it works again.

    `count` is the most failures for each object of the engine in each scenario.
    """
    lost: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda hint: lost.append(str(hint.exc_value))
    failures = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            scenarios = _scenarios()
            for name, scenario in scenarios.items():
                expected = scenario()
                for kind in ("Graph", "LBFGS"):
                    failures += _fail_all(scenario, kind, count)
                assert scenario() == expected, name
                gc.collect()
                assert not lost, f"{name}: {lost[0]}"
    finally:
        sys.unraisablehook = hook
    return f"{failures} failing allocations in {len(scenarios)} scenarios, all MemoryError, no leak"


def _fail_all(scenario, name: str, count: int) -> int:
    whole, failures, at = getattr(_core, name), 0, 0
    try:
        while True:
            numbers = range(10**6) if count == 0 else range(0, 10**6, max(1, 120 // count))
            for number in numbers:
                failing = _Failing(whole, at, number)
                setattr(_core, name, failing)
                try:
                    scenario()
                    break
                except MemoryError as error:
                    assert "cannot allocate" in str(error), str(error)
                    failures += 1
            if failing.made <= at:
                return failures
            at += 1
    finally:
        setattr(_core, name, whole)


_NO_MEMORY = """
import sys
sys.path[:0] = {path!r}
import _testcapi
import numpy as np
from depthstyle import _core

image, weight, x = np.ones((1, 3, 8, 8), "f4"), np.ones((8, 3, 3, 3), "f4"), np.ones(12, "f4")

def work():
    graph = _core.Graph()
    picture = graph.variable("x", image)
    maps = graph.activation(graph.conv2d(picture, graph.constant(weight), pad=1), kind="relu")
    loss = graph.sum_to(graph.multiply(maps, maps))
    plan = graph.compile([loss, *graph.gradient(loss, [picture])], threads=1, check=[loss])
    values = plan.run()
    plan.set("x", image)
    lbfgs = _core.LBFGS(12, 2, threads=1)
    lbfgs.step(x, 1.0, x)
    lbfgs.state = lbfgs.state
    return [value.tobytes() for value in values], plan.get("x").tobytes(), plan.dump()

expected, failed = work(), 0
for k in range({first}, {last}):
    try:
        _testcapi.set_nomemory(k, k + 3)
        work()
    except MemoryError:
        failed += 1
    finally:
        _testcapi.remove_mem_hooks()
    assert work() == expected
print(failed)
"""


def no_memory(count: int, folder: Path) -> str:
    """Let Python's own allocator fail in calls of the engine: MemoryError, and it works again.

    Only calls of the engine: NumPy itself can end the process when it finds no memory.
    """
    try:
        import _testcapi  # noqa: F401
    except ImportError:
        return "this Python has no _testcapi: not run"
    failed = 0
    for first in range(0, count, 100):
        text = _NO_MEMORY.format(path=sys.path[:3], first=first, last=min(first + 100, count))
        done = subprocess.run([sys.executable, "-P", "-c", text], capture_output=True, text=True)
        assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
        failed += int(done.stdout)
    return f"{count} places where Python's memory ended, {failed} MemoryErrors, the next call right"


def growth(count: int, folder: Path) -> str:
    """Repeat every scenario, good and bad: no object and less than 1 MB more than before."""
    scenarios = _scenarios()

    def all_of_it():
        for scenario in scenarios.values():
            scenario()
        for bad in ({"size": -1}, {"style_masks": "sigmoid"}, {"content": CONTENT[:4]}):
            with contextlib.suppress(ValueError):
                session(**bad)
        run = session(optimizer="adam", schedule=((0, 1e30),), clamp=False, scales=1)
        with contextlib.suppress(ds.NumericalError):
            run.step(9)

    for _ in range(5):
        all_of_it()
    gc.collect()
    objects, memory = len(gc.get_objects()), resident()
    for _ in range(count):
        all_of_it()
    gc.collect()
    more, grown = len(gc.get_objects()) - objects, resident() - memory
    assert more <= 20, f"{more} objects more"
    assert grown < 2**20 + 2**16, f"{grown} bytes more"
    calls = count * (len(scenarios) + 4)
    return f"{calls} calls, {more} objects and {grown / 2**20:.2f} MiB more than before"


def resident() -> int:
    """Bytes of memory that this process has, without what its allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# The interpreter


_ENDINGS = {
    "plan alive at exit": "run.step(1); keep = run",
    "cycle at exit": "run.step(1); cycle = [run]; cycle.append(cycle); del run",
    "in a module global": "import builtins; run.step(1); builtins.kept = run",
    "thread alive at exit": "import threading as t; t.Thread(target=lambda: run.step(4)).start()",
    "daemon at exit": "import threading, time; threading.Thread(target=lambda: run.step(1000), "
    "daemon=True).start(); time.sleep(0.2)",
    "atexit uses it": "import atexit; atexit.register(lambda: run.step(1))",
    "finalizer uses it": "import weakref; run.step(1); weakref.finalize(run, print)",
    "deleted in a thread": "import threading; run.step(1); box = [run]; del run; "
    "t = threading.Thread(target=box.clear); t.start(); t.join()",
    "collected all the time": "import gc; gc.set_threshold(1); run.step(2)",
    "module deleted": "import sys; run.step(1); "
    "[sys.modules.pop(n) for n in list(sys.modules) if n.startswith('depthstyle')]; run.step(1)",
    "imported again": "import sys; run.step(1); "
    "[sys.modules.pop(n) for n in list(sys.modules) if n.startswith('depthstyle')]; "
    "import depthstyle; depthstyle.kernels.gram",
    "signal at exit": "import os, signal; run.step(1); signal.signal(2, signal.SIG_IGN); "
    "os.kill(os.getpid(), 2)",
    "recursion": "import sys; run.step(1); sys.setrecursionlimit(200); run.step(1)",
}


def endings(count: int, folder: Path) -> str:
    """End the interpreter in odd states: exit code 0 every time."""
    for number in range(count):
        name = list(_ENDINGS)[number % len(_ENDINGS)]
        code = f"import sys; sys.path[:0] = {sys.path[:3]!r}; import runs\n"
        code += f"run = runs.session()\n{_ENDINGS[name]}\n"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{name}: {done.returncode} {done.stderr[-500:]}"
    return f"{count} endings of {len(_ENDINGS)} kinds, exit code 0"


CAMPAIGNS = {
    interrupts: 1000,
    callbacks: 200,
    divergence: 210,
    one_session: 100_000,
    two_sessions: 1000,
    changed_inputs: 10_000,
    forks: 500,
    repetitions: 200,
    floating_point_mode: 100,
    allocations: 0,
    no_memory: 600,
    growth: 40,
    endings: 52,
}

if __name__ == "__main__":
    main(CAMPAIGNS)
