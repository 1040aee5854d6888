"""Recipes in pictures, and depthstyle rerun: the same pixels, or what is missing."""

import json
import shutil
from pathlib import Path

import depth_weights
import johnson_files
import numpy as np
import pytest
import seeded
from PIL import Image
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import cli, job
from depthstyle import recipe as recipes
from depthstyle.precision import resolve
from depthstyle.session import Session
from depthstyle.weights.cache import sha256
from depthstyle.weights.registry import published

CONTENT, STYLE = seeded.picture(1, 29, 36), seeded.picture(2, 33, 32)
DECODER = ds.weights.EMBEDDED.with_name("decoder.safetensors")
SHORT = ["--iterations", "9", "--scales", "1"]
METHODS = {
    "gatys": ["style.png", *SHORT],
    "lapstyle": ["style.png", "--method", "lapstyle", *SHORT],
    "depth": [
        "style.png", "content.png", *SHORT, "--depth", "depth.npy",
        "--depth-kind", "disparity", "--mask", "sigmoid", "--mask", "all",
    ],
    "encoding": [
        "style.png", *SHORT, "--depth", "tum.png", "--depth-encoding", "tum", "--mask", "sigmoid",
    ],
    "start": ["style.png", *SHORT, "--start", "content.png", "--init", "noise"],
    "adam": ["style.png", *SHORT, "--optimizer", "adam", "--learning-rate", "0.02"],
    "weights": ["style.png", *SHORT, "--weights", "weights.safetensors", "--threads", "1"],
    "noise": ["style.png", *SHORT, "--init", "noise", "--seed", "5", "--size", "24"],
    "16 bit": ["style.png", *SHORT, "--bits", "16"],
    "adain": ["style.png", "--method", "adain", "--strength", "0.7"],
    "da-adain": ["style.png", "--method", "da-adain", "--depth", "depth.npy", "--beta", "9"],
    "own adain": [
        "style.png", "content.png", "--method", "adain", "--style-weight", "1,3",
        "--weights", "encoder.safetensors", "--decoder", "decoder.safetensors",
    ],
    "fast": ["--method", "fast", "--weights", "fast.safetensors"],
}  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds.write_image("content.png", CONTENT, dpi=(300, 300))
    ds.write_image("style.png", STYLE)
    np.save("depth.npy", seeded.depth(29, 36))
    Image.fromarray((5000 + 20000 * seeded.depth(29, 36)).astype(np.uint16)).save("tum.png")
    save_file(seeded.encoder_weights(), "weights.safetensors")
    save_file(johnson_files.weights("pytorch-examples"), "fast.safetensors")
    for name, path in (("encoder", ds.weights.EMBEDDED), ("decoder", DECODER)):
        # another file than the embedded one: rerun must not find that
        save_file(dict(ds.weights.load(path)), f"{name}.safetensors", {"copy": "yes"})
    return tmp_path


def stylize(*words, output="out.png", content="content.png"):
    return cli.main(["stylize", content, *words, "-o", output])


def rerun(*words, picture="out.png", output="again.png"):
    return cli.main(["rerun", picture, "-o", output, *words])


@pytest.mark.parametrize("name", METHODS)
def test_rerun_makes_the_same_pixels_from_renamed_inputs(files, capsys, name):
    assert stylize(*METHODS[name]) == 0
    assert name == "noise" or np.abs(ds.read_image("out.png") - CONTENT).max() > 0.02
    inputs = files / "elsewhere" / "below"
    inputs.mkdir(parents=True)
    for number, path in enumerate(["content.png", "style.png", "depth.npy", "weights.safetensors"]):
        shutil.move(path, inputs / f"{number}{path[path.rindex('.') :]}")
    assert rerun("--inputs", "elsewhere") == 0
    assert "the same pixels as out.png" in capsys.readouterr().out
    before, after = ds.read_picture("out.png"), ds.read_picture("again.png")
    np.testing.assert_array_equal(before.rgb, after.rgb)
    assert after.bits == before.bits == (16 if name == "16 bit" else 8)
    first, second = ds.read_recipe("out.png"), ds.read_recipe("again.png")
    assert second.pop("precision_asked") == second["settings"].pop("precision")
    assert first.pop("precision_asked") == "auto"
    for recipe in (first, second):
        recipe.pop("inputs")
        origin = recipe.pop("network_weights")
        for origin_of_one in [origin] if "file" in origin else origin.values():
            assert origin_of_one["file"].endswith(".safetensors")
    assert first == second


