"""Johnson et al.'s network in its published forms, against PyTorch (see golden/make_johnson.py).

In float64 the reference kernels agree with PyTorch to the rounding of the golden file, in float32
to a multiple of PyTorch's own error (see test_golden.py).
"""

import json
import struct
from pathlib import Path

import johnson_files
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_golden import FLIP, FLOOR, WINOGRAD
from torch7_writer import nested, torch7

from depthstyle import WeightsError, _core, networks
from depthstyle.images import read_image
from depthstyle.weights import load

REFERENCES = [f"ncnn_fp16/{name}.bin" for name in ("candy", "pointilism", "rain_princess")]
REFERENCES += [f"deeplearnjs/{name}" for name in ("la_muse", "scream", "wave")]


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "johnson.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=johnson_files.FORMS)
def form(request):
    return request.param


def error(found, exact):
    return np.linalg.norm(found.astype("f8") - exact) / np.linalg.norm(exact)


def test_float64(golden, form):
    weights = {key: array.astype("f8") for key, array in johnson_files.weights(form).items()}
    x = johnson_files.picture(form)
    graph = _core.Graph()
    node = graph.input("x", x.shape)
    (y,) = networks.build("johnson").add(graph, node, weights, ["output"]).values()
    dy = graph.constant(johnson_files.output_gradient(y.shape).astype("f8"), kind="map")
    gradient = graph.gradient(graph.sum_to(graph.multiply(y, dy)), [node])
    plan = graph.compile([y, *gradient], backend="ref", dtype="float64", threads=2)
    for name, found in zip(("output", "gradient"), plan.run({"x": x.astype("f8")}), strict=True):
        assert error(found, golden[f"{form}/{name}"]) <= np.finfo(np.float32).eps


def test_float32(golden, form):
    net = networks.load("johnson", johnson_files.weights(form))
    x = johnson_files.picture(form)
    y = net(x)
    dy = johnson_files.output_gradient(y.shape)
    # one of 100,000 ReLUs that decides otherwise shows in the gradient, not in the output
    for name, found, least in (("output", y, 0), ("gradient", net.gradient(x, dy), FLIP)):
        key = f"{form}/{name}"
        bound = max(WINOGRAD * max(golden[f"{key}/error"], FLOOR), least)
        assert error(found, golden[key]) <= bound, name


def write_ncnn(path, arrays):
    """The .bin of a pytorch-examples network in float16."""
    data = b""
    for array in arrays.values():
        if array.ndim == 4:
            half = array.astype("f2").tobytes()
            data += struct.pack("<I", 0x01306B47) + half + bytes(-len(half) % 4)
        else:
            data += array.tobytes()
    path.write_bytes(data)


