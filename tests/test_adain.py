"""AdaIN and depth-aware AdaIN as methods: settings, depth, edge cases, tiles, weights."""

import pickle
import warnings

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import _core, cli, networks
from depthstyle.methods import make_painter
from depthstyle.weights import cache

LSB = 1 / 255
CONTENT, STYLE = seeded.picture(1, 50, 61), seeded.picture(2, 40, 32)
DEPTH = seeded.depth(50, 61)


def paint(method="adain", content=CONTENT, style=STYLE, **settings):
    depth = settings.pop("depth", DEPTH if method == "da-adain" else None)
    return ds.stylize(content, style, method, depth=depth, **settings)


@pytest.mark.parametrize("method", ["adain", "da-adain"])
@pytest.mark.parametrize("size", [(9, 9), (9, 40), (17, 31), (64, 48), (23, 10)])
def test_pictures_have_the_size_of_the_photograph(method, size):
    depth = seeded.depth(*size) if method == "da-adain" else None
    found = paint(method, seeded.picture(1, *size), depth=depth)
    assert found.shape == (*size, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1


def test_the_style_reaches_the_picture():
    red = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (64, 64, 3)) * STYLE.mean()
    plain, painted = paint(strength=0.0), paint(style=red)
    assert (painted[..., 0] - painted[..., 2]).mean() > (plain[..., 0] - plain[..., 2]).mean() + 0.1


def test_what_is_near_keeps_the_photograph():
    kept, styled, between = paint(strength=0.0), paint(), paint("da-adain", epsilon=0.0)
    near, far = np.s_[:, :8], np.s_[:, -8:]
    assert abs(between - kept)[near].mean() < 0.1 * abs(styled - kept)[near].mean()
    assert abs(between - styled)[far].mean() < 0.1 * abs(styled - kept)[far].mean()


def test_beta_zero_and_constant_depth_are_half_strength():
    half = paint(strength=0.5)
    np.testing.assert_array_equal(paint("da-adain", beta=0), half)
    with pytest.warns(ds.DepthstyleWarning, match="constant"):
        flat = paint("da-adain", depth=np.full((50, 61), 0.3, np.float32))
    np.testing.assert_array_equal(flat, half)


def test_epsilon_one_is_adain_and_strength_scales():
    np.testing.assert_array_equal(paint("da-adain", epsilon=1.0), paint())
    np.testing.assert_array_equal(paint("da-adain", strength=0.5, epsilon=1.0), paint(strength=0.5))


def test_several_styles_are_weighted():
    other = 0.3 * seeded.picture(5, 33, 47)
    np.testing.assert_allclose(paint(style=[STYLE, other], style_weight=[3, 0]), paint(), atol=1e-6)
    np.testing.assert_array_equal(
        paint(style=[STYLE, other], style_weight=[2, 6]),
        paint(style=[STYLE, other], style_weight=[0.25, 0.75]),
    )
    assert abs(paint(style=[STYLE, other]) - paint()).mean() > LSB


def test_sizes_of_style_and_result():
    assert paint(size=40).shape == (33, 40, 3)
    assert paint(short_side=25).shape == (25, 30, 3)
    np.testing.assert_array_equal(paint(style_size=32), paint(style_size=None))
    assert abs(paint(style_size=96) - paint(style_size=32)).max() > LSB


@pytest.mark.parametrize("way", ["luminance", "covariance"])
def test_colours_of_the_photograph_are_kept(way):
    red = np.stack([STYLE[..., 0], 0.3 * STYLE[..., 1], 0.3 * STYLE[..., 2]], axis=-1)
    warm = paint(style=red) - paint(style=red, preserve_colour=way)
    assert warm[..., 0].mean() - warm[..., 2].mean() > 0.05


def test_a_style_is_encoded_once(monkeypatch):
    from depthstyle.autoencoder import Autoencoder

    encoded = []
    moments = Autoencoder.moments
    monkeypatch.setattr(
        Autoencoder, "moments", lambda self, image: encoded.append(1) or moments(self, image)
    )
    painter = make_painter("adain", [STYLE, STYLE])
    first = painter.paint(CONTENT).image
    painter.paint(seeded.picture(4, 30, 30))
    np.testing.assert_array_equal(painter.paint(CONTENT).image, first)
    assert len(encoded) == 2


@pytest.mark.parametrize("size", [(200, 333), (64, 130), (129, 257), (9, 300)])
@pytest.mark.parametrize("tile", [64, 104])
def test_tiles_give_the_same_picture(size, tile):
    content, depth = seeded.picture(3, *size), seeded.depth(*size)
    whole, tiled = (
        paint("da-adain", content, depth=depth, tile=side, precision="fp32")
        for side in (4096, tile)
    )
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=LSB / 10)