@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.jpg"])
def test_the_recipe_says_all_and_no_paths(files, output):
    options = ["--weights", "weights.safetensors", "--depth", "depth.npy", "--seed", "3"]
    assert stylize("style.png", *SHORT, *options, output=output) == 0
    recipe = ds.read_recipe(output)
    assert recipe["depthstyle"] == ds.__version__
    assert recipe["method"] == "gatys"
    assert recipe["seed"] == 3
    assert recipe["settings"] == {"iterations": 9, "scales": 1, "seed": 3}
    for entry, name in [
        (recipe["inputs"]["content"], "content.png"),
        (recipe["inputs"]["styles"][0], "style.png"),
        (recipe["inputs"]["depth"], "depth.npy"),
        (recipe["inputs"]["weights"]["weights"], "weights.safetensors"),
    ]:
        size = (files / name).stat().st_size
        assert entry == {"name": name, "sha256": sha256(name), "bytes": size}
    assert recipe["network_weights"]["sha256"] == sha256("weights.safetensors")
    assert str(files) not in json.dumps(recipe)
    assert ds.read_picture(output).dpi == pytest.approx((300, 300), abs=0.1)


def test_the_embedded_weights_are_named_by_their_hash(files):
    assert stylize("style.png", *SHORT) == 0
    origin = ds.read_recipe("out.png")["network_weights"]
    assert origin == {"file": "encoder.safetensors", "sha256": sha256(ds.weights.EMBEDDED)}


def test_paths_on_request_are_where_rerun_looks_first(files, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("results") / "out.png")
    assert stylize("style.png", *SHORT, "--keep-paths", output=output) == 0
    assert ds.read_recipe(output)["inputs"]["content"]["path"] == str(files / "content.png")
    assert rerun(picture=output) == 0
    assert ds.read_recipe(output)["inputs"] != ds.read_recipe("again.png")["inputs"]


def test_only_files_of_the_right_size_are_read(files, monkeypatch):
    assert stylize("style.png", *SHORT, "--weights", "weights.safetensors") == 0
    Path("other.png").write_bytes(b"other")
    read = []
    digest = recipes._digest

    def reading(path, *rest):
        read.append(path.name)
        return digest(path, *rest)

    monkeypatch.setattr(recipes, "_digest", reading)
    Path("content.png").rename("moved.png")
    assert rerun() == 0
    assert "moved.png" in read and "other.png" not in read


def test_missing_inputs_are_all_named(files, capsys, tmp_path_factory):
    assert stylize("style.png", *SHORT, "--weights", "weights.safetensors") == 0
    output = str(tmp_path_factory.mktemp("results") / "out.png")
    shutil.copy("out.png", output)
    digest = sha256("content.png")
    ds.write_image("content.png", STYLE)
    assert rerun("--inputs", "style.png", "content.png", picture=output) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"content content.png with SHA-256 {digest}" in err
    assert "weights weights.safetensors" in err and "style style.png" not in err
    assert not (files / "again.png").exists()


def test_a_recipe_of_a_former_version_names_the_device_otherwise(files):
    assert stylize("style.png", *SHORT, "--device", "ref") == 0
    recipe, picture = ds.read_recipe("out.png"), ds.read_image("out.png")
    assert recipe["device"] == "ref"
    recipe["settings"]["backend"] = recipe["settings"].pop("device")
    ds.write_image("out.png", picture, recipe=recipe)
    assert rerun() == 0
    assert ds.read_recipe("again.png")["settings"]["device"] == "ref"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (None, "carries no recipe"),
        ({"seed": 1}, "its recipe does not tell how"),
        ({"method": "gatys", "settings": {}, "inputs": []}, "its recipe does not tell how"),
        ({"inputs": {"weights": {}, "styles": 3}, "settings": {}}, "its recipe does not tell how"),
        ({"failed": "loss is nan"}, "was written after an error"),
    ],
)
def test_pictures_that_cannot_be_rerun(files, capsys, recipe, words):
    ds.write_image("out.png", STYLE, recipe=recipe)
    assert rerun() == 2
    err = capsys.readouterr().err
    assert "out.png" in err and words in err and err.count("\n") == 1


def changed_recipes(recipe):
    """Yield copies of a recipe in which one value, at any depth, is another."""
    for key in recipe if isinstance(recipe, dict) else range(len(recipe)):
        for junk in (None, -1, [[]], {"junk": 1}):
            copy = json.loads(json.dumps(recipe))
            copy[key] = junk
            yield copy
        if isinstance(recipe[key], dict | list):
            for inner in changed_recipes(recipe[key]):
                copy = json.loads(json.dumps(recipe))
                copy[key] = inner
                yield copy


