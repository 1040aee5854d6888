"""Depth as data sets store it: named encodings, calibrated disparity, the labelled NYU set."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import depthstyle as ds
from depthstyle import cli

HALF_A_STEP = 1e-6
"""Of a float32 depth in [0, 1], with the rounding of the readings that it is made of."""


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def save(path, stored):
    """Write 16-bit grey."""
    Image.fromarray(stored.astype(np.uint16)).save(path)
    return path


# Encodings


@pytest.mark.parametrize(
    ("encoding", "kind", "metres"),
    [
        ("mm", "depth", lambda v: v / 1000),
        ("tum", "depth", lambda v: v / 5000),
        ("kitti", "depth", lambda v: v / 256),
        ("kitti-disparity", "disparity", lambda v: v / 256),
        ("nyu", "depth", lambda v: v * 1.0),
        ("middlebury", "disparity", lambda v: v * 1.0),
        ("sunrgbd", "depth", lambda v: ((v // 8) + (v % 8) * 8192) / 1000),
    ],
)
def test_encodings_follow_their_formula(tmp_path, rng, encoding, kind, metres):
    stored = rng.integers(300, 60000, (9, 14))
    stored[2, 3:6] = 0
    readings = metres(stored)[stored > 0]
    ends = readings.min(), readings.max()
    near, far = ends if kind == "depth" else ends[::-1]
    got = ds.read_depth_map(save(tmp_path / "d.png", stored), encoding=encoding, near=near, far=far)
    np.testing.assert_array_equal(got.valid, stored > 0)
    assert (got.kind, got.near, got.far) == (kind, near, far)
    expected = (readings - near) / (far - near)
    np.testing.assert_allclose(got.depth[got.valid], expected, atol=HALF_A_STEP)


def test_kinect_disparity(tmp_path):
    """Swapped bytes, metres = 351.3 / (1092.5 - v), nothing behind 10 m, 2047 for no reading."""
    shifts = np.array([[500, 700, 900], [1050, 1090, 2047]])
    stored = shifts % 256 * 256 + shifts // 256
    path = tmp_path / "raw.pgm"
    path.write_bytes(b"P5\n3 2\n65535\n" + stored.astype(">u2").tobytes())
    got = ds.read_depth_map(path, encoding="kinect", near=0.5, far=10)
    np.testing.assert_array_equal(got.valid, shifts < 2047)
    expected = np.minimum(351.3 / (1092.5 - shifts[got.valid]), 10)
    np.testing.assert_allclose(got.depth[got.valid], (expected - 0.5) / 9.5, atol=HALF_A_STEP)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gdepth_range_inverse(tmp_path, dtype):
    most = np.iinfo(dtype).max
    stored = np.linspace(0, most, 12).astype(dtype).reshape(3, 4)
    Image.fromarray(stored).save(tmp_path / "g.png")
    got = ds.read_depth_map(tmp_path / "g.png", encoding="gdepth:2..50")
    z = 50 * 2 / (50 - stored / most * 48)
    np.testing.assert_allclose(got.depth, (z - 2) / 48, atol=HALF_A_STEP)
    assert got.valid.all() and (got.near, got.far) == (2, 50)


def test_options_change_an_encoding(tmp_path, rng):
    stored = rng.integers(1000, 9000, (5, 6))
    stored[0, 0] = 65535
    path = save(tmp_path / "d.png", stored)
    got = ds.read_depth_map(path, encoding="tum", scale=0.001, invalid=(65535,))
    assert not got.valid[0, 0] and got.valid.sum() == stored.size - 1
    assert 1 <= got.near < got.far <= 9


def test_pfm_headers_and_byte_orders(tmp_path, rng):
    """White space of any kind between the words, exactly one after the scale."""
    values = rng.uniform(1, 9, (3, 4)).astype(np.float32)
    values[1, 1] = np.inf
    values.flat[-4] = np.frombuffer(b"\n A@", "<f4")[0]  # data may begin like white space
    for number, (head, order) in enumerate(
        [(b"Pf\n4 3\n-1\n", "<"), (b"Pf 4 3 1.0\n", ">"), (b"Pf\n4\t3\r\n-0.5 ", "<")]
    ):
        path = tmp_path / f"{number}.pfm"
        path.write_bytes(head + values[::-1].astype(f"{order}f4").tobytes())
        got = ds.read_depth_map(path, encoding="middlebury", near=10, far=0)
        np.testing.assert_array_equal(got.valid, np.isfinite(values))
        expected = 1 - values[got.valid] / 10
        np.testing.assert_allclose(got.depth[got.valid], expected, atol=HALF_A_STEP)


def test_unfit_encodings_are_refused(tmp_path):
    eight = tmp_path / "eight.png"
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(eight)
    dark = save(tmp_path / "dark.png", np.full((4, 4), 200))
    np.save(tmp_path / "float.npy", np.ones((4, 4)))
    for path, encoding, words in [
        (eight, "tum", r"eight\.png: holds uint8, encoding='tum' means 16-bit"),
        (eight, "tumm", "encoding='tumm': unknown; choose from mm, tum"),
        (eight, "gdepth:5..2", "must be gdepth:NEAR..FAR with 0 < NEAR < FAR"),
        (eight, "gdepth", "must be gdepth:NEAR..FAR"),
        (eight, "gdepth:a..2", "must be gdepth:NEAR..FAR"),
        (dark, "kitti", "no value is above 255"),
        (tmp_path / "float.npy", "sunrgbd", "holds float64"),
        (tmp_path / "float.npy", "gdepth:1..2", "needs 8 or 16 bits, not float64"),
    ]:
        with pytest.raises(ds.ImageError, match=words):
            ds.read_depth(path, encoding=encoding)
    with pytest.raises(ds.ImageError, match=r"index=3: only a \.mat file"):
        ds.read_depth(dark, index=3)


# Calibration

CALIB = """cam0=[994.978 0 311.193; 0 994.978 254.877; 0 0 1]
cam1=[994.978 0 342.279; 0 994.978 254.877; 0 0 1]
doffs=31.086
baseline=193.001
width=6
height=4
ndisp=64
"""


def test_calibrated_disparity_is_depth_in_metres(tmp_path, rng):
    (tmp_path / "calib.txt").write_text(CALIB)
    disparity = rng.uniform(5, 60, (4, 6))
    disparity[1, 2] = np.inf
    camera = ds.read_calibration(tmp_path / "calib.txt")
    assert camera == ds.Calibration(994.978, 0.193001, 31.086, (4, 6))
    for calibration in (camera, tmp_path / "calib.txt"):
        got = ds.read_depth_map(
            disparity, encoding="middlebury", calibration=calibration, near=1, far=6
        )
        assert not got.valid[1, 2] and got.valid.sum() == 23
        metres = 994.978 * 193.001 / (disparity[got.valid] + 31.086) / 1000
        np.testing.assert_allclose(got.depth[got.valid], (metres - 1) / 5, atol=HALF_A_STEP)
        assert (got.kind, got.near, got.far) == ("depth", 1, 6)


def test_disparity_of_no_point_in_front_is_no_reading():
    disparity = np.array([[4.0, 2.0, 1.0, -3.0]])
    camera = ds.Calibration(100, 0.1, doffs=-2)
    got = ds.read_depth_map(
        disparity, kind="disparity", invalid=(), calibration=camera, near=1, far=9
    )
    np.testing.assert_array_equal(got.valid, [[True, False, False, False]])


def test_unfit_calibrations_are_refused(tmp_path, rng):
    text = tmp_path / "calib.txt"
    disparity = rng.uniform(5, 60, (4, 6))
    for content, words in [
        (CALIB.replace("doffs", "cx"), None),
        (CALIB.replace("baseline", "base"), r"calib\.txt: holds no baseline="),
        (CALIB.replace("193.001", "0"), "baseline=0.0 must be a finite number above 0"),
        (CALIB.replace("=6", "=12"), "is for 4x12 pixels, the disparity has 4x6"),
        ("", "holds no baseline"),
        ("é", "is no calibration text"),
    ]:
        text.write_text(content, encoding="utf-8")
        if words is None:
            assert ds.read_calibration(text).doffs == 0
            continue
        with pytest.raises(ds.ImageError, match=words):
            ds.read_depth(disparity, kind="disparity", calibration=text)
    with pytest.raises(ds.ImageError, match=r"gone\.txt: cannot be read"):
        ds.read_depth(disparity, kind="disparity", calibration=tmp_path / "gone.txt")
    camera = ds.Calibration(100, 0.1)
    with pytest.raises(ds.ImageError, match="give kind='disparity' with it"):
        ds.read_depth(disparity, calibration=camera)
    with pytest.raises(ds.ImageError, match="near=9: must be below far=1 for depth"):
        ds.read_depth(disparity, kind="disparity", calibration=camera, near=9, far=1)
    ds.write_depth(tmp_path / "own.png", ds.read_depth_map(disparity, kind="disparity"))
    with pytest.raises(ds.ImageError, match=r"own\.png: was written by depthstyle"):
        ds.read_depth(tmp_path / "own.png", kind="disparity", calibration=camera)


# The labelled NYU set


@pytest.fixture
def nyu(tmp_path, rng):
    """Write three small rooms as MATLAB 7.3 does; give the path, the photographs and the depth."""
    photos = rng.integers(0, 256, (3, 8, 11, 3), dtype=np.uint8)
    metres = rng.uniform(1, 9, (3, 8, 11)).astype(np.float32)
    raw = np.where(rng.uniform(size=metres.shape) < 0.2, 0, metres)
    path = tmp_path / "labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = photos.transpose(0, 3, 2, 1)
        file["depths"] = metres.transpose(0, 2, 1)
        file["rawDepths"] = raw.transpose(0, 2, 1)
    return path, photos, metres, raw


def test_nyu_pictures_stand_upright(nyu):
    path, photos, metres, raw = nyu
    with ds.NyuDepth(path) as rooms:
        assert len(rooms) == 3
        for index in range(3):
            np.testing.assert_array_equal(rooms.image(index), photos[index] / np.float32(255))
            np.testing.assert_array_equal(rooms.depth(index), metres[index])
            np.testing.assert_array_equal(rooms.depth(index, raw=True), raw[index])
        for index in (3, -1, 0.5):
            with pytest.raises(ds.ImageError, match=r"index=.* must be from 0 to 2"):
                rooms.depth(index)


def test_nyu_depth_by_index(nyu):
    path, _, metres, raw = nyu
    for options, expected in [
        ({}, metres[0]),
        ({"index": 2}, metres[2]),
        ({"index": 1, "encoding": "nyu-raw"}, raw[1]),
    ]:
        got = ds.read_depth_map(path, near=1, far=9, **options)
        np.testing.assert_array_equal(got.valid, expected > 0)
        unit = (expected[got.valid].astype(np.float64) - 1) / 8
        np.testing.assert_allclose(got.depth[got.valid], unit, atol=HALF_A_STEP)


def test_files_that_are_no_nyu_set(nyu, tmp_path):
    path = tmp_path / "old.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    with pytest.raises(ds.ImageError, match=r"old\.mat: cannot be read as a MATLAB 7\.3 file"):
        ds.read_depth(path)
    with pytest.raises(ds.ImageError, match=r"gone\.mat"):
        ds.read_depth(tmp_path / "gone.mat")
    for content, words in [
        ({"depths": (3, 4, 5)}, "holds no images"),
        ({"images": (3, 3, 4, 5)}, "holds no depths"),
        ({"images": (3, 3, 4, 5), "depths": (2, 4, 5)}, "differ"),
        ({"images": (3, 3, 4, 5), "depths": (3, 4)}, "holds no depths"),
    ]:
        with h5py.File(tmp_path / "part.mat", "w") as file:
            for name, shape in content.items():
                file[name] = np.zeros(shape, np.float32)
        with pytest.raises(ds.ImageError, match=rf"part\.mat: .*{words}"):
            ds.read_depth(tmp_path / "part.mat")
    cut = tmp_path / "cut.mat"
    cut.write_bytes(nyu[0].read_bytes()[:2000])
    with pytest.raises(ds.ImageError, match=r"cut\.mat"):
        ds.read_depth(cut)


def test_command(nyu, tmp_path, capsys):
    path, photos, metres, _ = nyu
    out, photo = tmp_path / "out.png", tmp_path / "photo.png"
    words = ["--index", "1", "--photo", str(photo), "--near", "1", "--far", "9"]
    assert cli.main(["depth", str(path), "-o", str(out), *words]) == 0
    assert "photo.png" in capsys.readouterr().out
    np.testing.assert_array_equal(np.asarray(Image.open(photo)), photos[1])
    # Half a 16-bit step.
    np.testing.assert_allclose(ds.read_depth(out), (metres[1] - 1) / 8, atol=0.5 / 65535 + 1e-6)

    stored = save(tmp_path / "disparity.png", np.linspace(5, 60, 24).reshape(4, 6) * 256)
    (tmp_path / "calib.txt").write_text(CALIB)
    words = ["--encoding", "kitti-disparity", "--calibration", str(tmp_path / "calib.txt")]
    assert cli.main(["depth", str(stored), "-o", str(out), *words]) == 0
    assert "depth: near 2.1" in capsys.readouterr().out
    assert cli.main(["depth", str(stored), "-o", str(out), "--photo", str(photo)]) == 2


# Real files

READERS = {
    "linear": {},
    "linear_relative": {},
    "grey_dark_near": {},
    "rot3_mm": {"encoding": "sunrgbd", "scale": 1e-3},
    "rot3_tenth_mm": {"encoding": "sunrgbd", "scale": 1e-4},
}


def decoded(path, encoding):
    """Stored values and readings without scale, by Pillow and NumPy alone."""
    if path.suffix == ".npy":
        stored = np.load(path)
    elif path.suffix == ".pfm":
        data = path.read_bytes()
        stored = np.frombuffer(data[-4 * 512 * 512 :], "<f4").reshape(512, 512)[::-1]
    else:
        stored = np.asarray(Image.open(path)).astype(np.int64)
        stored = stored if stored.ndim == 2 else np.rint(stored.mean(axis=2)).astype(np.int64)
    if encoding.startswith("rot3"):
        return stored, stored // 8 + stored % 8 * 8192
    if encoding.startswith("range_inverse"):
        near, far = (float(end) for end in encoding.split(":")[1:])
        return stored, far * near / (far - stored / 255 * (far - near))
    return stored, stored


def real_pairs(shared):
    folder = shared / "data" / "rgbd"
    with open(folder / "pairs.tsv") as table:
        return folder, list(csv.DictReader(table, delimiter="\t"))


def test_all_real_pairs(shared):
    folder, rows = real_pairs(shared)
    assert len(rows) == 61
    for row in rows:
        name, encoding = row["#name"], row["encoding"]
        path = folder / row["depth"]
        options = dict(READERS.get(encoding, {}))
        if encoding.startswith("range_inverse"):
            near, far = encoding.split(":")[1:]
            options["encoding"] = f"gdepth:{near}..{far}"
        if row["scale"] != "-":
            options["scale"] = float(row["scale"])
        options["invalid"] = [float(v) for v in row["invalid"].split(",") if v != "none"]
        got = ds.read_depth_map(path, kind=row["kind"], **options)

        stored, values = decoded(path, encoding)
        valid = np.isfinite(stored) & ~np.isin(stored, options["invalid"])
        np.testing.assert_array_equal(got.valid, valid, err_msg=name)
        assert got.depth.shape == (int(row["depth_h"]), int(row["depth_w"])), name
        readings = values[valid].astype(np.float64) * options.get("scale", 1.0)
        unit = np.clip((readings - got.near) / (got.far - got.near), 0, 1)
        np.testing.assert_allclose(got.depth[valid], unit, atol=HALF_A_STEP, err_msg=name)
        assert np.ptp(unit) > 0.5, name
        assert (got.near < got.far) == (row["kind"] == "depth"), name
        picture = ds.read_image(folder / row["rgb"])
        assert picture.shape == (int(row["rgb_h"]), int(row["rgb_w"]), 3), name
        assert ds.as_depth(got.depth, picture.shape[:2]).shape == picture.shape[:2], name


@pytest.mark.parametrize(
    ("encoding", "names", "nearest", "farthest"),
    [
        ("tum", ["tum_fr1_desk_a", "tum_fr1_360_a", "open3d_tum", "iclnuim_2"], 0.4, 10),
        ("kitti", ["kitti_050", "kitti_100", "kitti_tiny_03_3", "waymo_002"], 4, 90),
        ("mm", ["dining_nyu", "kinect_room_3", "graspnet_bin", "livingroom1_000"], 0.2, 10),
        ("sunrgbd", ["open3d_sun"], 0.5, 10),
        ("nyu", ["kitchen_nyu"], 0.5, 10),
        ("kitti-disparity", ["middlebury_motorcycle", "flyingthings_0"], 1, 200),
    ],
)
def test_named_encodings_give_metres_of_real_rooms_and_streets(
    shared, encoding, names, nearest, farthest
):
    folder, rows = real_pairs(shared)
    for row in (row for row in rows if row["#name"] in names):
        got = ds.read_depth_map(folder / row["depth"], encoding=encoding)
        low, high = sorted((got.near, got.far))
        assert nearest < low < high < farthest, row["#name"]


def test_a_real_motorcycle_in_metres(shared):
    """The calibration of the quarter-size Motorcycle gives a workshop of 2 to 5 m."""
    path = Path(shared) / "data" / "rgbd" / "middlebury_motorcycle_disp.png"
    camera = ds.Calibration(994.978, 0.193001, 31.086)
    got = ds.read_depth_map(path, encoding="kitti-disparity", calibration=camera)
    assert 2 < got.near < 2.4 and 4.4 < got.far < 5.2
