"""Depth of photographs: pre-processing, gradients, the choice of weights, the command."""

import hashlib
import tarfile
import zipfile
from dataclasses import replace

import depth_weights
import hostile_weights
import numpy as np
import pytest
import seeded
from PIL import Image
from safetensors.numpy import save_file
from torch7_writer import nested, torch7

import depthstyle as ds
from depthstyle import _core, cli, networks, weights
from depthstyle.networks import hourglass
from depthstyle.networks.midas_decoder import midas_size
from depthstyle.networks.midas_small import MIDAS_SMALL_DEPTH
from depthstyle.weights import registry
from depthstyle.weights.depth_choice import MODELS, choose_depth


@pytest.fixture(scope="module")
def hourglass_weights():
    return depth_weights.weights("hourglass")


@pytest.fixture(scope="module")
def midas_weights():
    return depth_weights.weights("midas-small")


@pytest.fixture(scope="module")
def midas_file(midas_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "midas.safetensors"
    save_file(midas_weights, path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(folder))
    return folder


@pytest.mark.parametrize(
    ("target", "size", "expected"),
    [
        (256, (480, 640), (192, 256)),
        (256, (1080, 1920), (128, 256)),  # 4.5 multiples of 32: halves go to the even one
        (384, (336, 640), (192, 384)),  # 6.3 multiples
        (384, (100, 100), (384, 384)),  # small pictures are enlarged
        (256, (100, 2000), (32, 256)),  # 0.4 multiples would be none
        (256, (2000, 100), (256, 32)),
    ],
)
def test_sizes_of_midas(target, size, expected):
    assert midas_size(target, *size) == expected


def test_monodepth2_sees_pictures_at_the_size_in_its_file():
    arrays = {"encoder.conv1.weight": np.zeros(1)}
    assert networks.depth_network(arrays).input_size(50, 70) == (192, 640)
    arrays |= {"height": np.array(320, np.float32), "width": np.array(1024, np.float32)}
    assert networks.depth_network(arrays).input_size(50, 70) == (320, 1024)


def test_folder_of_monodepth2(tmp_path, capsys):
    sizes = {"height": 320, "width": 1024, "use_stereo": False}
    encoder = {"encoder.conv1.weight": hostile_weights.tensor(), **sizes}
    (tmp_path / "encoder.pth").write_bytes(hostile_weights.zip_file(encoder))
    decoder = {
        "decoder.10.conv.bias": hostile_weights.legacy_tensor(),
        "beyond": 2**60,
        "flag": None,
    }
    (tmp_path / "depth.pth").write_bytes(hostile_weights.legacy_file(decoder))
    arrays = weights.load_all([tmp_path])
    assert {key: array.shape for key, array in arrays.items()} == {
        **{"encoder.conv1.weight": (4,), "decoder.10.conv.bias": (4,)},
        **dict.fromkeys(sizes, ()),
    }
    assert networks.depth_network(arrays).input_size(50, 70) == (320, 1024)
    assert cli.main(["weights", "show", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "network: monodepth2" in said and "number    1024" in said and "depth.pth" in said


def test_a_state_of_training_holds_a_model(tmp_path):
    state = {"model": {"conv.weight": hostile_weights.tensor()}}
    state["optimizer"] = {"state": {}, "param_groups": [1, 2]}
    (tmp_path / "state.pth").write_bytes(hostile_weights.zip_file(state))
    assert list(weights.load(tmp_path / "state.pth")) == ["conv.weight"]


def test_gradients_flow_through_resize_and_normalisation(midas_weights):
    """The slope of the output along a direction in the picture, in float64."""
    # at a smaller size than its own, since the reference takes seconds
    network = replace(MIDAS_SMALL_DEPTH, input_size=lambda h, w: (32, 64))
    shape = (1, 3, 37, 46)
    arrays = {key: array.astype(np.float64) for key, array in midas_weights.items()}
    graph = _core.Graph()
    image = graph.input("image", shape, kind="map")
    raw = network.add(graph, image, arrays)
    dy = graph.constant(depth_weights.direction(raw.shape), kind="map")
    total = graph.sum_to(graph.multiply(raw, dy))
    plan = graph.compile([total, *graph.gradient(total, [image])], backend="ref", dtype="float64")
    rng = np.random.default_rng(0)
    x, direction, step = rng.random(shape), rng.standard_normal(shape), 1e-7
    _, gradient = plan.run({"image": x})
    above, below = (plan.run({"image": x + t * direction})[0].item() for t in (step, -step))
    slope = (above - below) / (2 * step)
    assert abs(slope) > 1e-3
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-5)


def test_a_picture_goes_through_the_whole_network(midas_weights):
    network = MIDAS_SMALL_DEPTH
    image = seeded.picture(0, 36, 60)
    graph = _core.Graph()
    node = graph.variable("image", image.transpose(2, 0, 1)[None].copy(), kind="map")
    raw = network.add(graph, node, midas_weights)
    gradient = graph.gradient(graph.sum_to(raw), [node])
    raw, gradient = graph.compile([raw, *gradient]).run()
    assert raw.shape == (1, 1, 160, 256)
    assert np.abs(gradient).max() > 0
    size = {"h": 160, "w": 256, "mode": "bicubic"}
    graph = _core.Graph()
    node = graph.constant(image.transpose(2, 0, 1)[None].copy(), kind="map")
    (resized,) = graph.compile([graph.resize(node, **size)]).run()
    mean, std = (np.float32(v).reshape(1, 3, 1, 1) for v in (network.mean, network.std))
    expected = networks.load("midas-small", midas_weights)((resized - mean) / std)
    np.testing.assert_allclose(raw[:, 0], expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("network", "raw", "depth"),
    [
        (MIDAS_SMALL_DEPTH, [1, 2, 5], [1, 0.75, 0]),
        (hourglass.CHEN_DEPTH, [1, 2, 5], [0, 0.25, 1]),
        (hourglass.MEGADEPTH, np.log([1, 2, 5]), [0, 0.25, 1]),
        (MIDAS_SMALL_DEPTH, [3, 3, 3], [0.5, 0.5, 0.5]),
    ],
)
def test_the_meaning_of_outputs(network, raw, depth):
    many = np.repeat(np.array(raw, np.float32), 1000)  # so that none is an outlier
    found = network.to_depth(many)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[::1000], depth, atol=1e-6)


def test_a_wild_pixel_does_not_take_the_range():
    raw = np.linspace(1, 5, 10_000, dtype=np.float32)
    wild = raw.copy()
    wild[0] = -1000
    found = MIDAS_SMALL_DEPTH.to_depth(wild)
    np.testing.assert_allclose(found[1:], MIDAS_SMALL_DEPTH.to_depth(raw)[1:], atol=1e-3)


def test_estimates_have_the_size_of_the_photograph(midas_file):
    image = seeded.picture(1, 41, 67)
    depth = ds.estimate_depth(image, midas_file)
    raw = ds.estimate_depth(image, str(midas_file), raw=True)
    assert depth.shape == raw.shape == (41, 67)
    assert (depth.min(), depth.max()) == (0, 1)
    low, high = np.percentile(raw.astype(np.float64), [0.1, 99.9])
    expected = 1 - np.clip((raw - low) / (high - low), 0, 1)
    np.testing.assert_allclose(depth, expected, atol=1e-6)
    estimator = ds.DepthEstimator(midas_file)
    assert estimator.name == "midas-small"
    assert estimator.origin["file"] == "midas.safetensors"
    np.testing.assert_array_equal(estimator.raw(image), raw)
    assert estimator.raw(image[:40]).shape == (40, 67)
    np.testing.assert_array_equal(estimator.estimate(image).depth, depth)
    found = ds.resolve_depth(midas_file, image)
    np.testing.assert_array_equal(found.depth, depth)
    assert (found.near, found.far, found.kind) == (high, low, "disparity")


def test_constant_output_is_said(midas_weights):
    flat = {key: np.zeros_like(value) for key, value in midas_weights.items()}
    with pytest.warns(ds.DepthstyleWarning, match="midas-small: sees the same depth everywhere"):
        depth = ds.estimate_depth(seeded.picture(1), flat)
    assert (depth == 0.5).all()


def test_output_that_is_not_finite_is_refused(midas_weights):
    broken = {**midas_weights, "scratch.output_conv.4.bias": np.full(1, np.inf, np.float32)}
    with pytest.raises(ds.NumericalError):
        ds.estimate_depth(seeded.picture(1), broken)


def to_torch7(key):
    parts = key.split(".")
    return ".".join(f"modules.{int(part) + 1}" if part.isdigit() else part for part in parts)


def test_hourglass_of_torch7_is_chens(hourglass_weights, tmp_path):
    arrays = {to_torch7(key): array for key, array in hourglass_weights.items()}
    arrays["modules.1.gradWeight"] = np.zeros((2, 2), np.float32)
    path = tmp_path / "model.t7"
    path.write_bytes(torch7(nested(arrays), {}))
    chosen = choose_depth(path)
    assert chosen.network is hourglass.CHEN_DEPTH
    assert choose_depth(hourglass_weights).network is hourglass.MEGADEPTH
    assert choose_depth(tmp_path).origin == chosen.origin
    x = np.random.default_rng(0).random((1, 3, 16, 32), np.float32)
    expected = networks.load("hourglass", hourglass_weights)(x)
    np.testing.assert_array_equal(networks.load("hourglass", path)(x), expected)


@pytest.fixture(scope="module")
def pydnet_file(shared):
    return shared / "data" / "features" / "depth" / "pydnet_mobile_2019.tflite"


@pytest.mark.parametrize("name", ["livingroom", "skokloster"])
def test_pydnet_of_the_publishers_gives_the_reference_depth(name, shared, pydnet_file):
    folder = shared / "data" / "features" / "depth" / "reference"
    image = ds.read_image(folder / f"{name}_448x640_input.jpg")
    (stored,) = folder.glob(f"{name}_pydnet2019_*.png")
    low, high = (float(part) for part in stored.stem.split("2019_")[1].split("_to_"))
    expected = low + (high - low) * np.asarray(Image.open(stored), np.float64) / 65535
    net = networks.load("pydnet", pydnet_file)
    found = net(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    # half a step of the 16 bits of the reference
    np.testing.assert_allclose(found[0, 0], expected, atol=0.6 * (high - low) / 65535)


def test_pydnet_orders_a_room_as_a_sensor_does(shared, pydnet_file):
    from scipy.stats import spearmanr

    room = shared / "data" / "rgbd" / "kinect_room_3"
    measured = ds.read_depth_map(f"{room}_depth.png")
    depth = ds.estimate_depth(ds.read_image(f"{room}_rgb.jpg"), pydnet_file)
    valid = measured.valid
    assert spearmanr(depth[valid], measured.depth[valid]).statistic > 0.6  # measured: 0.65


def test_pydnet_agrees_with_float64_and_its_slope():
    arrays = depth_weights.pydnet_weights()
    shape = (1, 3, 64, 128)
    x = np.random.default_rng(1).random(shape).astype(np.float32)
    net = networks.load("pydnet", arrays)
    graph = _core.Graph()
    node = graph.input("x", shape, kind="map")
    exact = {key: array.astype(np.float64) for key, array in arrays.items()}
    depth = networks.build("pydnet").add(graph, node, exact, ["depth"])["depth"]
    dy = depth_weights.direction(depth.shape)
    total = graph.sum_to(graph.multiply(depth, graph.constant(dy, kind="map")))
    plan = graph.compile([depth, *graph.gradient(total, [node])], backend="ref", dtype="float64")
    values, gradient = plan.run({"x": x.astype(np.float64)})
    assert np.linalg.norm(net(x) - values) < 1e-5 * np.linalg.norm(values)
    assert np.linalg.norm(net.gradient(x, dy) - gradient) < 1e-4 * np.linalg.norm(gradient)


def test_nothing_in_the_cache_says_what_to_type():
    with pytest.raises(ds.WeightsError, match="run depthstyle weights get midas-small"):
        ds.estimate_depth(seeded.picture(1))
    with pytest.raises(ds.WeightsError, match=r"get monodepth2-\S+ --accept-non-commercial"):
        ds.estimate_depth(seeded.picture(1), "monodepth2")
    with pytest.raises(ds.WeightsError, match=r"unknown; choose from auto, midas-large"):
        choose_depth(None, "dpt")


def test_auto_takes_the_best_network_in_the_cache(cache, midas_file):
    assert MODELS[0] == "midas-large"
    assert len([name for name in MODELS if name.startswith("monodepth2-")]) == 9
    file = registry.published("midas-small")
    cache.mkdir()
    (cache / file.filename).write_bytes(midas_file.read_bytes())
    assert ds.DepthEstimator().name == "midas-small"
    image = seeded.picture(1)
    found = ds.resolve_depth("auto", image)
    np.testing.assert_array_equal(found.depth, ds.resolve_depth("midas-small", image).depth)


def test_weights_of_other_networks_are_refused(tmp_path):
    save_file(seeded.encoder_weights(), tmp_path / "encoder.safetensors")
    with pytest.raises(ds.WeightsError, match="those of encoder, which estimates no depth"):
        ds.estimate_depth(seeded.picture(1), tmp_path / "encoder.safetensors")
    save_file(depth_weights.weights("hourglass"), tmp_path / "other.safetensors")
    with pytest.raises(ds.WeightsError, match="no feature maps to compare"):
        ds.Session(*[seeded.picture(1)] * 2, weights=tmp_path / "other.safetensors")


def test_a_damaged_file_names_the_key(midas_weights):
    for key in ("scratch.layer4_rn.weight", "pretrained.layer2.0.1.bn2.running_var"):
        arrays = {name: array for name, array in midas_weights.items() if name != key}
        with pytest.raises(ds.WeightsError, match=f"{key}: missing"):
            networks.load("midas-small", arrays)


def test_a_negative_variance_is_refused(midas_weights):
    key = "pretrained.layer1.1.running_var"
    with pytest.raises(ds.WeightsError, match=f"{key}: has negative values"):
        networks.load("midas-small", {**midas_weights, key: -midas_weights[key]})


def test_two_files_that_do_not_belong_together(tmp_path, midas_weights):
    with pytest.raises(ds.WeightsError, match="as a file before it does"):
        networks.load("midas-small", midas_weights, midas_weights)
    save_file(midas_weights, tmp_path / "a.safetensors")
    with pytest.raises(ds.WeightsError, match=r"it takes encoder\.pth and depth\.pth"):
        networks.load("monodepth2", tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"give encoder\.pth and depth\.pth of monodepth2"):
        networks.load("monodepth2")


def test_sizes_that_the_module_does_not_take(midas_weights):
    net = networks.load("midas-small", midas_weights)
    with pytest.raises(ValueError, match="33x64 pixels, midas-small needs multiples of 32"):
        net(np.zeros((1, 3, 33, 64), np.float32))
    y = net(np.random.default_rng(0).random((1, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match=r"dy: shape \(1, 1, 32, 32\), the output has \(1, 32, 32"):
        net.gradient(np.zeros((1, 3, 32, 32), np.float32), y[:, None])
    taps = net(np.zeros((1, 3, 32, 64), np.float32), outputs=["layer_1", "layer_4"])
    assert [taps[key].shape for key in taps] == [(1, 32, 8, 16), (1, 384, 1, 2)]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_unpacked_into_the_cache(kind, monkeypatch, tmp_path, cache):
    parts = {"encoder.pth": b"encoder", "depth.pth": b"depth", "pose.pth": b"pose"}
    path = tmp_path / f"models.{kind}"
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in parts:
                archive.write(tmp_path / name, f"mono/{name}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name in parts:
                archive.add(tmp_path / name, f"mono/{name}")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    members = ("encoder.pth", "depth.pth")
    options = {"md5": md5, "members": members}
    file = registry.Published("test", "monodepth2", "https://a/b", None, "", "MIT", **options)
    monkeypatch.setitem(registry.PUBLISHED, "test", file)
    folder = weights.add(path)  # recognised by its MD5
    assert folder == cache / "test" == weights.find("test")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: parts[name] for name in members
    }
    assert weights.files_of(folder) == [folder / name for name in members]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ds.WeightsError, match=r"published with MD5"):
        weights.add(path, "test")


def test_archives_that_are_cut_or_lack_a_file(monkeypatch, tmp_path):
    path = tmp_path / "models.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other/encoder.pth", b"encoder")
        archive.writestr("bomb/depth.txt", b"")
    options = {"members": ("encoder.pth", "depth.pth")}
    file = registry.Published("test", "monodepth2", "https://a/b", None, "", "MIT", **options)
    monkeypatch.setitem(registry.PUBLISHED, "test", file)
    with pytest.raises(ds.WeightsError, match=r"holds no depth\.pth"):
        weights.add(path, "test")
    path.write_bytes(b"not an archive")
    with pytest.raises(ds.WeightsError, match="damaged archive"):
        weights.add(path, "test")
    assert weights.find("test") is None


def write_photograph(path):
    image = (255 * seeded.picture(2, 40, 60)).astype(np.uint8)
    Image.fromarray(image).save(path)
    return path


def test_command_estimates_photographs(midas_file, tmp_path, capsys):
    photo = write_photograph(tmp_path / "photo.png")
    out, raw = tmp_path / "out.png", tmp_path / "raw.npy"
    arguments = ["depth", str(photo), "-o", str(out), "--model", str(midas_file)]
    assert cli.main([*arguments, "--raw", str(raw), "--threads", "1"]) == 0
    assert "60x40 disparity by midas-small: near " in capsys.readouterr().out
    depth = ds.estimate_depth(ds.read_image(photo), midas_file)
    np.testing.assert_allclose(ds.read_depth(out), depth, atol=1e-5)
    expected = ds.estimate_depth(ds.read_image(photo), midas_file, raw=True)
    np.testing.assert_array_equal(np.load(raw), expected)
    assert (tmp_path / "out_preview.png").exists()


def test_command_forces_a_grey_photograph(midas_file, tmp_path, capsys):
    photo = tmp_path / "grey.png"
    Image.open(write_photograph(tmp_path / "photo.png")).convert("L").save(photo)
    out = str(tmp_path / "out.png")
    assert cli.main(["depth", str(photo), "-o", out]) == 0
    assert "% filled" in capsys.readouterr().out
    assert cli.main(["depth", str(photo), "-o", out, "--model", str(midas_file)]) == 0
    assert "by midas-small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png"], "run depthstyle weights get midas-small"),
        (["photo.png", "--model", "dpt"], "dpt: no such file"),
        (["photo.png", "--model", "midas-small", "--kind", "depth"], "--kind: is for a depth file"),
        (["photo.png", "--kind", "depth"], "is a coloured picture"),
        (["photo.png", "--model", "midas-small", "--raw", "raw.png"], "is written as .npy"),
        (["photo.png", "--model", "midas-small", "--raw", "gone/raw.npy"], "folder does not exist"),
        (["depth.npy", "--raw", "raw.npy"], "--raw: is for a photograph"),
        (["gone.jpg"], "gone.jpg"),
    ],
)
def test_bad_input_is_one_line_and_no_file(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photograph("photo.png")
    np.save("depth.npy", np.linspace(0, 1, 12).reshape(3, 4))
    before = sorted(tmp_path.iterdir())
    assert cli.main(["depth", *arguments, "-o", "out.png"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert sorted(tmp_path.iterdir()) == before


def test_devices_are_refused_by_name():
    with pytest.raises(ValueError, match="device='gpu': choose from auto, cpu, cuda"):
        ds.estimate_depth(np.zeros((64, 64, 3)), device="gpu")
