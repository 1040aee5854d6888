"""One setting of precision: what its names mean, what auto picks, where it is told and refused."""

import depth_weights
import johnson_files
import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import _core, cli, estimates, networks
from depthstyle.commands.doctor import amx
from depthstyle.engine import Engine
from depthstyle.methods import make_painter
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


# What it does

ROUNDING = 2.0**-9
"""Relative rounding error of bf16."""
THREE_PRODUCTS = 2.0**-17
"""Of what mixed may do forward: two bf16 numbers for one of fp32."""
CONVOLUTIONS = 9
"""Of the encoder, up to the last layer of the losses."""


def independent(roundings, size=ROUNDING):
    """Return the relative error that so many independent roundings leave."""
    return size * roundings**0.5


@pytest.mark.parametrize("device", ["cpu", "ref"])
def test_features_in_bf16_are_as_near_as_roundings_allow(device):
    """Each convolution rounds map, weights and result."""
    session = ds.Session(CONTENT, STYLE, **SHORT)
    maps = {
        precision: session.perception.features(CONTENT, ["relu4_1"], Engine(device, 2, precision))
        for precision in ("fp32", "bf16", "mixed")
    }
    exact, half, mixed = (found["relu4_1"] for found in maps.values())
    error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert ROUNDING / 4 < error < independent(3 * CONVOLUTIONS)
    error = np.linalg.norm(mixed - exact) / np.linalg.norm(exact)
    assert error < independent(3 * CONVOLUTIONS, THREE_PRODUCTS)
    bits = half.view(np.uint32) & 0xFFFF
    assert not bits.any(), "a map of bf16 has no lower bits"


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_sessions_descend_as_in_fp32(optimizer):
    """A loss is of the fourth power in the features, whose roundings are independent."""
    options = {**SHORT, "optimizer": optimizer, "iterations": 8}
    losses = {}
    for precision in ("fp32", "bf16", "mixed"):
        session = ds.Session(CONTENT, STYLE, **options, precision=precision, device="cpu")
        session.step(8)
        losses[precision] = np.array(session.losses["total"])
    few = 4 * independent(3 * CONVOLUTIONS)
    np.testing.assert_allclose(losses["bf16"][0], losses["fp32"][0], rtol=few)
    exact = 4 * independent(3 * CONVOLUTIONS, THREE_PRODUCTS)
    np.testing.assert_allclose(losses["mixed"][0], losses["fp32"][0], rtol=exact)
    for found in losses.values():
        assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
def test_networks_in_one_run_paint_as_in_fp32(precision):
    """To the 45 dB and 4 of 255 that bf16 is to have, by the embedded networks of AdaIN."""
    made = [
        make_painter("adain", [STYLE], precision=name, device="cpu").paint(CONTENT).image
        for name in ("fp32", precision)
    ]
    apart = np.abs(made[0] - made[1])
    assert np.mean(apart**2) < 10**-4.5
    assert 0 < 255 * apart.max() < 4 or precision == "mixed"


def test_depth_in_bf16_is_as_near_as_roundings_allow():
    weights = depth_weights.weights("midas-small")
    convolutions = sum(array.ndim == 4 for array in weights.values())
    found = [ds.DepthEstimator(weights, precision=name).raw(CONTENT) for name in ("fp32", "bf16")]
    error = np.linalg.norm(found[1] - found[0]) / np.linalg.norm(found[0])
    assert ROUNDING / 8 < error < independent(3 * convolutions)


def test_bare_networks_take_a_precision():
    weights, x = depth_weights.weights("monodepth2"), depth_weights.input_of("monodepth2")
    plain, exact, half = (
        networks.load("monodepth2", weights, **options)(x)["disp", 0]
        for options in ({}, {"precision": "fp32"}, {"precision": "bf16"})
    )
    assert plain.tobytes() == exact.tobytes() != half.tobytes()
    error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert error < independent(3 * sum(array.ndim == 4 for array in weights.values()))


def test_tiles_in_bf16_make_the_whole_picture():
    content = seeded.picture(3, 150, 170)
    whole, tiled = (
        make_painter("adain", [STYLE], precision="bf16", tile=tile, device="cpu").paint(content)
        for tile in (None, 64)
    )
    assert np.mean((whole.image - tiled.image) ** 2) < 10**-4.5


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
def test_memory_is_that_of_the_plans_of_the_precision(precision):
    """It is asked of a plan, which holds maps in half, not guessed."""
    sessions = [
        ds.Session(CONTENT, STYLE, **SHORT, precision=name, device="cpu", optimizer="adam")
        for name in ("fp32", precision)
    ]
    estimated = [estimates.memory_of(session)[0] for session in sessions]
    taken = []
    for session in sessions:
        session.step()
        taken.append(session._optimiser.bytes)
    assert taken[0] != taken[1]
    assert estimated[1] - estimated[0] == taken[1] - taken[0]


