"""The method fast: any size, strips, colours, recipes, errors, folders through several networks."""

import tracemalloc

import johnson_files
import numpy as np
import pytest
from safetensors.numpy import save_file
from seeded import picture

import depthstyle as ds
from depthstyle import (
    ImageError,
    NumericalError,
    OutOfMemory,
    WeightsError,
    cli,
    feedforward,
    networks,
    strips,
)
from depthstyle.engine import Engine
from depthstyle.feedforward import FastPainter
from depthstyle.networks.johnson import prepare


@pytest.fixture(scope="module", params=johnson_files.FORMS)
def weights(request):
    return johnson_files.weights(request.param)


@pytest.fixture(scope="module")
def examples():
    return johnson_files.weights("pytorch-examples")


def test_the_picture_has_the_photographs_size(weights):
    painter = FastPainter(weights=weights)
    for size in ((45, 50), (43, 41), (48, 64)):
        image = painter.paint(picture(1, *size)).image
        assert image.shape == (*size, 3)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1


def test_the_picture_is_what_the_network_returns(examples):
    content = picture(2, 23, 34)
    planes = networks.load("johnson", examples)(
        np.ascontiguousarray(content.transpose(2, 0, 1)[None] * np.float32(255))
    )
    wanted = planes[0, :, :23, :34].transpose(1, 2, 0).clip(0, 255) / 255
    found = FastPainter(weights=examples, precision="fp32").paint(content).image
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_original_form_sees_caffes_colours():
    """With a last convolution of zeros the output is the bias, tanh'ed: the mean colour in BGR."""
    arrays = dict(johnson_files.weights("original"))
    key = "model.modules.22"
    arrays[f"{key}.weight"] = np.zeros_like(arrays[f"{key}.weight"])
    arrays[f"{key}.bias"] = np.arctanh(np.float32([30, 0, -30]) / 150)
    image = FastPainter(weights=arrays).paint(picture(3, 44, 44)).image
    wanted = np.array([123.68 - 30, 116.779, 103.939 + 30]) / 255
    np.testing.assert_allclose(image, np.broadcast_to(wanted, image.shape), atol=1e-6)


def test_lengstrom_is_not_shifted_on_sides_that_are_no_multiples_of_four():
    """Its layers of stride two look further up on an odd side, and the picture would move."""
    painter = FastPainter(weights=johnson_files.weights("lengstrom"))
    content = picture(4, 60, 64)
    cut, whole = painter.paint(content[:58, :62]).image, painter.paint(content).image
    inner = cut[8:40, 8:40]
    distances = {
        shift: np.abs(inner - whole[8 + shift : 40 + shift, 8 + shift : 40 + shift]).mean()
        for shift in range(-3, 4)
    }
    assert min(distances, key=distances.get) == 0


@pytest.mark.parametrize("tile", [16, 40, 64])
def test_strips_give_the_same_picture(weights, tile):
    content = picture(5, 101, 47)
    whole = FastPainter(weights=weights, precision="fp32").paint(content).image
    strips = FastPainter(weights=weights, precision="fp32", tile=tile).paint(content).image
    assert np.abs(whole - strips).max() <= 1 / 255


def test_strips_where_memory_is_short(examples, monkeypatch):
    content = picture(6, 80, 52)
    painter = FastPainter(weights=examples, precision="fp32")
    whole = painter.paint(content).image
    ran = []

    class Runner(strips.StripRunner):
        def run(self, *args):
            ran.append(self)
            return super().run(*args)

    monkeypatch.setattr("depthstyle.strips.StripRunner", Runner)
    # the whole plan may take half of what is free
    monkeypatch.setattr(feedforward, "free_memory", lambda: 2 * painter._plan.bytes - 1)
    found = FastPainter(weights=examples, precision="fp32").paint(content).image
    assert len(ran) == 1
    assert np.abs(whole - found).max() <= 1 / 255


def test_memory_too_short_for_strips(examples, monkeypatch):
    monkeypatch.setattr(feedforward, "free_memory", lambda: 3 << 20)
    painter = FastPainter(weights=examples)
    with pytest.raises(OutOfMemory, match=r"content: 80x52 pixels need \d+ MiB .* 3 MiB more; use"):
        painter.paint(picture(6, 80, 52))


def test_strips_bound_their_memory(examples):
    """What `bytes` says is not less than what the kept maps and the plans of all passes take."""
    runner = strips.StripRunner(prepare(examples), Engine(), 32)
    plans = []

    class Watched(Engine):
        def compile(self, graph, outputs, **options):
            plans.append(super().compile(graph, outputs, **options))
            return plans[-1]

    said = sum(runner.bytes(200, 300))
    runner._engine = Watched()
    tracemalloc.start()
    runner.run(np.zeros((1, 3, 200, 300), np.float32))
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(plan.bytes for plan in plans) + 3 * 128 * 50 * 75 * 4 <= said
    assert arrays <= said