def test_damaged_recipes_are_one_line(files, capsys):
    assert stylize("style.png", "--iterations", "1", "--scales", "1", "--depth", "depth.npy") == 0
    recipe, picture = ds.read_recipe("out.png"), ds.read_image("out.png")
    told = ("depthstyle", "method", "settings", "inputs", "depth_kind", "output", "network_weights")
    capsys.readouterr()
    for damaged in changed_recipes({key: recipe[key] for key in told}):
        ds.write_image("out.png", picture, recipe=damaged)
        code = rerun()
        err = capsys.readouterr().err
        assert code in (0, 1, 2) and err.count("\n") == (1 if code == 2 else 0)


def test_places_that_do_not_exist(files, capsys):
    assert stylize("style.png", *SHORT) == 0
    assert rerun("--inputs", "gone") == 2
    assert "gone: no such file or folder" in capsys.readouterr().err


def test_rerun_of_an_interrupted_picture_stops_at_the_same_iteration(files, monkeypatch):
    step = Session.advance

    def interrupted(self, count=1):
        if self.iteration == 3:
            raise KeyboardInterrupt
        return step(self, count)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "advance", interrupted)
        assert stylize("style.png", "--iterations", "6", "--scales", "1") == 0
    assert ds.read_recipe("out.png")["interrupted"] == "3 of 6 iterations"
    assert rerun() == 0
    assert ds.read_recipe("again.png")["iteration"] == 3


def test_other_pixels_are_said(files, capsys):
    assert stylize("style.png", *SHORT) == 0
    recipe = ds.read_recipe("out.png")
    ds.write_image("out.png", STYLE, recipe=recipe)
    assert rerun() == 1
    assert "not the pixels of out.png" in capsys.readouterr().out


def test_output_may_not_be_an_input(files, capsys):
    before = (files / "content.png").read_bytes()
    assert stylize("style.png", *SHORT, output="content.png") == 2
    assert "content.png: is one of the inputs" in capsys.readouterr().err
    assert (files / "content.png").read_bytes() == before


# Transparency


@pytest.fixture
def transparent(files):
    alpha = np.linspace(0, 1, 29 * 36).reshape(29, 36)
    ds.write_image("clear.png", CONTENT, alpha=alpha)
    return ds.read_picture("clear.png").alpha


@pytest.mark.parametrize("method", ["gatys", "lapstyle", "adain", "da-adain", "fast"])
@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.webp"])
def test_alpha_is_kept(transparent, method, output):
    words = ["style.png", *SHORT] if method in ("gatys", "lapstyle") else METHODS[method]
    words = [*words, "--method", method, "--size", "36"]
    assert stylize(*words, content="clear.png", output=output) == 0
    result = ds.read_picture(output)
    np.testing.assert_array_equal(result.alpha, transparent)
    assert stylize(*words, output="opaque.png") == 0
    if output != "out.webp":
        np.testing.assert_array_equal(result.rgb, ds.read_picture("opaque.png").rgb)


def test_alpha_has_the_size_of_the_result(transparent):
    assert stylize("style.png", *SHORT, "--size", "18", content="clear.png") == 0
    expected = np.rint(ds.resize(transparent, (14, 18)) * 255) / 255
    np.testing.assert_allclose(ds.read_picture("out.png").alpha, expected, atol=1e-6)
    assert rerun() == 0


def test_alpha_may_be_flattened(transparent):
    words = ["style.png", *SHORT, "--alpha", "flatten=#ff0000"]
    assert stylize(*words, content="clear.png") == 0
    assert ds.read_picture("out.png").alpha is None
    red = ds.read_image("clear.png", background=(1, 0, 0))
    expected = ds.stylize(red, ds.read_image("style.png"), iterations=9, scales=1, progress=False)
    np.testing.assert_allclose(ds.read_image("out.png"), expected, atol=0.6 / 255)
    assert rerun() == 0
    assert ds.read_recipe("again.png")["output"]["alpha"] == "#ff0000"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "flatten=nocolour"], "'nocolour': no colour"),
        (["--alpha", "drop"], "'drop' must be keep, flatten or flatten=COLOUR"),
        (["--bits", "12"], "invalid choice: 12"),
        (["--size", "70000", "--alpha", "flatten"], "sides of 65500 pixels at most, not 70000"),
        ([], "JPEG holds no transparency"),
        (["--bits", "16"], "holds 8 bits only"),
    ],
)
def test_bad_output_options(transparent, files, capsys, words, said):
    assert stylize("style.png", *SHORT, *words, content="clear.png", output="out.jpg") == 2
    assert said in capsys.readouterr().err
    assert not (files / "out.jpg").exists()


