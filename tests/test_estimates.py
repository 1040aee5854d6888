"""Estimates of time and memory, and what happens where memory is short."""

import re

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import cli, estimates, memory

CONTENT, STYLE = seeded.picture(1, 96, 80), seeded.picture(2, 64, 64)
WEIGHTS = seeded.encoder_weights()


def session(**options):
    return ds.Session(CONTENT, STYLE, **{"weights": WEIGHTS, "iterations": 3, **options})


@pytest.mark.parametrize("method", ["gatys", "lapstyle", "adain"])
def test_estimate_tells_time_and_memory(method):
    found = ds.estimate((96, 80), [(64, 64)], method)
    assert 0 < found.seconds < 60
    assert memory.resident_memory() / 2 < found.bytes < 2**31


def test_estimates_grow_with_what_is_asked(monkeypatch):
    base, of_gpu = estimates.memory_of(session())
    pixels = CONTENT.nbytes
    assert of_gpu == 0
    products = 2 * 8 * (200**2 - 100**2)  # of the pairs among each other, in float64
    assert estimates.memory_of(session(history=200))[0] - base == 2 * 100 * pixels + products
    assert estimates.memory_of(session(size=192))[0] > 2 * base
    assert estimates.memory_of(session(scales=1))[0] == base
    assert estimates.memory_of(session(), size=(192, 160)) == estimates.memory_of(session(size=192))


def test_a_history_that_stays_empty_is_reserved_but_takes_no_memory():
    run, pixels = session(history=100), CONTENT.nbytes
    reserved = estimates.memory_of(run)
    assert estimates.memory_of(run, 101) == estimates.memory_of(run, 500) == reserved
    assert reserved[0] - estimates.memory_of(run, 21)[0] == 2 * 80 * pixels
    adam = session(optimizer="adam")
    assert estimates.memory_of(adam, 1) == estimates.memory_of(adam)


def test_an_estimate_leaves_the_session_as_it_is():
    one, other = session(), session()
    estimates.estimate_session(one)
    one.step(6)
    other.step(6)
    assert one.losses == other.losses
    assert one.image.tobytes() == other.image.tobytes()


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(estimates.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize(("optimizer", "pair"), [("adam", 0.0), ("lbfgs", 0.25)])
def test_the_time_is_that_of_all_iterations(monkeypatch, optimizer, pair):
    clock, first, later, history, count = Clock(monkeypatch), 7.0, 0.5, 4, 20
    done = []

    def step(self):
        pairs = min(len(done), history)
        clock.now += (first if not done else later) + pair * pairs
        done.append(pairs)

    monkeypatch.setattr(ds.Session, "step", step)
    monkeypatch.setattr(estimates, "_time_of_a_pair", lambda *_: pair)
    run = session(iterations=count, scales=1, optimizer=optimizer, history=history)
    pairs = sum(min(number, history) for number in range(count))
    expected = first + (count - 1) * later + pairs * pair
    assert estimates.time_of(run) == pytest.approx(expected, rel=1e-12)


def test_the_time_of_a_pair_is_measured_with_all_its_pairs(monkeypatch):
    clock, kept = Clock(monkeypatch), []

    class Timed:
        def __init__(self, *arguments, **options):
            self.real = real_lbfgs(*arguments, **options)

        def __array__(self, *_, **__):
            return np.asarray(self.real)

        def step(self, x, loss, gradient):
            self.real.state = self.state
            self.real.step(x, loss, gradient)
            kept.append(self.real.state[-1].shape[-1])
            clock.now += 3 + 0.5 * kept[-1]

    real_lbfgs = estimates._core.LBFGS
    monkeypatch.setattr(estimates._core, "LBFGS", Timed)
    assert estimates._time_of_a_pair(1000, 5, 1) == pytest.approx(0.5, rel=1e-12)
    assert kept == [0, 0, 0, 5, 5, 5]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.26, "0.3 s"), (12.4, "12 s"), (75, "1 min 15 s"), (3700, "1 h 1 min")],
)
def test_an_estimate_in_words(seconds, text):
    assert str(ds.Estimate(seconds, 300 << 20)) == f"{text}, 300 MiB"


def test_too_little_memory_is_an_error_before_the_first_iteration(monkeypatch):
    run = session()
    needed, _ = estimates.memory_of(run)
    monkeypatch.setattr(estimates, "free_memory", lambda: needed - 1)
    with pytest.raises(ds.OutOfMemory, match=r"needs \d+ MiB, .* may take \d+ MiB more; use a"):
        run.step()
    assert run.iteration == 0
    monkeypatch.setattr(estimates, "free_memory", lambda: needed)
    run.step()


def test_free_memory_is_the_least_of_all_limits(monkeypatch, tmp_path):
    most, used = tmp_path / "max", tmp_path / "current"
    most.write_text("5000000\n")
    used.write_text("2000000\n")
    monkeypatch.setattr(memory, "_GROUPS", ((most, used),))
    assert memory.free_memory() == 3_000_000
    most.write_text("max\n")
    assert memory.free_memory() > 3_000_000
    used.write_text("9000000\n")
    most.write_text("5000000\n")
    assert memory.free_memory() == 0


@pytest.mark.parametrize("method", ["gatys", "adain"])
def test_making_the_painter_counts(monkeypatch, method):
    make = ds.methods.make_painter

    def make_with_much(*arguments, **settings):
        np.ones(300 << 17)
        return make(*arguments, **settings)

    plain = ds.estimate((96, 80), [(64, 64)], method).bytes
    monkeypatch.setattr(ds.methods, "make_painter", make_with_much)
    much = ds.estimate((96, 80), [(64, 64)], method).bytes
    assert much > max(plain, 300 << 20)


def test_dry_run_prints_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    ds.write_image("style.png", STYLE)
    words = ["stylize", "content.png", "style.png", "-o", "out.png", "--iterations", "2"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert re.fullmatch(r"out\.png would take [\d.]+ s, \d+ MiB\n", capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.png", "style.png"]
    monkeypatch.setattr(estimates, "free_memory", lambda: 1000)
    assert cli.main(words) == 2
    assert "this run needs" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_command_without_memory_ends_in_one_line(monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ds.Session, "advance", fail)
    ds.write_image(tmp_path / "content.png", CONTENT)
    words = [str(tmp_path / "content.png")] * 2
    assert cli.main(["stylize", *words, "-o", str(tmp_path / "out.png")]) == 2
    assert capsys.readouterr().err == "depthstyle: MemoryError\n"


def test_peak_memory_sees_what_was_there_for_a_moment():
    with memory.peak_memory() as peak:
        np.ones(50 << 17)
    assert peak[0] > memory.resident_memory() + (30 << 20)