@pytest.mark.parametrize("precision", ["bf16", "mixed"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_resumed_session_is_the_same_bit_for_bit(precision, optimizer, tmp_path):
    def make(threads):
        options = {"precision": precision, "optimizer": optimizer, "device": "cpu"}
        return ds.Session(CONTENT, STYLE, **SHORT, **options, threads=threads)

    whole, first, second = make(1), make(3), make(2)
    whole.step(5)
    first.step(2)
    first.save(tmp_path / "x")
    second.resume(tmp_path / "x")
    second.step(3)
    assert second.losses == whole.losses
    assert second.image.tobytes() == whole.image.tobytes()


def test_rerun_takes_what_ran(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    ds.write_image("style.png", STYLE)
    words = ["stylize", "content.png", "style.png", "-o", "out.png", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("depthstyle.precision.FAST_LEVEL", _core.cpu_levels()[-1])
        assert cli.main([*words, "--iterations", "4", "--optimizer", "adam"]) == 0
        assert ", bf16: " in capsys.readouterr().out
    recipe = ds.read_recipe("out.png")
    assert (recipe["precision_asked"], recipe["precision"]) == ("auto", "bf16")
    assert "precision" not in recipe["settings"]
    assert cli.main(["rerun", "out.png", "-o", "again.png"]) == 0
    assert "the same pixels as out.png" in capsys.readouterr().out
    assert ds.read_recipe("again.png")["precision"] == "bf16"


def test_rerun_of_a_gpus_picture_tells_where_it_was_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    words = ["stylize", "content.png", "content.png", "-o", "out.png", "--device", "cpu"]
    assert cli.main([*words, "--method", "adain", "--precision", "fp32"]) == 0
    gpu = {"device": "NVIDIA H200", "precision": "tf32"}
    ds.write_image("gpu.png", 1 - CONTENT, recipe={**ds.read_recipe("out.png"), **gpu})
    capsys.readouterr()
    assert cli.main(["rerun", "gpu.png", "-o", "again.png"]) == 1
    told, level = capsys.readouterr().out, _core.cpu_levels()[-1]
    assert f"made by depthstyle {ds.__version__} on NVIDIA H200 in tf32, this by" in told
    assert f"on cpu {level} in fp32" in told


def test_pictures_from_before_the_choice_are_rerun_in_fp32(tmp_path, monkeypatch, with_amx):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    words = ["stylize", "content.png", "content.png", "-o", "out.png", "--method", "adain"]
    assert cli.main([*words, "--precision", "fp32"]) == 0
    recipe = dict(ds.read_recipe("out.png"))
    for name in ("precision", "precision_asked", "settings"):
        del recipe[name]
    ds.write_image("old.png", ds.read_image("out.png"), recipe={**recipe, "settings": {}})
    assert cli.main(["rerun", "old.png", "-o", "again.png"]) == 0
    assert ds.read_recipe("again.png")["precision"] == "fp32"


def test_commands_compute_as_they_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    np.save("depth.npy", seeded.depth(40, 52))
    save_file(depth_weights.weights("midas-small"), "midas.safetensors")
    sweep = ["sweep", "content.png", "content.png", "--depth", "depth.npy", "--beta", "9"]
    for words in (
        [*sweep, "--epsilon", "0", "--size", "48"],
        ["depth", "content.png", "--model", "midas.safetensors", "--raw", "OUT.npy"],
        ["stylize", "content.png", "content.png", "--method", "adain", "--bits", "16"],
    ):
        made = {}
        for name in ("fp32", "bf16"):
            told = [word.replace("OUT", name) for word in words]
            assert cli.main([*told, "-o", f"{name}.png", "--precision", name]) == 0
            made[name] = ds.read_image(f"{name}.png")
        assert not np.array_equal(made["fp32"], made["bf16"])


def test_depth_on_the_way_has_the_precision_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT)
    save_file(depth_weights.weights("midas-small"), "midas.safetensors")
    words = ["stylize", "content.png", "content.png", "--method", "da-adain"]
    words += ["--depth", "midas.safetensors", "-o", "out.png"]
    for told, ran in ((["--precision", "bf16"], "bf16"), ([], resolve("auto"))):
        assert cli.main([*words, *told]) == 0
        assert ds.read_recipe("out.png")["inputs"]["depth"]["precision"] == ran