def test_16_bit_results_are_finer_than_8_bits(files):
    assert stylize("style.png", *SHORT, "--bits", "16", output="out.tif") == 0
    fine = ds.read_picture("out.tif")
    expected = ds.stylize(CONTENT8, STYLE8, iterations=9, scales=1, progress=False)
    np.testing.assert_allclose(fine.rgb, expected, atol=0.51 / 65535)
    with Image.open("out.tif") as file:
        assert file.tag_v2[258] == (16, 16, 16)


CONTENT8, STYLE8 = (np.rint(picture * 255) / 255 for picture in (CONTENT, STYLE))


# Depth by a network


@pytest.fixture(scope="module")
def midas(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "midas.safetensors"
    save_file(depth_weights.weights("midas-small"), path)
    return path


@pytest.fixture
def depth_network(files, midas):
    job._estimator.cache_clear()
    shutil.copy(midas, midas.name)
    yield midas.name
    job._estimator.cache_clear()


def test_depth_by_a_network_is_rerun_from_its_weights(depth_network, files, capsys):
    words = ["style.png", "--method", "da-adain", "--depth", depth_network]
    assert stylize(*words) == 0
    entry = {"name": depth_network, "sha256": sha256(depth_network)}
    made_from = ds.read_recipe("out.png")["inputs"]
    precision = resolve("auto")
    assert made_from["depth"] == {
        "network": "midas-small", "precision": precision, "weights": [entry]
    }  # fmt: skip
    depth = ds.estimate_depth(ds.read_image("content.png"), depth_network)
    expected = ds.stylize(CONTENT8, STYLE8, "da-adain", depth=depth)
    np.testing.assert_allclose(ds.read_image("out.png"), expected, atol=0.51 / 255)
    assert rerun() == 0
    Path(depth_network).unlink()
    job._estimator.cache_clear()
    assert rerun() == 2
    assert f"missing depth network {depth_network} with SHA-256" in capsys.readouterr().err


def test_a_depth_loss_is_rerun_with_its_network(depth_network, files, capsys):
    words = ["--iterations", "2", "--scales", "1", "--depth-loss", "output"]
    assert stylize("style.png", *words, "--depth-network-weights", depth_network) == 0
    recipe = ds.read_recipe("out.png")
    assert recipe["depth_network"] == "midas-small"
    assert recipe["depth_network_weights"]["sha256"] == sha256(depth_network)
    assert rerun() == 0
    assert "the same pixels as out.png" in capsys.readouterr().out
    Path(depth_network).unlink()
    assert rerun() == 2
    assert f"missing depth_network_weights {depth_network}" in capsys.readouterr().err


def test_a_folder_with_depth_by_a_network(depth_network, files):
    Path("photos").mkdir()
    for number in range(2):
        ds.write_image(f"photos/{number}.png", seeded.picture(number, 30, 41))
    words = ["style.png", "--method", "da-adain", "--depth", depth_network]
    assert stylize(*words, content="photos", output="all") == 0
    assert stylize(*words, content="photos/1.png", output="one.png") == 0
    assert Path("all/1.png").read_bytes() == Path("one.png").read_bytes()


def test_a_depth_network_that_is_not_there_is_said_before_any_work(files, monkeypatch, capsys):
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(files / "cache"))
    for content, output in (("content.png", "out.png"), ("*.png", "out")):
        words = ["style.png", "--method", "da-adain", "--depth", "auto"]
        assert stylize(*words, content=content, output=output) == 2
        err = capsys.readouterr().err
        assert "depthstyle weights get" in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [["--method", "gatys"], ["--weights", "weights.safetensors"]])
def test_networks_from_the_cache_are_found_by_their_hash(files, midas, monkeypatch, words):
    """The encoder and the depth network that were taken by default, after the cache changed."""
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(files / "cache"))
    cached = files / "cache" / published("midas-small").filename
    cached.parent.mkdir()
    shutil.copy(midas, cached)
    short = ["--iterations", "3", "--scales", "1"]
    assert stylize("style.png", *short, "--depth-loss", "output", *words) == 0
    assert ds.read_recipe("out.png")["depth_network_weights"]["sha256"] == sha256(midas)
    cached.write_bytes(b"another")
    assert rerun() == 2
    shutil.copy(midas, "renamed.pt")
    assert rerun("--inputs", "renamed.pt") == 0