def test_tiles_are_chosen_where_memory_is_short(monkeypatch):
    from depthstyle import autoencoder, engine

    content = seeded.picture(3, 300, 310)
    whole = paint(content=content, precision="fp32")
    tiles = []
    inside = autoencoder.Autoencoder._paint_tiles
    monkeypatch.setattr(
        autoencoder.Autoencoder,
        "_paint_tiles",
        lambda self, *args: tiles.append(args[2]) or inside(self, *args),
    )
    monkeypatch.setattr(engine, "free_memory", lambda: 1 << 20)
    tiled = paint(content=content, precision="fp32")
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=LSB / 10)
    assert tiles == [256 // 8]


UNIFORM = {"black": 0.0, "white": 1.0, "grey": 0.5}


@pytest.mark.parametrize("colour", UNIFORM)
@pytest.mark.parametrize("method", ["adain", "da-adain"])
def test_uniform_pictures(method, colour):
    flat = np.full((40, 48, 3), UNIFORM[colour], np.float32)
    depth = seeded.depth(40, 48) if method == "da-adain" else None
    for content, style in ((flat, STYLE), (seeded.picture(1, 40, 48), flat), (flat, flat)):
        assert np.isfinite(paint(method, content, style, depth=depth)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (8, 100), (100, 8)])
def test_small_pictures_are_refused_with_the_minimum(size):
    with pytest.raises(ds.ImageError, match=r"content: .*at least 9"):
        paint(content=seeded.picture(1, *size))
    with pytest.raises(ds.ImageError, match=r"style 1: .*at least 9"):
        paint(style=seeded.picture(1, *size), style_size=None)


def test_algorithm_1_on_random_maps():
    """`strength_map` against a transcription of the paper's Algorithm 1 in NumPy."""
    random = np.random.default_rng(0)
    for _ in range(1000):
        depth = random.random(random.integers(1, 40, size=2)).astype("f4") ** random.integers(1, 5)
        beta, epsilon = float(random.choice([0, 1, 5, 20, 50, 1e4])), float(random.random())
        p = depth.max().astype(float) - depth.astype(float)
        if depth.min() < depth.max():
            p = (p - p.min()) / (p.max() - p.min())
            p = p - p.mean()
        else:
            p = np.zeros(p.shape)
        with np.errstate(over="ignore"):
            p = np.minimum(1 / (1 + np.exp(-beta * p)), 1 - epsilon)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ds.DepthstyleWarning)
            found = ds.strength_map(depth, beta=beta, epsilon=epsilon)
        # P is rounded to float32 before the slope beta / 4 of the logistic function
        np.testing.assert_allclose(found, p, rtol=0, atol=1e-6 + beta * 1e-7)
        assert found.min() >= 0 and found.max() <= np.float32(1 - epsilon)


BAD = (np.nan, np.inf, -1, "1", "", True, np.bool_(True), 1j, [], object())
BAD_NUMBERS = (*BAD, -np.inf, -0.001, None, 10**400)
BAD_SHARES = (*BAD_NUMBERS, 1.001, 1e30)
BAD_COUNTS = (*BAD, 0, 1.5)
BAD_SIZES = (*BAD_COUNTS, 10**6, 10**400)
PARAMETERS = {
    ("adain", "strength"): BAD_SHARES,
    ("da-adain", "strength"): BAD_SHARES,
    ("da-adain", "beta"): BAD_NUMBERS,
    ("da-adain", "epsilon"): BAD_SHARES,
    ("adain", "style_weight"): (*BAD_NUMBERS, 0, [0, 0], [1, np.nan], [1], [1, 1, 1]),
    ("adain", "style_size"): BAD_SIZES,
    ("adain", "size"): BAD_SIZES,
    ("adain", "short_side"): BAD_SIZES,
    ("adain", "tile"): (*BAD_COUNTS, 63),
    ("adain", "threads"): BAD_COUNTS,
    ("adain", "preserve_colour"): ("", "colour", 1, True),
    ("adain", "device"): ("", "gpu", "cuda:x", "cpu:1", 1, None),
}
BAD_SETTINGS = [(*key, value) for key, values in PARAMETERS.items() for value in values]


@pytest.mark.parametrize(("method", "name", "value"), BAD_SETTINGS, ids=range(len(BAD_SETTINGS)))
def test_bad_settings_are_refused_by_name(method, name, value):
    with pytest.raises(ValueError, match=f"{name}|size .* above"):
        make_painter(method, [STYLE, STYLE], **{name: value}).paint(CONTENT, DEPTH)


@pytest.mark.parametrize(("name", "values"), [("beta", BAD_NUMBERS), ("epsilon", BAD_SHARES)])
def test_strength_map_refuses_bad_parameters(name, values):
    for value in values:
        with pytest.raises(ValueError, match=name):
            ds.strength_map(DEPTH, **{name: value})


