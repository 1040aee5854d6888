"""The readers of weights against what PyTorch and others wrote."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile_weights import entry, safetensors_file
from tflite_writer import tflite_file
from torch7_writer import torch7

from depthstyle import WeightsError, weights

GOLDEN = Path(__file__).parent / "golden" / "weights"
ROUND_TRIPS = ["state", "parallel", "strided", "types", "nested", "parameter", "bare"]


def assert_equal(found, wanted, prefix=""):
    assert sorted(found) == sorted(name.removeprefix(prefix) for name in wanted)
    for name, array in wanted.items():
        read = found[name.removeprefix(prefix)]
        assert read.dtype == array.dtype, name
        assert read.shape == array.shape, name
        np.testing.assert_array_equal(read, array, err_msg=name)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_pytorch_files_are_read_exactly(case, kind):
    wanted = np.load(GOLDEN / f"{case}.npz")
    found = weights.open(GOLDEN / f"{case}.{kind}.pth")
    assert found.format == f"PyTorch {kind}"
    assert_equal(found, wanted, "module." if case == "parallel" else "")
    for name, tensor in found.tensors.items():
        assert tensor.shape == found[name].shape


def test_oldest_format_with_a_view_of_a_storage():
    found = weights.open(GOLDEN / "oldest.tar.pth")
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert found.format == "PyTorch tar"
    assert_equal(found, {"weight": grid, "bias": np.ones(2, np.float32), "turned": grid.T})


def test_newer_pickle_protocol_and_storages_of_bytes():
    assert_equal(weights.open(GOLDEN / "protocol4.zip.pth"), np.load(GOLDEN / "state.npz"))
    assert_equal(weights.open(GOLDEN / "v3.zip.pth"), {"a": np.arange(3, dtype=np.uint16)})


def test_safetensors_of_every_type():
    wanted = dict(np.load(GOLDEN / "types.npz"))
    del wanted["complex64"]
    found = weights.open(GOLDEN / "types.safetensors")
    assert found.format == "safetensors"
    assert_equal(found, wanted)


@pytest.mark.parametrize(
    "name", ["whole_model.zip.pth", "whole_model.legacy.pth", "torchscript.pt"]
)
def test_code_is_refused_with_the_fix(name):
    with pytest.raises(WeightsError, match=rf"{name}.*nothing of it was executed.*state_dict"):
        weights.open(GOLDEN / name)


def test_arrays_are_read_on_demand_and_belong_to_the_caller(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes((GOLDEN / "state.zip.pth").read_bytes())
    found = weights.open(path)
    array = found["0.weight"]
    array[:] = 0
    assert found["0.weight"].any()
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="changed since it was opened"):
        found["0.weight"]


def test_load_gives_float32_without_counters():
    arrays = weights.load(GOLDEN / "state.legacy.pth")
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert "1.num_batches_tracked" not in arrays
    assert "1.running_mean" in arrays
    rest = weights.load(GOLDEN / "state.legacy.pth", without="1.")
    assert set(rest) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_load_refuses_integers_and_nan(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    save_file({"a": np.arange(3)}, path)
    with pytest.raises(WeightsError, match=r"a: type int64, expected floats"):
        weights.load(path)
    save_file({"a": np.array([1, np.nan], np.float32)}, path)
    with pytest.raises(WeightsError, match="a: holds NaN or infinity"):
        weights.load(path)


def ncnn_file(tag, dtype):
    """The numbers of a transformation network as ncnn stores them, and its first weight."""
    rng = np.random.default_rng(0)
    widths = [(32, 3, 9), (64, 32, 3), (128, 64, 3), *[(128, 128, 3)] * 10]
    widths += [(64, 128, 3), (32, 64, 3), (3, 32, 9)]
    data, first = b"", None
    for i, (out, inputs, k) in enumerate(widths):
        weight = rng.standard_normal((out, inputs, k, k)).astype(dtype)
        first = weight if first is None else first
        data += struct.pack("<I", tag) + weight.tobytes() + b"\0" * (-weight.nbytes % 4)
        vectors = 1 if i == len(widths) - 1 else 3
        data += np.arange(vectors * out, dtype=np.float32).tobytes()
    return data, first


@pytest.mark.parametrize(
    ("tag", "dtype"), [(0x01306B47, np.float16), (0, np.float32), (0x0002C056, np.float32)]
)
def test_ncnn_in_both_precisions(tmp_path, tag, dtype):
    data, first = ncnn_file(tag, dtype)
    path = tmp_path / "style.bin"
    path.write_bytes(data)
    found = weights.open(path)
    np.testing.assert_array_equal(found["conv1.conv2d.weight"], first)
    np.testing.assert_array_equal(found["in1.weight"], np.arange(32, 64))
    np.testing.assert_array_equal(found["in1.bias"], np.arange(64, 96))
    np.testing.assert_array_equal(found["deconv3.conv2d.bias"], [0, 1, 2])


def test_torch7_tables_that_hold_themselves(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    table = {"train": False, "eps": 1e-5, "nothing": None, "weight": weight, "name": "conv"}
    table["again"] = table
    path = tmp_path / "net.t7"
    path.write_bytes(torch7({1.0: table, "modules": {2.0: weight}}, {}))
    assert_equal(weights.open(path), {"1.weight": weight, "modules.2": weight})


def test_torch7_functions_are_passed_over(tmp_path):
    vector = np.arange(2, dtype=np.float32)
    path = tmp_path / "net.t7"
    known = {0: 1, 1: 2}
    body = torch7("f", known) + struct.pack("<iii", 8, 2, 4) + b"\x1bLua" + struct.pack("<i", 0)
    table = struct.pack("<iii", 3, 1, 2) + body + torch7("weight", known) + torch7(vector, known)
    path.write_bytes(table)
    assert_equal(weights.open(path), {"weight": vector})


def test_deeplearnjs_folder(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (tmp_path / "Variable_1").write_bytes(array.tobytes())
    manifest = {"Variable_1": {"filename": "Variable_1", "shape": [1, 2, 3]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = weights.open(tmp_path)
    assert found.path == tmp_path
    assert_equal(found, {"Variable_1": array})


def test_tflite(tmp_path):
    quantised = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3)
    arrays = {"a/b": (quantised, 0.25), "bias": np.float32([1.5, -2]), "size": np.int32([3, 4])}
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_file(arrays))
    assert_equal(weights.open(path), {**arrays, "a/b": quantised * np.float32(0.25)})
    assert set(weights.load(path)) == {"a/b", "bias"}


def test_tflite_with_a_scale_for_each_channel(tmp_path):
    quantised, scales = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3), np.float32([0.5, 2, -4])
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_file({"a": (quantised, scales), "b": (np.int8(5), 0.25)}))
    assert_equal(weights.open(path), {"a": quantised * scales, "b": np.array(1.25, np.float32)})
    path.write_bytes(tflite_file({"a": (quantised, scales[:2])}))
    with pytest.raises(WeightsError, match=r"2 scales and 2 zeros for axis 2 .* \(2, 2, 3\)"):
        weights.open(path)


def test_numbers_too_large_for_float32_are_infinite(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_file({"a": (np.int8([0, 100]), 3e38)}))
    assert_equal(weights.open(path), {"a": np.float32([0, np.inf])})


@pytest.mark.parametrize(
    ("kind", "data", "number"),
    [("BOOL", b"\1", True), ("BF16", b"\xc0\x3f", np.float32(1.5)), ("F16", b"\0\x3e", 1.5)],
)
def test_numbers_without_dimensions_are_arrays(tmp_path, kind, data, number):
    path = tmp_path / "one.safetensors"
    path.write_bytes(safetensors_file({"a": entry([], 0, len(data), kind)}, data))
    found = weights.open(path)["a"]
    assert isinstance(found, np.ndarray)
    assert found.shape == ()
    assert found == number


def tables(shared):
    found = sorted((shared / "data").rglob("*.pth*.tensors.tsv"))
    assert len(found) > 15
    return found


def test_published_files_hold_what_their_tables_say(shared):
    for table in tables(shared):
        found = weights.open(str(table).removesuffix(".tensors.tsv"))
        rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
        assert sorted(found) == sorted(row[0] for row in rows), table
        for name, shape, dtype, _, _, first, least, most, total in rows:
            array = found[name]
            assert "x".join(map(str, array.shape)) == shape.replace("scalar", ""), table
            assert array.dtype == dtype
            wanted = [float(value) for value in (first, least, most)]
            assert np.allclose([array.flat[0], array.min(), array.max()], wanted, rtol=1e-7)
            slack = 1e-6 * np.abs(array, dtype=np.float64).sum()
            assert abs(array.sum(dtype=np.float64) - float(total)) <= slack + 1e-12


PUBLISHED = {
    "features/depth/pydnet_kitti_pruned35.tflite": ("TensorFlow Lite", 1970672),
    "features/depth/pydnet_mobile_2019.tflite": ("TensorFlow Lite", 1971943),
    "features/segmentation_deeplab/deeplabv3_257_mv_gpu.tflite": ("TensorFlow Lite", 688363),
    "features/style_swap_decoder/model_state.pth": ("PyTorch legacy", 555075),
    "johnson_weights/ncnn_fp16/candy.bin": ("ncnn", 1679235),
    "johnson_weights/ncnn_fp16/pointilism.bin": ("ncnn", 1679235),
    "johnson_weights/ncnn_fp16/rain_princess.bin": ("ncnn", 1679235),
    "johnson_weights/deeplearnjs/la_muse": ("deeplearn.js", 1677638),
    "johnson_weights/deeplearnjs/scream": ("deeplearn.js", 1677638),
    "johnson_weights/deeplearnjs/wave": ("deeplearn.js", 1677638),
    "johnson_weights/texture_nets_t7/mosaic_style.t7": ("Torch7", 69883),
    "johnson_weights/texture_nets_t7/pleades_style.t7": ("Torch7", 69883),
    "johnson_weights/texture_nets_t7/starry_style.t7": ("Torch7", 69883),
    "johnson_weights/texture_nets_t7/turner_style.t7": ("Torch7", 69883),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_read_to_the_last_number(shared, name):
    found = weights.open(shared / "data" / name)
    assert (found.format, sum(array.size for array in found.values())) == PUBLISHED[name]
    assert all(np.isfinite(array).all() for array in found.values())


def test_candy_has_the_known_statistics(shared):
    found = weights.load(shared / "data" / "johnson_weights" / "ncnn_fp16" / "candy.bin")
    assert found["conv1.conv2d.weight"].std() == pytest.approx(0.1734, abs=5e-5)
    assert found["conv1.conv2d.bias"][0] == pytest.approx(-0.1423, abs=5e-5)
    assert found["in1.weight"].mean() == pytest.approx(0.323, abs=5e-4)
    assert found["deconv3.conv2d.bias"][0] == pytest.approx(0.1891, abs=5e-5)


def test_every_other_file_is_refused_in_words(shared):
    read = {str(table).removesuffix(".tensors.tsv") for table in tables(shared)}
    read |= {str(shared / "data" / name) for name in PUBLISHED}
    others = [
        path
        for folder in ("features", "johnson_weights")
        for path in (shared / "data" / folder).rglob("*")
        if path.is_file() and str(path) not in read and str(path.parent) not in read
    ]
    assert len(others) > 60
    for path in others:
        with pytest.raises(WeightsError, match=path.name):
            weights.open(path)


def test_the_cut_file_says_so(shared):
    with pytest.raises(WeightsError, match=r"vgg_normalised_cut_short\.pth: cut short.*get the"):
        weights.open(shared / "data" / "features" / "vgg_normalised_cut_short.pth")
