"""Checkpoints: bit for bit, atomic, checked; what is damaged or of another run is refused."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import checkpoint, cli, session_state
from depthstyle.checkpoint import Checkpoints, Contents
from depthstyle.errors import Busy, CheckpointError, DepthstyleWarning, ReproducibilityWarning

SIZE = (37, 53)
CONTENT, STYLE = seeded.picture(1, *SIZE), seeded.picture(2, 44, 31)
WEIGHTS = seeded.encoder_weights()
SMALL = Contents({"a": 0.1}, {"x": np.arange(6, dtype="f4"), "y": np.ones((2, 3))})


def make(**options):
    options = {"weights": WEIGHTS, "iterations": 5, "history": 3, "precision": "fp32", **options}
    return ds.Session(options.pop("content", CONTENT), options.pop("style", STYLE), **options)


def assert_same(found, expected):
    assert found.losses == expected.losses
    for name, tensor in expected.state().tensors.items():
        assert tensor.tobytes() == found.state().tensors[name].tobytes(), name


# Sessions


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 9])
def test_a_resumed_session_is_the_same_bit_for_bit(tmp_path, optimizer, at):
    options = {"optimizer": optimizer, "init": "noise", "tv_weight": 0.01}
    whole, first, second = (make(**options) for _ in range(3))
    whole.step(10)
    if at:
        first.step(at)
    first.save(tmp_path / "x")
    second.resume(tmp_path / "x")
    assert second.iteration == at
    second.step(10 - at)
    assert_same(second, whole)


def test_changed_weights_are_part_of_the_state(tmp_path):
    whole, second = make(scales=1), make(scales=1)
    for count in (2, 3):
        whole.step(count)
        whole.weights["style"] *= 3
        whole.save(tmp_path / "x")
    whole.step(2)
    second.resume(tmp_path / "x")
    second.step(2)
    assert_same(second, whole)


def test_a_session_goes_on_from_a_failure_and_from_its_checkpoint(tmp_path):
    first, second = (make(optimizer="adam", scales=1) for _ in range(2))
    first.step(2)
    first.weights["style"] = 1e39
    with pytest.raises(ds.NumericalError):
        first.step()
    first.weights["style"] = 1.0
    first.save(tmp_path / "x")
    first.step(2)
    assert first.iteration == 4
    second.resume(tmp_path / "x")
    second.step(2)
    assert_same(second, first)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"content": CONTENT[::-1]}, "content: made with"),
        ({"style": STYLE[::-1]}, "picture of style"),
        ({"weights": seeded.encoder_weights(1)}, "network_weights"),
        ({"content_weight": 0.5}, "content_weight: made with 0.02, this run has 0.5"),
        ({"iterations": 6}, "iterations: made with 5, this run has 6"),
        ({"scales": 1}, "scales"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"precision": "bf16"}, "precision: made with 'fp32', this run has 'bf16'"),
        ({"init": "noise"}, "init"),
        ({"start": CONTENT[::-1]}, "start"),
        ({"style_scale": 2.0}, "style_scale"),
        ({"preserve_colour": "luminance"}, "preserve_luminance"),
        ({"style": [STYLE, STYLE], "style_weight": [1.0, 1.0]}, "style_weight|picture of style"),
        ({"style_masks": np.ones(SIZE) * 0.5}, r"mask of style at \d+x\d+"),
        ({"content_mask": np.ones(SIZE) * 0.5}, "content mask"),
        ({"extra": {"own": lambda g, i, f: g.sum_to(g.multiply(i, i))}}, "extra"),
    ],
)
def test_another_run_is_refused_and_left_as_it_was(tmp_path, options, name):
    first, other = make(), make(**options)
    first.step(2)
    first.save(tmp_path / "x")
    before = other.image
    with pytest.raises(CheckpointError, match=rf"x: {name}"):
        other.resume(tmp_path / "x")
    assert other.iteration == 0
    np.testing.assert_array_equal(other.image, before)


@pytest.mark.parametrize("kind", ["depthstyle", "device", "processor", "numpy", "pillow"])
def test_another_environment_is_allowed_with_a_warning(tmp_path, kind, monkeypatch):
    first = make()
    first.step()
    environment = session_state.environment(first.device)
    monkeypatch.setattr(session_state, "environment", lambda _: {**environment, kind: "old"})
    first.save(tmp_path / "x")
    monkeypatch.undo()
    with pytest.warns(ReproducibilityWarning, match=rf"{kind} old, not .*last bits"):
        make().resume(tmp_path / "x")


def test_another_number_of_threads_gives_the_same_bits_and_no_warning(tmp_path):
    whole, first, second = make(threads=1), make(threads=3), make(threads=2)
    whole.step(8)
    first.step(3)
    first.save(tmp_path / "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.resume(tmp_path / "x")
    second.step(5)
    assert_same(second, whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda values, tensors: values.pop("stage"),
        lambda values, tensors: values.update(stage=7),
        lambda values, tensors: tensors.pop("best"),
        lambda values, tensors: tensors.update(image=tensors["image"][:, :2]),
        lambda values, tensors: tensors.pop("optimiser.steps"),
        lambda values, tensors: tensors.update({"optimiser.products": np.ones((1, 2, 9, 9))}),
        lambda values, tensors: values.update(optimiser=3),
        lambda values, tensors: values.update(losses=["total"]),
    ],
)
def test_contents_that_are_no_state_are_refused(tmp_path, change):
    first, second = make(), make()
    first.step(3)
    state = first.state()
    values, tensors = json.loads(json.dumps(state.values)), dict(state.tensors)
    change(values, tensors)
    checkpoint.write(tmp_path / "x", Contents(values, tensors))
    with pytest.raises(CheckpointError, match="x: is no state of a session"):
        second.resume(tmp_path / "x")
    second.step()
    assert second.losses == {name: losses[:1] for name, losses in first.losses.items()}


# Files


def test_what_was_written_is_read(tmp_path):
    checkpoint.write(tmp_path / "x", SMALL)
    found = checkpoint.read(tmp_path / "x")
    assert found.values == SMALL.values
    for name, array in SMALL.tensors.items():
        assert found.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(found.tensors[name], array)


def test_a_checkpoint_is_a_safetensors_file(tmp_path):
    from safetensors.numpy import load_file

    checkpoint.write(tmp_path / "x", SMALL)
    found = load_file(tmp_path / "x")
    np.testing.assert_array_equal(found["y"], SMALL.tensors["y"])


def test_the_previous_one_takes_the_place_of_a_damaged_one(tmp_path):
    path = tmp_path / "x"
    for number in (1, 2):
        checkpoint.write(path, Contents({"number": number}, SMALL.tensors))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.warns(DepthstyleWarning, match=r"x: tensor y: SHA-256 .*going on from .*previous"):
        assert checkpoint.read(path).values == {"number": 1}
    path.unlink()
    with pytest.warns(DepthstyleWarning, match="no such checkpoint; going on"):
        assert checkpoint.read(path).values == {"number": 1}
    checkpoint.previous(path).unlink()
    with pytest.raises(CheckpointError, match="x: no such checkpoint"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header: 0 bytes announced in a file of 0"),
        (b"\xff" * 8, "header: .* bytes announced in a file of 8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "it is damaged, or no checkpoint of depthstyle"),
        ((200).to_bytes(8, "little") + b"{" + b" " * 400, "no checkpoint of depthstyle"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(tmp_path / "x")


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", "depthstyle checkpoint 0")
    checkpoint.write(tmp_path / "x", SMALL)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"format: 'depthstyle checkpoint 0', expected"):
        checkpoint.read(tmp_path / "x")


# The lock


def test_one_run_at_a_time(tmp_path):
    with checkpoint.Lock(tmp_path / "x"):
        with pytest.raises(Busy, match=rf"another run, process {os.getpid()}, writes"):
            checkpoint.Lock(tmp_path / "x").__enter__()
        with pytest.raises(Busy):
            make().save(tmp_path / "x")
    assert os.listdir(tmp_path) == []
    make().save(tmp_path / "x")


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        f"import os, signal\nfrom depthstyle import checkpoint\n"
        f"checkpoint.Lock({str(tmp_path / 'x')!r}).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "x.lock").exists()
    with checkpoint.Lock(tmp_path / "x"):
        pass


# Runs


class Run:
    """A run that counts."""

    def __init__(self, iterations=100):
        self.iteration, self.iterations = 0, iterations

    def state(self):
        return Contents({"iteration": self.iteration}, SMALL.tensors)

    def restore(self, contents, path):
        self.iteration = contents.values["iteration"]


def test_a_run_is_saved_by_time_and_when_it_ends_early(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    run, keeper, saved = Run(), Checkpoints(tmp_path / "x"), []
    with pytest.raises(KeyError), keeper.of(run):
        for _ in range(75):
            run.iteration += 1
            clock[0] += 1
            keeper.after_step(run)
            if (tmp_path / "x").exists():
                saved.append(checkpoint.read(tmp_path / "x").values["iteration"])
        raise KeyError
    assert sorted(set(saved)) == [30, 60]
    assert checkpoint.read(tmp_path / "x").values == {"iteration": 75}
    again = Run()
    with Checkpoints(tmp_path / "x", resume=True).of(again):
        assert again.iteration == 75
        again.iteration = again.iterations
    keeper.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("seconds", "first", "between"), [(None, 30, 101), (5, 5, 6)])
def test_saving_takes_at_most_one_percent_of_the_time_unless_asked_for(
    tmp_path, monkeypatch, seconds, first, between
):
    clock, written = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])

    def slow(path, contents):
        written.append(clock[0])
        clock[0] += 1

    monkeypatch.setattr(checkpoint, "write", slow)
    run, keeper = Run(10_000), Checkpoints(tmp_path / "x", seconds=seconds)
    with keeper.of(run):
        while run.iteration < run.iterations:
            run.iteration += 1
            clock[0] += 0.1
            keeper.after_step(run)
    assert written[0] == pytest.approx(first, abs=0.2)
    assert len(written) >= 10
    assert np.diff(written) == pytest.approx(between, abs=0.2)


def test_a_failing_disk_is_a_warning_and_the_run_goes_on(tmp_path, monkeypatch):
    run, keeper = Run(3), Checkpoints(tmp_path / "x", seconds=0)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with keeper.of(run):
        run.iteration = 1
        keeper.after_step(run)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            run.iteration = 2
            with pytest.warns(DepthstyleWarning, match=r"x: .*\(No space left.*the run goes on"):
                keeper.after_step(run)
        assert checkpoint.read(tmp_path / "x").values == {"iteration": 1}
        assert not (tmp_path / "x.new").exists()
        run.iteration = 3
        keeper.after_step(run)
    assert checkpoint.read(tmp_path / "x").values == {"iteration": 3}


def test_stylize_goes_on_where_it_was_interrupted(tmp_path):
    def stop(session):
        if session.iteration == 3:
            raise KeyboardInterrupt

    options = {"weights": WEIGHTS, "iterations": 4, "progress": False}
    whole = ds.stylize(CONTENT, STYLE, **options)
    path = tmp_path / "x"
    with pytest.warns(DepthstyleWarning, match="interrupted after 3 of 8"):
        ds.stylize(CONTENT, STYLE, checkpoint=path, on_step=stop, **options)
    seen = []
    resumed = ds.stylize(
        CONTENT, STYLE, checkpoint=path, resume=True, on_step=lambda s: seen.append(s.iteration),
        **options,
    )  # fmt: skip
    assert seen == [4, 5, 6, 7, 8]
    assert resumed.tobytes() == whole.tobytes()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="resume=True: needs the file"):
        ds.stylize(CONTENT, STYLE, resume=True, **options)


def test_command_goes_on_where_it_was_interrupted(tmp_path, capsys, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    ds.write_image("style.png", STYLE)
    save_file(WEIGHTS, "weights.safetensors")
    words = ["stylize", "content.png", "style.png", "--weights", "weights.safetensors"]
    words += ["--iterations", "3"]
    assert cli.main([*words, "-o", "whole.png"]) == 0
    step = ds.Session.advance

    def interrupted(self, count=1):
        if self.iteration == 4:
            raise KeyboardInterrupt
        return step(self, count)

    with monkeypatch.context() as patch:
        patch.setattr(ds.Session, "advance", interrupted)
        assert cli.main([*words, "-o", "out.png", "--checkpoint-every", "0"]) == 0
    assert os.path.exists("out.png.checkpoint")
    with checkpoint.Lock("out.png.checkpoint"):
        assert cli.main([*words, "-o", "out.png", "--resume"]) == 2
    assert "another run" in capsys.readouterr().err
    assert cli.main([*words, "-o", "out.png", "--resume"]) == 0
    np.testing.assert_array_equal(ds.read_image("out.png"), ds.read_image("whole.png"))
    assert not [name for name in os.listdir() if "checkpoint" in name]
    assert cli.main([*words, "-o", "out.png", "--resume"]) == 0
    assert "no checkpoint; starting from the beginning" in capsys.readouterr().out
    assert cli.main([*words, "-o", "out.png", "--checkpoint-every", "-1"]) == 2