def test_numbers_of_numpy_are_numbers():
    found = paint(strength=np.float32(0.5), style_weight=[np.int64(2)], size=np.int64(61))
    np.testing.assert_array_equal(found, paint(strength=0.5))
    huge = make_painter("adain", [STYLE, STYLE], style_weight=[1e308, 1e308])
    assert huge.paint(CONTENT).recipe["style_weight"] == [0.5, 0.5]


BAD_DEPTHS = {
    "nan": np.where(np.eye(50, 61) > 0, np.nan, DEPTH),
    "infinite": np.where(np.eye(50, 61) > 0, np.inf, DEPTH),
    "negative": DEPTH - 0.5,
    "outlier": np.where(np.eye(50, 61) > 0, 1e30, DEPTH),
    "turned": DEPTH.T,
    "empty": np.empty((0, 61)),
    "channels": np.stack([DEPTH] * 3, axis=-1),
    "text": np.full((50, 61), "near"),
}


@pytest.mark.parametrize("name", BAD_DEPTHS)
def test_bad_depths_are_refused(name):
    with pytest.raises(ds.ImageError, match="depth"):
        paint("da-adain", depth=BAD_DEPTHS[name])


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="depth: method da-adain needs"):
        paint("da-adain", depth=None)
    np.testing.assert_array_equal(paint("adain", depth=DEPTH), paint("adain"))
    with pytest.raises(ValueError, match="size=40 and short_side=30"):
        paint(size=40, short_side=30)
    with pytest.raises(ValueError, match="needs a style"):
        ds.stylize(CONTENT, method="adain")
    with pytest.raises(ValueError, match="beta: is no setting of method adain"):
        paint(beta=3)


BLOCKS = ("0", "11", "12", "21", "22", "31", "32", "33", "34", "41")
"""Numbers of the encoder's layers in the distilled networks; the decoder mirrors them."""


def write_weights(folder, widths=(4, 5, 6, 7)):
    """Write a small encoder and decoder under the published keys."""
    from safetensors.numpy import save_file

    paths = folder / "encoder.safetensors", folder / "decoder.safetensors"
    for path, arrays in zip(paths, seeded.adain_weights(widths), strict=True):
        save_file(arrays, path)
    return paths


def test_weights_that_do_not_belong_together(tmp_path):
    encoder, decoder = write_weights(tmp_path)
    (tmp_path / "other").mkdir()
    _, wide = write_weights(tmp_path / "other", widths=(4, 5, 6, 9))
    with pytest.raises(ds.WeightsError, match="decoder: missing"):
        paint(weights=encoder)
    with pytest.raises(ds.WeightsError, match="weights: missing"):
        paint(decoder=decoder)
    with pytest.raises(ds.WeightsError, match="weights: int is neither a path nor a mapping"):
        paint(weights=1, decoder=decoder)
    with pytest.raises(ds.WeightsError, match="9 channels, the encoder gives 7"):
        paint(weights=encoder, decoder=wide)
    with pytest.raises(ds.WeightsError, match="weights: those of adain-decoder"):
        paint(weights=decoder, decoder=encoder)
    with pytest.raises(ds.WeightsError, match="decoder: those of adain-encoder"):
        paint(weights=encoder, decoder=encoder)