def write_deeplearnjs(folder, arrays):
    folder.mkdir()
    manifest = {key: {"filename": key, "shape": array.shape} for key, array in arrays.items()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for key, array in arrays.items():
        (folder / key).write_bytes(array.tobytes())


def write_torch7(path, arrays, **beside):
    """A checkpoint with what training leaves in it beside the weights."""
    norm = "model.modules.3"
    arrays = {
        **arrays,
        f"{norm}.gradWeight": np.ones(16, np.float32),
        f"{norm}.bn.weight": np.ones(16, np.float32),
        f"{norm}.bn.running_mean": np.zeros(16, np.float32),
    }
    table = nested(arrays) | {"opt": {"arch": "c9s1-16", "tanh_constant": 150.0}} | beside
    path.write_bytes(torch7(table, {}))


def assert_same_output(form, file, arrays=None):
    x = johnson_files.picture(form)
    arrays = johnson_files.weights(form) if arrays is None else arrays
    wanted = networks.load("johnson", arrays)(x)
    np.testing.assert_array_equal(networks.load("johnson", file)(x), wanted)
    assert networks.identify(load(file)).name == "johnson"


@pytest.mark.parametrize("form", ["original", "original-batch", "original-nearest"])
def test_torch7_file(form, tmp_path):
    write_torch7(tmp_path / "net.t7", johnson_files.weights(form))
    assert_same_output(form, tmp_path / "net.t7")


def test_torch7_file_of_a_bare_network_with_running_std(tmp_path):
    arrays = johnson_files.weights("original-batch")
    old = {}
    for key, array in arrays.items():
        bare = key.removeprefix("model.")
        if key.endswith("running_var"):
            old[bare.replace("_var", "_std")] = ((array.astype("f8") + 1e-5) ** -0.5).astype("f4")
        else:
            old[bare] = array
    (tmp_path / "net.t7").write_bytes(torch7(nested(old), {}))
    x = johnson_files.picture("original-batch")
    wanted = networks.load("johnson", arrays)(x)
    found = networks.load("johnson", tmp_path / "net.t7")(x)
    assert error(found, wanted) <= 1e-5  # a rounding of each of 15 standard deviations


def test_ncnn_file(tmp_path):
    arrays = johnson_files.weights("pytorch-examples")
    write_ncnn(tmp_path / "net.bin", arrays)
    half = {key: a.astype("f2").astype("f4") if a.ndim == 4 else a for key, a in arrays.items()}
    assert_same_output("pytorch-examples", tmp_path / "net.bin", half)


def test_deeplearnjs_folder(tmp_path):
    write_deeplearnjs(tmp_path / "net", johnson_files.weights("lengstrom"))
    assert_same_output("lengstrom", tmp_path / "net")


def test_old_running_statistics_are_ignored(tmp_path):
    arrays = johnson_files.weights("pytorch-examples")
    for key in [key for key in arrays if ".in" in key or key.startswith("in")]:
        channels = len(arrays[key])
        arrays[key.replace(".bias", ".running_mean")] = np.full(channels, 7, np.float32)
        arrays[key.replace(".bias", ".running_var")] = np.full(channels, 9, np.float32)
    arrays |= johnson_files.weights("pytorch-examples")
    save_file(arrays, tmp_path / "net.safetensors")
    assert_same_output("pytorch-examples", tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", REFERENCES)
def test_published_networks_paint_the_reference_pictures(shared, name):
    """At most 0.1 % of the values are off by more than 2 of 255."""
    folder = shared / "data" / "johnson_weights"
    kind, style = name.removesuffix(".bin").split("/")
    content = read_image(folder / "reference_outputs" / "content_240x160.png") * np.float32(255)
    net = networks.load("johnson", folder / name)
    found = net(np.ascontiguousarray(content.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
    wanted = read_image(folder / "reference_outputs" / f"{kind}_{style}_240x160.png") * 255
    assert np.mean(np.abs(np.rint(found.clip(0, 255)) - wanted) > 2.01) <= 0.001


def test_another_torch7_network_is_refused(shared):
    file = shared / "data" / "johnson_weights" / "texture_nets_t7" / "starry_style.t7"
    with pytest.raises(WeightsError, match=r"starry_style\.t7: not the weights of johnson"):
        networks.load("johnson", file)


@pytest.mark.parametrize(("form", "least"), [("pytorch-examples", 5), ("original", 41)])
def test_smallest_picture(form, least):
    net = networks.load("johnson", johnson_files.weights(form))
    x = np.random.default_rng(0).random((1, 3, least, least), np.float32)
    assert np.isfinite(net(x)).all()
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        net(x[:, :, 1:].copy())


def test_missing_and_misshapen_arrays():
    for form, key in (
        ("pytorch-examples", "in4.bias"),
        ("original", "model.modules.20.weight"),
        ("lengstrom", "Variable_30"),
    ):
        arrays = johnson_files.weights(form)
        wrong = {**arrays, key: arrays[key][:-1]}
        with pytest.raises(WeightsError, match=r"shape \(.*\), expected"):
            networks.load("johnson", wrong)
        del arrays[key]
        with pytest.raises(WeightsError):
            networks.load("johnson", arrays)
