"""One setting of precision: what its names mean, what auto picks, where it is told and refused."""

import depth_weights
import johnson_files
import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import _core, cli, networks
from depthstyle.commands.doctor import amx
from depthstyle.methods import make_painter
from depthstyle.objective import Engine
from depthstyle.precision import resolve

CONTENT, STYLE = seeded.picture(1, 40, 52), seeded.picture(2, 48, 36)
WEIGHTS = seeded.encoder_weights()
SHORT = {"iterations": 2, "scales": 1, "weights": WEIGHTS}
METHODS = {
    "gatys": ([STYLE], SHORT),
    "lapstyle": ([STYLE], SHORT),
    "adain": ([STYLE], {}),
    "da-adain": ([STYLE], {}),
    "fast": ([], {"weights": johnson_files.weights("pytorch-examples")}),
}
AVX512, AMX = ["portable", "avx2", "avx512"], ["portable", "avx2", "avx512", "avx512_bf16", "amx"]


@pytest.fixture
def with_amx(monkeypatch):
    """Make this look like a machine with AMX."""
    monkeypatch.setattr(_core, "cpu_levels", lambda: AMX)


# What auto picks


@pytest.mark.parametrize(
    ("backend", "levels", "once", "adam", "lbfgs"),
    [
        ("cpu", AMX, "bf16", "bf16", "mixed"),
        ("cpu", AMX[:-1], "fp32", "fp32", "fp32"),
        ("cpu", AVX512, "fp32", "fp32", "fp32"),
        ("cpu", ["portable", "neon"], "fp32", "fp32", "fp32"),
        ("ref", AMX, "fp32", "fp32", "fp32"),
        ("cuda", AVX512, "bf16", "bf16", "tf32"),
    ],
)
def test_what_auto_picks(backend, levels, once, adam, lbfgs):
    for optimizer, expected in ((None, once), ("adam", adam), ("lbfgs", lbfgs)):
        assert resolve("auto", backend, optimizer, levels) == expected


@pytest.mark.parametrize("asked", ["fp32", "bf16", "mixed", "tf32"])
def test_what_is_asked_for_runs(asked):
    assert resolve(asked, "cuda", "lbfgs", AMX) == asked
    if asked != "tf32":
        assert resolve(asked, "cpu", "lbfgs", AVX512) == resolve(asked, "ref") == asked


@pytest.mark.parametrize("method", METHODS)
def test_methods_tell_auto_what_minimises(method, with_amx):
    styles, settings = METHODS[method]
    picked = make_painter(method, styles, **settings).device.rpartition(", ")[2]
    assert picked == ("mixed" if method in ("gatys", "lapstyle") else "bf16")
    if picked == "mixed":
        adam = make_painter(method, styles, **settings, optimizer="adam")
        assert adam.device.endswith(", bf16")


def test_auto_of_depth_networks_and_bare_networks(with_amx):
    weights = depth_weights.weights("midas-small")
    assert ds.DepthEstimator(weights).precision == "bf16"
    assert networks.load("midas-small", weights).precision == "fp32"
    assert networks.load("midas-small", weights, precision="auto").precision == "bf16"


# What is refused


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fp16", "precision='fp16': choose from auto, fp32, tf32, bf16, mixed"),
        (16, "precision=16: choose from"),
        ("tf32", "precision='tf32': is for GPUs, this runs on cpu; use fp32, mixed or bf16"),
    ],
)
def test_methods_refuse_by_name(method, value, message):
    styles, settings = METHODS[method]
    with pytest.raises(ValueError, match=message):
        make_painter(method, styles, **settings, precision=value)


def test_networks_refuse_by_name():
    weights = depth_weights.weights("midas-small")
    for make in (networks.load, lambda _, *rest, **options: ds.DepthEstimator(*rest, **options)):
        for value in ("fp16", "tf32"):
            with pytest.raises(ValueError, match=f"precision='{value}': "):
                make("midas-small", weights, precision=value)


@pytest.mark.parametrize("value", ["half", "tf32"])
def test_commands_refuse_in_one_line(value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    np.save("depth.npy", seeded.depth(40, 52))
    end = ["-o", "out.png", "--precision", value]
    for words in (
        ["stylize", "content.png", "content.png"],
        ["stylize", "content.png", "content.png", "--method", "adain"],
        ["sweep", "content.png", "content.png", "--depth", "depth.npy"],
        ["depth", "content.png"],
    ):
        assert cli.main([*words, *end]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"precision='{value}': " in error
    assert cli.main(["depth", "depth.npy", *end]) == 2
    assert "--precision: is for a photograph" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.png", "depth.npy"]


# Where it is told


def test_the_recipe_says_what_was_asked_and_what_ran(with_amx):
    for optimizer, ran in (("adam", "bf16"), ("lbfgs", "mixed")):
        recipe = ds.Session(CONTENT, STYLE, **SHORT, optimizer=optimizer).recipe
        assert (recipe["precision_asked"], recipe["precision"]) == ("auto", ran)
    recipe = ds.Session(CONTENT, STYLE, **SHORT, precision="fp32").recipe
    assert (recipe["precision_asked"], recipe["precision"]) == ("fp32", "fp32")


@pytest.mark.parametrize("threads", [1, 2])
def test_the_device_in_words(threads):
    level = _core.cpu_levels()[-1]
    words = f"cpu {level}, {threads} thread{'s' if threads > 1 else ''}"
    assert Engine("cpu", threads).description == f"{words}, fp32"
    assert Engine("cpu", threads, "bf16").description == f"{words}, bf16"


@pytest.mark.parametrize(
    ("levels", "flags", "limit", "words"),
    [
        (AMX, ["amx_tile", "amx_bf16"], None, "used, in bf16 and mixed"),
        (AVX512, ["avx512f"], None, "not used: this processor has none"),
        (AVX512, ["avx512f"], "avx512", "not used: this processor has none"),
        (AVX512, ["amx_tile", "amx_bf16"], "avx512", "not used: DEPTHSTYLE_CPU=avx512 forbids it"),
        (AVX512, ["amx_tile", "amx_bf16"], None, "not used: the compiler of this copy"),
        (AVX512, ["amx_tile", "amx_bf16"], "", "not used: the compiler of this copy"),
    ],
)
def test_doctor_says_why_amx_is_not_used(levels, flags, limit, words):
    assert amx(levels, flags, limit).startswith(words)


def test_doctor_says_what_auto_picks(with_amx, capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{'AMX':12} used, in bf16 and mixed" in lines
    assert any(line.startswith("precision    auto is bf16, mixed with L-BFGS") for line in lines)