HOSTILE = {
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 80102481\n",
    "page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "pickle": pickle.dumps(print),
    "empty": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_are_no_weights(kind, tmp_path, capsys):
    encoder, _ = write_weights(tmp_path)
    bad, output = tmp_path / "bad.pth", tmp_path / "out.png"
    bad.write_bytes(HOSTILE[kind])
    photograph = tmp_path / "photo.png"
    ds.write_image(photograph, CONTENT)
    command = ["stylize", str(photograph), str(photograph), "-o", str(output), "--method", "adain"]
    assert cli.main([*command, "--weights", str(encoder), "--decoder", str(bad)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "bad.pth" in message
    assert not output.exists()


def test_uniform_pictures_have_finite_gradients():
    encoder, decoder = seeded.adain_weights()
    graph = _core.Graph()
    x = graph.constant(np.full((1, 3, 24, 32), 0.5, np.float32), kind="map")
    features = networks.build("adain-encoder").features(graph, x, encoder, ["relu4_1"])["relu4_1"]
    mixed = graph.adain(features, graph.moments(features))
    image = networks.build("adain-decoder").add(graph, mixed, decoder, ["image"])["image"]
    (gradient,) = graph.gradient(graph.sum_to(graph.multiply(image, image)), [x])
    assert np.isfinite(graph.compile([gradient]).run()[0]).all()


def test_weights_that_overflow_are_an_error(tmp_path):
    from safetensors.numpy import load_file

    encoder, decoder = map(load_file, write_weights(tmp_path))
    decoder["28.weight"] = decoder["28.weight"] * np.float32(1e38)
    decoder["25.weight"] = decoder["25.weight"] * np.float32(1e10)
    with pytest.raises(ds.NumericalError, match="not finite"):
        paint(weights=encoder, decoder=decoder)


def test_published_weights_in_the_cache_come_first(tmp_path, monkeypatch):
    embedded = make_painter("adain", [STYLE])
    encoder, decoder = write_weights(tmp_path)
    found = {"adain-encoder": encoder}
    monkeypatch.setattr(cache, "find", found.get)
    assert make_painter("adain", [STYLE]).paint(CONTENT).recipe == embedded.paint(CONTENT).recipe
    found["adain-decoder"] = decoder
    recipe = make_painter("adain", [STYLE]).paint(CONTENT).recipe
    assert recipe["network_weights"] == {
        "encoder": {"file": encoder.name, "sha256": cache.sha256(encoder)},
        "decoder": {"file": decoder.name, "sha256": cache.sha256(decoder)},
    }


def test_keys_of_torch7_and_of_the_distilled_networks(tmp_path):
    from safetensors.numpy import load_file

    encoder, decoder = map(load_file, write_weights(tmp_path))
    blocks = dict(zip(seeded.ADAIN_ENCODER, BLOCKS, strict=True))
    mirrored = dict(zip(seeded.ADAIN_DECODER, BLOCKS[:0:-1], strict=True))
    x = np.random.default_rng(0).random((1, 3, 20, 26), np.float32)
    for name, arrays, numbers in (
        ("adain-encoder", encoder, blocks),
        ("adain-decoder", decoder, mirrored),
    ):
        wanted = networks.load(name, arrays)(x)
        torch7, distilled = {}, {"model.conv11_aux.weight": np.zeros((64, 4, 1, 1), "f4")}
        for key, array in arrays.items():
            child, kind = key.split(".")
            torch7[f"modules.{int(child) + 1}.{kind}"] = array
            distilled[f"model.conv{numbers[child]}.{kind}"] = array
        for renamed in (torch7, distilled):
            assert networks.identify(renamed).name == name
            np.testing.assert_array_equal(networks.load(name, renamed)(x), wanted)
        x = networks.load(name, arrays)(x)


def test_command(tmp_path, capsys):
    photograph, style, depth = (tmp_path / f"{name}.png" for name in ("photo", "style", "depth"))
    ds.write_image(photograph, CONTENT)
    ds.write_image(style, STYLE)
    ds.write_image(depth, np.repeat(DEPTH[..., None], 3, axis=2)[..., 0])
    output = tmp_path / "out.png"
    command = ["stylize", str(photograph), str(style), str(style), "-o", str(output)]
    options = ["--method", "da-adain", "--depth", str(depth), "--beta", "5", "--epsilon", "0.3"]
    assert cli.main([*command, *options, "--style-weight", "1,3", "--short-side", "30"]) == 0
    assert ds.read_image(output).shape == (30, 37, 3)
    recipe = ds.read_recipe(output)
    assert (recipe["beta"], recipe["epsilon"], recipe["style_weight"]) == (5, 0.3, [0.25, 0.75])
    output.unlink()
    capsys.readouterr()
    assert cli.main([*command, "--method", "da-adain"]) == 2
    assert "depth" in capsys.readouterr().err and not output.exists()
    assert cli.main([*command, "--method", "adain", "--strength", "nan"]) == 2
    assert "strength=nan" in capsys.readouterr().err and not output.exists()


# Real networks -----------------------------------------------------------------------------------


def test_real_distilled_pair_returns_a_photograph(shared):
    folder = shared / "data" / "features" / "vgg19_16x_wct"
    encoder = networks.load("adain-encoder", folder / "4SE.pth")
    decoder = networks.load("adain-decoder", folder / "4SD.pth")
    image = ds.read_image(shared / "data" / "photos" / "tubingen.jpg")[:256, :320]
    x = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    # SOURCES.md states 0.039 (of 1) as the mean error on photographs
    assert abs(decoder(encoder(x)) - x).mean() < 2 * 0.039


def test_real_normalised_vgg_has_mean_activations_of_one(shared):
    path = shared / "data" / "features" / "vgg19_normalised" / "vgg_normalised_conv3_1.pth"
    arrays = ds.weights.load(path)
    encoder = networks.build("adain-encoder")
    image = ds.read_image(shared / "data" / "photos" / "tubingen.jpg")
    graph = _core.Graph()
    x = graph.constant(np.ascontiguousarray(image.transpose(2, 0, 1)[None]), kind="map")
    maps = encoder.features(graph, x, arrays, ["relu1_1", "relu2_1", "relu3_1"])
    for found in graph.compile(list(maps.values())).run():
        assert 0.3 < found.mean() < 3