def test_one_plan_for_pictures_of_one_size(examples):
    painter = FastPainter(weights=examples)
    painter.paint(picture(7, 24, 28))
    plan = painter._plan
    painter.paint(picture(8, 24, 28))
    assert painter._plan is plan
    painter.paint(picture(8, 28, 24))
    assert painter._plan is not plan


def test_size_and_colours(examples):
    content = picture(9, 40, 60)
    small = FastPainter(weights=examples, size=30).paint(content).image
    assert small.shape == (20, 30, 3)
    plain = FastPainter(weights=examples).paint(content).image
    kept = FastPainter(weights=examples, preserve_colour="luminance").paint(content).image
    np.testing.assert_allclose(kept, ds.match_luminance(content, plain), atol=1e-6)
    kept = FastPainter(weights=examples, preserve_colour="covariance").paint(content).image
    np.testing.assert_allclose(kept, ds.match_colour(plain, content), atol=1e-6)


def test_threads_change_nothing(examples):
    content = picture(10, 37, 45)
    one, two = (FastPainter(weights=examples, threads=n).paint(content).image for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_recipe_names_the_file(examples, tmp_path):
    save_file(examples, tmp_path / "candy.safetensors")
    painted = FastPainter(weights=tmp_path / "candy.safetensors").paint(picture(1, 20, 24))
    assert painted.recipe["method"] == "fast"
    assert painted.recipe["network_weights"]["file"] == "candy.safetensors"
    assert len(painted.recipe["network_weights"]["sha256"]) == 64
    assert painted.recipe["form"] == "pytorch-examples"
    assert painted.recipe["size"] == [20, 24]


def test_through_the_public_function(examples):
    content = picture(1, 20, 24)
    found = ds.stylize(content, method="fast", weights=examples)
    np.testing.assert_array_equal(found, FastPainter(weights=examples).paint(content).image)


def test_bad_input(examples, tmp_path):
    content = picture(1, 20, 24)
    with pytest.raises(WeightsError, match="weights: method fast needs those of a transformation"):
        ds.stylize(content, method="fast")
    with pytest.raises(ValueError, match="style: method fast takes none"):
        ds.stylize(content, content, method="fast", weights=examples)
    with pytest.raises(ValueError, match="depth: method fast takes none"):
        ds.stylize(content, method="fast", weights=examples, depth=content[..., 0])
    with pytest.raises(ValueError, match="tile=8: must be a whole number of at least 16"):
        ds.stylize(content, method="fast", weights=examples, tile=8)
    with pytest.raises(ValueError, match=r"preserve_colour='hue'"):
        ds.stylize(content, method="fast", weights=examples, preserve_colour="hue")
    with pytest.raises(ImageError, match="content: 4x24 pixels are too few"):
        ds.stylize(content[:4], method="fast", weights=examples)
    save_file({"features.0.weight": np.ones((4, 3, 3, 3), np.float32)}, tmp_path / "other.st")
    with pytest.raises(WeightsError, match=r"other\.st: not the weights of johnson"):
        ds.stylize(content, method="fast", weights=tmp_path / "other.st")


def test_a_picture_that_is_not_finite_is_refused(examples):
    broken = examples | {"in5.weight": np.full(32, 3e38, np.float32)}
    with pytest.raises(NumericalError, match="not finite"):
        FastPainter(weights=broken).paint(picture(1, 20, 24))


def test_a_folder_through_several_networks(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for i in range(2):
        ds.write_image(photos / f"photo{i}.png", picture(i, 20 + i, 24))
    arrays = {}
    for seed, name in enumerate(("candy", "mosaic")):
        arrays[name] = johnson_files.weights("pytorch-examples", seed)
        save_file(arrays[name], tmp_path / f"{name}.safetensors")
    command = ["stylize", str(photos), "--method", "fast", "-o", str(out)]
    for name in arrays:
        command += ["--weights", str(tmp_path / f"{name}.safetensors")]
    assert cli.main(command) == 0
    for i in range(2):
        content = ds.read_image(photos / f"photo{i}.png")
        for name, weights in arrays.items():
            wanted = FastPainter(weights=weights).paint(content).image
            found = ds.read_image(out / f"photo{i}_{name}.png")
            assert np.abs(found - wanted).max() <= 0.51 / 255
    assert cli.main(command) == 0
    assert "4 were there" in capsys.readouterr().out


def test_one_line_for_bad_input(tmp_path, capsys):
    ds.write_image(tmp_path / "photo.png", picture(1, 20, 24))
    command = ["stylize", str(tmp_path / "photo.png"), "--method", "fast"]
    assert cli.main([*command, "-o", str(tmp_path / "out.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
