"""Folders and patterns of depthstyle stylize: every picture once, whatever happens in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import batch, cli, job
from depthstyle.session import Session

SHORT = ["--iterations", "5", "--scales", "1"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "styles", "depths", "models"):
        Path(folder).mkdir()
    for number in range(3):
        ds.write_image(f"photos/p{number}.png", seeded.picture(number, 20 + number, 26))
        np.save(f"depths/p{number}.npy", seeded.depth(20 + number, 26))
    ds.write_image("styles/s0.jpg", seeded.picture(7, 24, 21))
    ds.write_image("styles/s1.png", seeded.picture(8, 24, 21))
    for name in ("a", "b"):
        save_file(seeded.encoder_weights(), f"models/{name}.safetensors")
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/.hidden.png").write_text("no picture")
    return tmp_path


def stylize(content, *styles, output="out", options=SHORT):
    return cli.main(["stylize", content, *styles, "-o", output, *options])


def names(folder="out"):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize(
    ("content", "styles", "expected"),
    [
        ("photos", ["styles/s0.jpg"], ["p0.png", "p1.png", "p2.png"]),
        ("photos/p[01].png", ["styles/s0.jpg"], ["p0.png", "p1.png"]),
        ("photos/p0.png", ["styles"], ["p0_s0.png", "p0_s1.png"]),
        (
            "photos/p[12].png",
            ["styles/*"],
            ["p1_s0.png", "p1_s1.png", "p2_s0.png", "p2_s1.png"],
        ),
        ("photos/p0.png", ["styles", "styles/s0.jpg"], ["p0_s0_s0.png", "p0_s1_s0.png"]),
    ],
)
def test_each_picture_in_turn(files, content, styles, expected, capsys):
    assert stylize(content, *styles) == 0
    assert names() == expected
    assert f"wrote {len(expected)} pictures to out" in capsys.readouterr().out


def test_a_batch_makes_the_pictures_of_single_runs(files):
    options = [*SHORT, "--depth", "depths", "--mask", "sigmoid", "--bits", "16"]
    assert stylize("photos", "styles", options=options) == 0
    for number in range(3):
        for style in ("s0.jpg", "s1.png"):
            single = [*SHORT, "--mask", "sigmoid", "--depth", f"depths/p{number}.npy"]
            photo, name = f"photos/p{number}.png", f"p{number}_{style[:2]}.png"
            words = [photo, f"styles/{style}"]
            assert stylize(*words, output="one.png", options=[*single, "--bits", "16"]) == 0
            assert Path("out", name).read_bytes() == Path("one.png").read_bytes()


def test_several_weights(files):
    options = [*SHORT, "--weights", "models"]
    assert stylize("photos/p0.png", "styles/s0.jpg", options=options) == 0
    assert names() == ["p0_a.png", "p0_b.png"]
    options = [*SHORT, "--weights", "models/b.safetensors", "--weights", "models/a.safetensors"]
    assert stylize("photos", "styles", output="all", options=options) == 0
    assert len(names("all")) == 12
    assert "p2_s1_b.png" in names("all")


def test_several_networks_that_are_folders(files):
    for name in ("a", "b"):
        folder = Path("models", name)
        folder.mkdir()
        Path(folder, "manifest.json").write_text("{}")
    models = ["models/a", "models/a.safetensors", "models/b", "models/b.safetensors"]
    for argument in ("models", "models/*"):
        assert [str(path) for path in batch.expand(argument, batch.WEIGHTS_SUFFIXES)] == models
    assert not batch.is_many("models/a")


def test_a_bad_file_is_listed_and_the_others_are_painted(files, capsys):
    Path("photos/p1.png").write_bytes(Path("photos/p1.png").read_bytes()[:90])
    Path("styles/s2.png").write_text("nothing")
    assert stylize("photos", "styles") == 1
    assert names() == ["p0_s0.png", "p0_s1.png", "p2_s0.png", "p2_s1.png"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("depthstyle: failed: ") for line in lines)
    assert sum("photos/p1.png" in line for line in lines) == 2
    assert sum("styles/s2.png" in line for line in lines) == 1


def test_depth_files_that_are_missing_or_doubled(files, capsys):
    Path("depths/p0.npy").unlink()
    np.savez("depths/p1.npz", depth=seeded.depth(21, 26))
    assert stylize("photos", "styles/s0.jpg", options=[*SHORT, "--depth", "depths"]) == 1
    err = capsys.readouterr().err
    assert "photos/p0.png: needs one depth file p0.* in depths, found none" in err
    assert "photos/p1.png: needs one depth file p1.* in depths, found p1.npy, p1.npz" in err
    assert names() == ["p2.png"]


def test_what_is_done_is_not_done_again(files, capsys, monkeypatch):
    assert stylize("photos", "styles/s0.jpg") == 0
    Path("out/p1.png").unlink()
    before = {name: Path("out", name).stat().st_mtime_ns for name in names()}
    capsys.readouterr()
    assert stylize("photos", "styles/s0.jpg", options=[*SHORT, "--threads", "1"]) == 0
    assert "wrote 1 pictures to out, 2 were there" in capsys.readouterr().out
    assert {name: Path("out", name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize("change", ["settings", "content", "style", "version", "damage"])
def test_what_was_made_otherwise_is_made_again(files, capsys, monkeypatch, change):
    assert stylize("photos/p[01].png", "styles/s0.jpg") == 0
    options, again = SHORT, 2
    if change == "settings":
        options = [*SHORT, "--seed", "4"]
    elif change == "content":
        ds.write_image("photos/p0.png", seeded.picture(9, 20, 26))
        again = 1
    elif change == "style":
        ds.write_image("styles/s0.jpg", seeded.picture(9, 20, 26))
    elif change == "version":
        monkeypatch.setattr(ds, "__version__", "9.9")
    else:
        Path("out/p1.png").write_bytes(b"\x89PNG")
        again = 1
    capsys.readouterr()
    assert stylize("photos/p[01].png", "styles/s0.jpg", options=options) == 0
    assert f"wrote {again} pictures" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_done_and_goes_on_later(files, capsys, monkeypatch):
    assert stylize("photos", "styles/s0.jpg", output="whole") == 0
    step, count = Session.advance, iter(range(99))

    def interrupted(self, number=1):
        if next(count) == 8:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "advance", interrupted)
        assert stylize("photos", "styles/s0.jpg") == 130
    assert names() == ["p0.png", "p1.png"]
    assert ds.read_recipe("out/p1.png")["interrupted"] == "3 of 5 iterations"
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert stylize("photos", "styles/s0.jpg") == 0
    assert "wrote 2 pictures to out, 1 were there" in capsys.readouterr().out
    for name in names("whole"):
        assert Path("whole", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_batch_leaves_whole_pictures_and_goes_on(files, stop):
    options = ["--iterations", "40", "--scales", "1"]
    assert stylize("photos/p[01].png", "styles", output="whole", options=options) == 0
    words = ["stylize", "photos/p[01].png", "styles", "-o", "out", *options]
    command = [sys.executable, "-m", "depthstyle", *words]
    root = Path(ds.__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 60
    while not (Path("out").is_dir() and names()) and time.monotonic() < give_up:
        time.sleep(0.005)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    found = [name for name in names() if not name.startswith(".")]
    for name in found:
        assert ds.read_image(f"out/{name}").shape[2] == 3
    assert stylize("photos/p[01].png", "styles", options=options) == 0
    for name in names("whole"):
        assert Path("whole", name).read_bytes() == Path("out", name).read_bytes()


def test_a_result_that_cannot_be_written_ends_the_batch(files, capsys, monkeypatch):
    write = job.write_image

    def full(path, *arguments, **options):
        if Path(path).name == "p1.png":
            raise ds.ImageError(f"{path}: cannot be written (No space left on device)")
        write(path, *arguments, **options)

    monkeypatch.setattr(job, "write_image", full)
    assert stylize("photos", "styles/s0.jpg") == 2
    assert "out/p1.png: cannot be written" in capsys.readouterr().err
    assert "p0.png" in names() and "p1.png" not in names()


def test_a_diverging_picture_is_listed_and_its_last_good_state_written(files, capsys, monkeypatch):
    step = Session.advance

    def diverge(self, count=1):
        if self.iteration == 2 and self._content.shape[0] == 21:
            self.weights["style"] = 1e38
        return step(self, count)

    monkeypatch.setattr(Session, "advance", diverge)
    options = [*SHORT, "--optimizer", "adam", "--learning-rate", "1e30"]
    assert stylize("photos", "styles/s0.jpg", options=options) == 1
    assert "photos/p1.png: iteration 2: " in capsys.readouterr().err
    assert names() == ["p0.png", "p1.png", "p2.png"]
    assert "failed" in ds.read_recipe("out/p1.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos/*.gif", "styles"], "photos/*.gif: found none of a file that the pattern fits"),
        (["models", "styles"], "models: found none of files .png"),
        (["photos", "gone.png"], "gone.png: cannot be read"),
        (["photos", "styles", "-o", "out.png"], "-o out.png: several pictures are made"),
        (["photos", "styles", "--losses", "curves.png"], "--losses: is for a single picture"),
        (["photos", "styles", "--preview", "2"], "--preview: is for a single picture"),
        (["photos", "styles", "--depth", "depths/p0.npy"], "is for one photograph, there are 3"),
        (["photos", "styles/s0.jpg", "-o", "photos"], "photos/p0.png: is one of the inputs"),
        (["photos", "styles", "--method", "adaim"], "method='adaim': unknown"),
    ],
)
def test_bad_requests_are_refused_before_any_work(files, capsys, words, said):
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    code = cli.main(["stylize", *([] if "-o" in words else ["-o", "out"]), *words, *SHORT])
    err = capsys.readouterr().err
    assert code == (1 if "gone" in said else 2)
    assert said in err and err.count("\n") == 1
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_two_results_of_one_name_are_refused(files, capsys):
    ds.write_image("photos/P0.jpg", seeded.picture(1, 20, 26))
    assert stylize("photos", "styles/s0.jpg") == 2
    err = capsys.readouterr().err
    assert "photos/P0.jpg" in err and "photos/p0.png" in err and "rename an input" in err
    assert not Path("out").exists() or not names()


def test_pictures_are_decoded_ahead_but_not_all_at_once(files, monkeypatch):
    reads, most = [], []

    def read(one):
        reads.append(one.content.name)
        return job.read(one)

    def paint(one, painter, photograph, **hooks):
        time.sleep(0.05)
        most.append(len(reads) - len(most))
        return job.paint(one, painter, photograph, **hooks)

    monkeypatch.setattr(batch, "read", read)
    monkeypatch.setattr(batch, "paint", paint)
    assert stylize("photos", "styles") == 0
    assert len(reads) == 6
    assert max(most) in (2, 3)
