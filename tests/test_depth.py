"""Depth maps: decoding, holes, ranges, the strength map, masks, pictures."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import tifffile
from PIL import Image

import depthstyle as ds
from depthstyle import depth as depth_module
from depthstyle.masks import parse_mask

MOTORCYCLE = Path(skimage.__file__).parent / "data" / "motorcycle_disp.npz"


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def metres(rng):
    """Smooth distances of 1 to 9 m, without holes."""
    rows, columns = np.mgrid[0:21, 0:34]
    return (1 + 8 * (rows / 20 * 0.6 + columns / 33 * 0.4)).astype(np.float32)


# Reading


def test_every_file_kind_gives_the_same_depth(tmp_path, metres):
    stored = np.rint(metres * 1000).astype(np.uint16)
    Image.fromarray(stored).save(tmp_path / "d.png")
    Image.fromarray(stored).save(tmp_path / "d.tif")
    (tmp_path / "d.pgm").write_bytes(b"P5\n34 21\n65535\n" + stored.astype(">u2").tobytes())
    np.save(tmp_path / "d.npy", stored)
    np.save(tmp_path / "float.npy", np.asfortranarray(stored.astype(">f8")))
    np.savez(tmp_path / "d.npz", rgb=np.zeros((21, 34, 3)), depth=stored)
    for name, order in (("little.pfm", "<"), ("big.pfm", ">")):
        head = b"Pf\n34 21\n%s1.0\n" % (b"-" if order == "<" else b"")
        (tmp_path / name).write_bytes(head + stored[::-1].astype(f"{order}f4").tobytes())
    expected = (stored - 1000.0) / (9000 - 1000)
    for path in sorted(tmp_path.iterdir()):
        got = ds.read_depth_map(path, scale=0.001, near=1, far=9)
        np.testing.assert_allclose(got.depth, expected, atol=1e-6, err_msg=path.name)
        assert got.valid.all()
        assert (got.near, got.far) == (1, 9)


def test_8_bit_grey_depth_keeps_zero_as_nearest(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([ramp] * 3)).save(tmp_path / "colour.png")
    for name in ("grey.png", "colour.png"):
        got = ds.read_depth_map(tmp_path / name)
        np.testing.assert_allclose(got.depth, ramp / 255, atol=1e-6)
        assert got.valid.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_bad_readings_are_found_and_filled_from_the_nearest(metres, bad):
    broken = metres.copy()
    broken[8:12, 10:15] = bad
    before = broken.copy()
    got = ds.read_depth_map(broken, near=1, far=9)
    expected_valid = np.ones(metres.shape, bool)
    expected_valid[8:12, 10:15] = False
    np.testing.assert_array_equal(got.valid, expected_valid)
    unit = (metres.astype(np.float64) - 1) / 8
    np.testing.assert_allclose(got.depth[expected_valid], unit[expected_valid], atol=1e-6)
    around = unit[7:13, 9:16]
    hole = got.depth[8:12, 10:15]
    assert around.min() <= hole.min() and hole.max() <= around.max()
    np.testing.assert_array_equal(broken, before)


def test_invalid_values_can_be_named(metres):
    stored = np.rint(metres * 1000).astype(np.uint16)
    stored[0, :5], stored[1, :5] = 65535, 0
    got = ds.read_depth_map(stored, invalid=(65535,))
    assert not got.valid[0, :5].any()
    assert got.valid[1, :5].all()


def test_disparity_is_turned_round(rng):
    disparity = rng.uniform(5, 60, (14, 9))
    disparity[3, 4] = np.inf
    got = ds.read_depth_map(disparity, kind="disparity", near=60, far=5)
    assert not got.valid[3, 4]
    assert got.valid.sum() == disparity.size - 1
    expected = 1 - (disparity - 5) / 55
    np.testing.assert_allclose(got.depth[got.valid], expected[got.valid], atol=1e-6)


def test_default_range_ignores_outliers(rng):
    distances = rng.uniform(2, 4, (100, 100))
    distances[0, 0], distances[5, 5] = 1e30, 1e-30
    got = ds.read_depth_map(distances)
    assert 2 <= got.near < 2.05
    assert 3.95 < got.far <= 4
    assert (got.depth[0, 0], got.depth[5, 5]) == (1, 0)
    assert np.isfinite(got.depth).all()


def test_a_normalised_map_is_left_as_it_is(rng):
    binary = np.zeros((10, 12), np.float32)
    binary[:, 6:] = 1
    np.testing.assert_array_equal(ds.read_depth(binary), binary)
    part = rng.uniform(0.2, 0.7, (10, 12)).astype(np.float32)
    got = ds.read_depth_map(part)
    np.testing.assert_array_equal(got.depth, part)
    assert (got.near, got.far) == (0, 1)


def test_constant_readings(tmp_path):
    with pytest.warns(ds.DepthstyleWarning, match=r"every reading is 7; .* 0\.5 everywhere"):
        got = ds.read_depth(np.full((4, 5), 7.0))
    assert (got == 0.5).all()


@pytest.mark.parametrize("kind", ["depth", "disparity"])
def test_written_maps_read_back(tmp_path, rng, metres, kind):
    metres[4, 5] = 0
    written = ds.read_depth_map(metres, kind=kind)
    ds.write_depth(tmp_path / "out.png", written)
    with Image.open(tmp_path / "out.png") as file:
        assert file.mode == "I;16"
    got = ds.read_depth_map(tmp_path / "out.png")
    # Half a 16-bit step.
    np.testing.assert_allclose(got.depth, written.depth, atol=0.5 / 65535 + 1e-7)
    assert (got.near, got.far, got.kind) == (written.near, written.far, kind)
    assert got.valid.all()


def test_motorcycle_disparity_of_scikit_image():
    stored = np.load(MOTORCYCLE)["arr_0"]
    got = ds.read_depth_map(MOTORCYCLE, kind="disparity")
    np.testing.assert_array_equal(got.valid, np.isfinite(stored))
    assert 0.92 < got.valid.mean() < 0.93
    assert got.depth.shape == (500, 741)
    assert 7 < got.far < 10 and 55 < got.near < 60
    order = np.argsort(stored[got.valid])
    assert (np.diff(got.depth[got.valid][order]) <= 0).all()
    assert np.isfinite(got.depth).all()


# Bad depth files and options


def bad_files(folder):
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    np.save(folder / "words.npy", np.array([["a"]]))
    np.save(folder / "cube.npy", np.zeros((3, 4, 5)))
    np.save(folder / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.savez(folder / "unclear.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    (folder / "colour.pfm").write_bytes(b"PF\n1 1\n-1\n" + bytes(12))
    (folder / "huge.pfm").write_bytes(b"Pf\n99999 99999\n-1\n")
    (folder / "cut.pfm").write_bytes(b"Pf\n9 9\n-1\n" + bytes(12))
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999, 999999), }"
    huge = huge.ljust(117) + b"\n"
    (folder / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge)
    Image.new("RGB", (4, 4), "red").save(folder / "photo.png")
    Image.new("P", (4, 4)).save(folder / "palette.png")
    np.save(folder / "nothing.npy", np.full((3, 3), np.nan))
    tifffile.imwrite(folder / "deep.tif", np.zeros((4, 4, 3), np.uint16), photometric="rgb")


@pytest.mark.filterwarnings("ignore")
def test_bad_files_are_named(tmp_path):
    bad_files(tmp_path)
    paths = sorted(tmp_path.iterdir())
    for path in [*paths, tmp_path / "gone.npy", tmp_path / "gone.png"]:
        with pytest.raises(ds.ImageError) as caught:
            ds.read_depth(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "distance"}, "kind='distance': must be depth or disparity"),
        ({"scale": 0}, "scale=0: must be"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"near": float("inf")}, "near=inf: must be finite"),
        ({"near": 5, "far": 2}, "near=5: must be below far=2"),
        ({"near": 2, "far": 5, "kind": "disparity"}, "near=2: must be above far=5"),
        ({"near": 50}, "holds no reading"),
        ({"far": 0.5}, "holds no reading"),
    ],
)
def test_bad_options_are_named(metres, options, words):
    with pytest.raises(ds.ImageError, match=words):
        ds.read_depth(metres, **options)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 3)), np.zeros(4), np.zeros((0, 4)), [["a"]], np.eye(3) * 1j, None]
)
def test_arrays_that_are_no_map(array):
    with pytest.raises(ds.ImageError, match="depth: "):
        ds.read_depth(array)


def test_as_depth(rng):
    depth = rng.uniform(size=(6, 9))
    np.testing.assert_allclose(ds.as_depth(depth), depth, atol=1e-7)
    assert ds.as_depth(depth, (12, 18)).shape == (12, 18)
    block_mean = np.full((2, 3), 0.25)
    np.testing.assert_allclose(ds.as_depth(block_mean, (4, 6)), 0.25, atol=1e-7)
    for bad, words in [
        (depth * 3, r"outside \[0, 1\]; pass it through read_depth"),
        (depth - 1, r"outside \[0, 1\]"),
        (np.where(depth > 0.5, np.nan, depth), "NaN or infinite"),
    ]:
        with pytest.raises(ds.ImageError, match=words):
            ds.as_depth(bad)
    with pytest.raises(ds.ImageError, match="has not the proportions of the picture"):
        ds.as_depth(depth, (9, 6))


# Strength map of Algorithm 1


def algorithm_1(depth, beta, epsilon):
    proximity = depth.max() - depth
    proximity = (proximity - proximity.min()) / (proximity.max() - proximity.min())
    proximity = proximity - proximity.mean()
    proximity = 1 / (1 + np.exp(-beta * proximity))
    return np.minimum(proximity, 1 - epsilon)


def test_strength_map_is_algorithm_1(rng):
    for _ in range(1000):
        depth = rng.uniform(size=rng.integers(2, 12, 2)).astype(np.float32)
        beta, epsilon = rng.uniform(0, 60), rng.uniform(0, 1)
        expected = algorithm_1(depth.astype(np.float64), beta, epsilon)
        got = ds.strength_map(depth, beta=beta, epsilon=epsilon)
        # The float32 proximity carries 6e-8, the sigmoid's slope is at most beta / 4 = 15.
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_strength_map_resizes_before_it_scales(rng):
    depth = rng.uniform(size=(24, 36)).astype(np.float32)
    small = ds.resize(depth.max() - depth, (6, 9), "bilinear").astype(np.float64)
    expected = algorithm_1(1 - small, 20, 0.15)
    np.testing.assert_allclose(ds.strength_map(depth, size=(6, 9)), expected, atol=2e-6)


def test_strength_map_edge_cases(rng):
    depth = rng.uniform(size=(7, 8))
    np.testing.assert_array_equal(ds.strength_map(depth, beta=0), np.float32(0.5))
    with pytest.warns(ds.DepthstyleWarning, match="constant"):
        constant = ds.strength_map(np.full((5, 5), 0.3))
    np.testing.assert_array_equal(constant, np.float32(0.5))
    steep = ds.strength_map(depth, beta=1e30, epsilon=0)
    assert np.isin(steep, [0, 1]).all()
    for options in ({"beta": -1}, {"beta": np.nan}, {"epsilon": 1.5}, {"epsilon": -0.1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ds.strength_map(depth, **options)


# Masks


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        ("linear", lambda d: d),
        ("linear:0.8..1.0", lambda d: 0.8 + 0.2 * d),
        ("linear:1..0", lambda d: 1 - d),
        ("sigmoid", lambda d: sigmoid(20 * (d - 0.5))),
        ("sigmoid:k=7,t=0.3", lambda d: sigmoid(7 * (d - 0.3))),
        ("sigmoid:t=0.25", lambda d: sigmoid(20 * (d - 0.25))),
        ("complement", lambda d: 1 - sigmoid(20 * (d - 0.8))),
        ("complement:k=50,t=0.5", lambda d: 1 - sigmoid(50 * (d - 0.5))),
        ("window:0.2..0.5", lambda d: (d >= 0.2) & (d <= 0.5)),
        (lambda d: d**2, lambda d: d**2),
    ],
)
def test_masks_follow_their_formula(rng, spec, formula):
    depth = rng.uniform(size=(9, 11)).astype(np.float32)
    got = ds.depth_mask(depth, spec)
    assert got.dtype == np.float32
    # float32 depth, times a slope of at most 50 / 4.
    np.testing.assert_allclose(got, formula(depth.astype(np.float64)), atol=2e-6)


def test_an_array_is_its_own_mask(rng):
    depth, gamma = rng.uniform(size=(2, 9, 11))
    np.testing.assert_allclose(ds.depth_mask(depth, gamma), gamma, atol=1e-7)
    np.testing.assert_array_equal(ds.depth_mask(depth, gamma > 0.5), gamma > 0.5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sigmoidal", "near='sigmoidal': unknown; use linear:LO..HI"),
        ("sigmoid:s=3", "near: unknown 's=3'; use k=, t="),
        ("sigmoid:k=abc", "'abc' is no number"),
        ("sigmoid:k=inf", "'inf' must be finite"),
        ("linear:0.5", "must be written as LO..HI"),
        ("linear:0..3", r"must lie in 0\.\.1"),
        ("window", "a window needs its range"),
        ("window:0.6..0.2", "the lower end first"),
        ("window:0.9999..1", "is zero everywhere"),
        (np.zeros((9, 11)), "is zero everywhere"),
        (np.ones((3, 3)), r"shape \(3, 3\) must be the depth map's \(9, 11\)"),
        (np.full((9, 11), 2.0), r"outside \[0, 1\]"),
        (np.full((9, 11), np.nan), r"outside \[0, 1\]"),
        (lambda d: d[0], "near: shape"),
    ],
)
def test_bad_masks_are_refused_by_name(rng, spec, words):
    depth = rng.uniform(0.1, 0.9, size=(9, 11))
    with pytest.raises(ValueError, match=words):
        ds.depth_mask(depth, spec, name="near")


def test_words_can_be_checked_without_a_depth_map():
    assert parse_mask(" sigmoid:k=4 ")(np.float32([[0.5]])) == 0.5


# Pictures


def test_depth_picture_marks_what_was_filled(rng):
    depth = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (30, 1))
    plain = ds.depth_picture(depth)
    luma = plain @ np.float32([0.299, 0.587, 0.114])
    assert (np.diff(luma[0]) < 0).all(), "near is bright, far is dark"
    valid = np.ones(depth.shape, bool)
    valid[5:20, 10:25] = False
    marked = ds.depth_picture(depth, valid)
    np.testing.assert_array_equal(marked[valid], plain[valid])
    changed = np.abs(marked - plain).max(axis=-1)[~valid] > 0.1
    assert 0.3 < changed.mean() < 0.5
    assert depth_module.as_depth(depth).shape == marked.shape[:2]
