"""Pictures written: depths, alpha, recipes, bad values, and every kind of bad path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import picture_files
import pytest
from PIL import Image

import depthstyle as ds
from depthstyle import images, picture_codec
from depthstyle.files import write_atomically

LSB8 = 1 / 255


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def colour():
    return np.float32(picture_files.samples() / 255)


def to_bytes(picture, bits):
    return np.rint(picture * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["out.png", "out.tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_round_trip(tmp_path, rng, bits, name, alpha):
    levels = (1 << bits) - 1
    picture = rng.integers(0, levels + 1, (7, 11, 3)) / levels
    opacity = rng.integers(0, levels + 1, (7, 11)) / levels if alpha else None
    path = tmp_path / name
    ds.write_image(path, picture, bits=bits, alpha=opacity, dpi=(300.0, 150.0))
    got = ds.read_picture(path)
    np.testing.assert_allclose(got.rgb, picture, atol=1e-6)
    assert got.bits == bits
    np.testing.assert_allclose(got.dpi, (300, 150), atol=0.02)
    if alpha:
        np.testing.assert_allclose(got.alpha, opacity, atol=1e-6)
    else:
        assert got.alpha is None


@pytest.mark.parametrize("name", ["out.jpg", "out.JPEG", "out.webp"])
def test_lossy_formats_stay_close(tmp_path, colour, name):
    ds.write_image(tmp_path / name, colour)
    assert np.abs(ds.read_image(tmp_path / name) - colour).mean() < 3 * LSB8


@pytest.mark.parametrize("name", ["out.png", "out.tif", "out.jpg", "out.webp"])
def test_recipe_comes_back(tmp_path, colour, name):
    recipe = {"method": "gatys", "seed": 3, "weights": [1.5, 2e-9], "style": "Der blaue Ölberg"}
    path = tmp_path / name
    ds.write_image(path, colour, recipe=recipe)
    assert ds.read_recipe(path) == recipe
    ds.write_image(path, colour)
    assert ds.read_recipe(path) is None


@pytest.mark.parametrize("text", ["{", "[]", "3", "null"])
def test_damaged_recipes_are_named(tmp_path, colour, text):
    path = tmp_path / "out.png"
    pixels = to_bytes(colour, 8)
    path.write_bytes(picture_codec.encode_picture(pixels, ".png", text, None))
    with pytest.raises(ds.ImageError, match=r"out\.png: its depthstyle recipe is damaged"):
        ds.read_recipe(path)


def test_recipe_must_be_json(tmp_path, colour):
    path = tmp_path / "out.png"
    for bad in [{"a": object()}, {"a": float("nan")}]:
        with pytest.raises(ds.ImageError, match="recipe: holds a value that JSON cannot"):
            ds.write_image(path, colour, recipe=bad)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("out.bmp", {}, "unknown picture suffix '.bmp'; use .png"),
        ("out", {}, "unknown picture suffix ''"),
        ("out.jpg", {"bits": 16}, "holds 8 bits only"),
        ("out.png", {"bits": 12}, "bits=12: must be 8 or 16"),
        ("out.jpg", {"alpha": np.ones((13, 17))}, "JPEG holds no transparency"),
        ("out.png", {"alpha": np.ones((3, 3))}, r"alpha: shape \(3, 3\) must be"),
        ("gone/out.png", {}, "does not exist; create it first"),
        ("folder.png", {}, "is a folder"),
    ],
)
def test_bad_output_is_refused(tmp_path, colour, name, options, words):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ds.ImageError, match=words):
        ds.write_image(tmp_path / name, colour, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7.0, -0.5])
def test_bad_values_never_reach_a_file(tmp_path, colour, bad):
    path = tmp_path / "out.png"
    ds.write_image(path, colour)
    before = path.read_bytes()
    broken = colour.copy()
    broken[3, 4, 1] = bad
    with pytest.raises(ds.ImageError, match=r"image: .*(NaN or infinite|outside)"):
        ds.write_image(path, broken)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("name", "longest"), [("a.webp", 16383), ("a.jpg", 65500)])
def test_sizes_that_a_format_cannot_hold_are_refused_before_the_work(tmp_path, name, longest):
    path = tmp_path / name
    images.check_output(path, longest=longest)
    with pytest.raises(ds.ImageError, match=f"sides of {longest} pixels at most"):
        images.check_output(path, longest=longest + 1)
    ds.write_image(path, np.zeros((1, longest)))
    images.check_output(tmp_path / "a.png", longest=10**6)


@pytest.mark.parametrize(
    "name",
    ["Ölberg am Abend.png", "two\nlines.png", "日本.tif", "-o.png", "n" * 251 + ".png", "A.PNG"],
)
def test_odd_names_are_written(tmp_path, colour, name):
    for _ in range(2):  # new, then in place of the old file
        ds.write_image(tmp_path / name, colour)
        np.testing.assert_allclose(ds.read_image(tmp_path / name), colour, atol=LSB8)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n" * 252 + ".png", "cannot be written .*File name too long"),
        ("n" * 5000 + ".png", "cannot be written .*File name too long"),
        ("a" * 200 + "/b.png", "does not exist"),
        ("file.txt/b.png", "does not exist"),
        ("nul\0.png", "cannot be written .*null byte"),
        ("", "unknown picture suffix"),
        (".png", "unknown picture suffix"),
    ],
)
def test_impossible_names_are_refused(tmp_path, colour, name, words):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(ds.ImageError, match=words):
        ds.write_image(tmp_path / name if name else "", colour)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_links_are_followed_and_read_only_files_replaced(tmp_path, colour):
    (tmp_path / "link.png").symlink_to(tmp_path / "target.png")
    ds.write_image(tmp_path / "link.png", colour)
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "target.png").is_file()
    (tmp_path / "target.png").chmod(0o400)
    ds.write_image(tmp_path / "link.png", colour / 2)
    assert ds.read_image(tmp_path / "target.png").max() < 0.6


UNFIT = """
import os, resource, signal, sys
import depthstyle as ds
picture = [[[0.1, 0.5, 0.9]] * 300] * 300
ds.read_recipe("out.tif")
if sys.argv[1] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
else:
    os.seteuid(65534)
try:
    ds.write_image("out.tif", picture)
except ds.ImageError as error:
    print(error)
"""


@pytest.mark.parametrize("obstacle", ["full", "rights"])
def test_a_full_disk_or_a_closed_folder_keep_the_old_picture(tmp_path, colour, obstacle):
    if obstacle == "rights" and os.geteuid() != 0:
        pytest.skip("giving up rights needs the root user")
    ds.write_image(tmp_path / "out.tif", colour)
    before = (tmp_path / "out.tif").read_bytes()
    path = os.pathsep.join([str(Path(ds.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", UNFIT, obstacle],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert result.stdout.startswith("out.tif: cannot be written ("), result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.tif"]
    assert (tmp_path / "out.tif").read_bytes() == before


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    with pytest.raises(ds.ImageError, match=r"x\.png: cannot be written \(No space left"):
        ds.write_image(tmp_path / "x.png", np.zeros((4, 4)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_written_png_is_tagged_and_readable_by_pillow(tmp_path, colour):
    path = tmp_path / "out.png"
    ds.write_image(path, colour, recipe={"seed": 1})
    with Image.open(path) as file:
        file.load()
        assert file.info["srgb"] == 0
        assert json.loads(file.text[picture_codec._RECIPE]) == {"seed": 1}
        np.testing.assert_array_equal(np.asarray(file), to_bytes(colour, 8))
