"""Pictures read and resized: modes, depths, bad files, bad arrays."""

import io
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import depthstyle as ds
from depthstyle import images, picture_codec

LSB8 = 1 / 255
LSB16 = 1 / 65535


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def colour(rng):
    """A small picture with an odd size, smooth so that JPEG keeps it."""
    rows, columns = np.mgrid[0:13, 0:17] / 17
    picture = np.stack([rows, columns, 1 - rows * columns], axis=-1)
    return np.clip(picture, 0, 1).astype(np.float32)


def to_bytes(picture, bits):
    return np.rint(picture * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


# Reading: each Pillow mode


def save(tmp_path, image, name="in.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_opaque_modes_equal_pillows_rgb(tmp_path, colour, mode):
    image = Image.fromarray(to_bytes(colour, 8)).convert(mode)
    expected = np.asarray(image.convert("RGB")) / 255
    got = ds.read_picture(save(tmp_path, image))
    np.testing.assert_allclose(got.rgb, expected, atol=1e-6)
    assert (got.alpha, got.bits) == (None, 8)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_and_laid_over_the_background(tmp_path, colour, mode):
    alpha = Image.fromarray(to_bytes(colour[..., 1], 8))
    image = Image.fromarray(to_bytes(colour, 8)).convert(mode)
    image.putalpha(alpha)
    path = save(tmp_path, image)
    expected = np.asarray(image.convert("RGBA")) / 255
    picture = ds.read_picture(path)
    np.testing.assert_allclose(picture.rgb, expected[..., :3], atol=1e-6)
    np.testing.assert_allclose(picture.alpha, expected[..., 3], atol=1e-6)
    opacity = expected[..., 3:]
    for background in [(1.0, 1.0, 1.0), (0.2, 0.5, 0.0)]:
        flat = ds.read_image(path, background=background)
        wanted = expected[..., :3] * opacity + np.array(background) * (1 - opacity)
        np.testing.assert_allclose(flat, wanted, atol=1e-6)


def test_palette_transparency_and_colour_key(tmp_path, colour):
    image = Image.fromarray(to_bytes(colour, 8)).quantize(8)
    path = save(tmp_path, image, "palette.png", transparency=3)
    assert np.array_equal(ds.read_picture(path).alpha == 0, np.asarray(image) == 3)
    grey = Image.fromarray(to_bytes(colour[..., 0], 8))
    key = int(np.asarray(grey)[4, 4])
    path = save(tmp_path, grey, "key.png", transparency=key)
    assert np.array_equal(ds.read_picture(path).alpha == 0, np.asarray(grey) == key)


def test_cmyk_without_profile(tmp_path):
    inks = np.zeros((3, 5, 4), np.uint8)
    inks[0, :, 0], inks[1, :, 3], inks[2, :, 1:3] = 255, 255, 255
    path = save(tmp_path, Image.fromarray(inks, "CMYK"), "in.tif")
    expected = np.zeros((3, 5, 3))
    expected[0], expected[1], expected[2] = (0, 1, 1), (0, 0, 0), (1, 0, 0)
    np.testing.assert_allclose(ds.read_image(path), expected, atol=1e-6)


def test_16_bit_grey(tmp_path, colour):
    grey = to_bytes(colour[..., 0], 16)
    got = ds.read_picture(save(tmp_path, Image.fromarray(grey)))
    np.testing.assert_allclose(got.rgb, np.dstack([grey] * 3) / 65535, atol=1e-7)
    assert got.bits == 16


def test_float_pictures_in_unit_range_only(tmp_path, colour):
    path = save(tmp_path, Image.fromarray(colour[..., 0]), "in.tif")
    np.testing.assert_array_equal(ds.read_image(path), np.dstack([colour[..., 0]] * 3))
    path = save(tmp_path, Image.fromarray(colour[..., 0] * 300), "in.tif")
    with pytest.raises(ds.ImageError, match=r"in\.tif: values from 0 to .* outside \[0, 1\]"):
        ds.read_image(path)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png(tmp_path, rng, channels):
    samples = rng.integers(0, 65536, (6, 5, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(samples))
    got = ds.read_picture(path)
    colours = samples[..., :1].repeat(3, axis=2) if channels == 2 else samples[..., :3]
    np.testing.assert_allclose(got.rgb, colours / 65535, atol=1e-7)
    if channels == 3:
        assert got.alpha is None
    else:
        np.testing.assert_allclose(got.alpha, samples[..., -1] / 65535, atol=1e-7)
    assert got.bits == 16


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colour_tiff(tmp_path, rng, compression, planar):
    samples = rng.integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    path = tmp_path / "deep.tif"
    stored = samples if planar == "contig" else np.moveaxis(samples, -1, 0)
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, compression=compression)
    np.testing.assert_allclose(ds.read_image(path), samples / 65535, atol=1e-7)


def test_premultiplied_16_bit_tiff(tmp_path, rng):
    colour = rng.uniform(size=(6, 5, 3))
    alpha = rng.uniform(0.25, 1, size=(6, 5, 1))
    stored = to_bytes(np.concatenate([colour * alpha, alpha], axis=-1), 16)
    path = tmp_path / "premultiplied.tif"
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["assocalpha"])
    got = ds.read_picture(path)
    # Half a step of the stored value, divided by an alpha of at least 1/4, and rounded once more.
    np.testing.assert_allclose(got.rgb, colour, atol=3 * LSB16)
    np.testing.assert_allclose(got.alpha, alpha[..., 0], atol=LSB16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["8bit.png", "photo.tif", "deep.tif"])
def test_exif_orientation(tmp_path, rng, orientation, name):
    from PIL import ImageOps

    samples = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    tagged = io.BytesIO()
    Image.fromarray(samples).save(tagged, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tagged)))
    path = tmp_path / name
    if name == "deep.tif":
        tag = (0x0112, 3, 1, orientation, True)
        tifffile.imwrite(path, samples.astype(np.uint16) * 257, photometric="rgb", extratags=[tag])
    else:
        Image.fromarray(samples).save(path, exif=exif)
    np.testing.assert_allclose(ds.read_image(path), expected / 255, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_icc_profile_is_converted_to_srgb(tmp_path, bits):
    """Adobe RGB (1998) to sRGB from the published primaries and gamma, in float64."""
    adobe = np.array([[0.4, 0.5, 0.6], [0.5, 0.5, 0.5], [0.7, 0.65, 0.6], [1, 1, 1]])
    to_xyz = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    from_xyz = np.array(
        [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    )
    samples = to_bytes(adobe, bits)
    linear = (samples / ((1 << bits) - 1)) ** (563 / 256) @ to_xyz.T @ from_xyz.T
    expected = np.clip(1.055 * linear ** (1 / 2.4) - 0.055, 0, 1)
    path = tmp_path / "adobe.tif"
    profile = imagecodecs.cms_profile("adobergb")
    tifffile.imwrite(path, samples[None], photometric="rgb", iccprofile=profile)
    # The published matrices have four digits.
    np.testing.assert_allclose(ds.read_image(path)[0], expected, atol=5e-4)


def test_srgb_profile_changes_nothing(tmp_path, colour):
    image = Image.fromarray(to_bytes(colour, 8))
    path = save(tmp_path, image, icc_profile=imagecodecs.cms_profile("srgb"))
    np.testing.assert_allclose(ds.read_image(path), np.asarray(image) / 255, atol=1e-5)


def test_a_broken_profile_is_ignored_with_a_warning(tmp_path, colour):
    image = Image.fromarray(to_bytes(colour, 8))
    path = save(tmp_path, image, icc_profile=b"no profile" * 20)
    with pytest.warns(ds.DepthstyleWarning, match="colour profile is ignored"):
        got = ds.read_image(path)
    np.testing.assert_allclose(got, np.asarray(image) / 255, atol=1e-6)


def crafted_profiles():
    srgb = picture_codec.srgb_profile()

    def changed(at, data):
        return srgb[:at] + data + srgb[at + len(data) :]

    return {
        "one byte": b"x",
        "text": b"no profile" * 20,
        "half": srgb[: len(srgb) // 2],
        "header only": srgb[:128],
        "no signature": changed(36, b"none"),
        "many tags": changed(128, struct.pack(">I", 2**32 - 1)),
        "tags outside": changed(136, struct.pack(">I", 2**31) * 20),
        "of ink": changed(16, b"CMYK"),
        "of grey": changed(16, b"GRAY"),
        "link": changed(12, b"link"),
        "zeros": bytes(len(srgb)),
    }


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", crafted_profiles())
def test_crafted_profiles_are_ignored_with_a_warning(tmp_path, colour, kind, name):
    image = Image.fromarray(to_bytes(colour, 8))
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = ds.read_image(save(tmp_path, image, format=kind, **options))
    path = save(tmp_path, image, format=kind, icc_profile=crafted_profiles()[name], **options)
    with pytest.warns(ds.DepthstyleWarning, match="colour profile is ignored"):
        got = ds.read_image(path)
    np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize("name", ["out.tif", "out.jpg", "out.webp"])
def test_written_pictures_carry_the_srgb_profile(tmp_path, colour, name):
    from PIL import ImageCms

    path = tmp_path / name
    ds.write_image(path, colour)
    with Image.open(path) as file:
        profile = file.info["icc_profile"]
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    before = path.read_bytes()
    ds.write_image(path, colour)
    assert path.read_bytes() == before


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (1e9, 72)])
def test_unbelievable_resolutions(tmp_path, colour, dpi):
    with pytest.raises(ds.ImageError, match="dpi="):
        ds.write_image(tmp_path / "out.png", colour, dpi=dpi)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, to_bytes(colour, 8), photometric="rgb", resolution=(1, 1))
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].tags["XResolution"].valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 8] = struct.pack("<II", *((1, 0) if dpi[0] != 0 else (0, 1)))
    path.write_bytes(data)
    assert ds.read_picture(path).dpi is None


def test_heic_without_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "in.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(200))
    with pytest.raises(ds.ImageError, match=r"in\.heic: is a HEIC picture, .*pillow-heif"):
        ds.read_image(path)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (5, 4), shade) for shade in ("red", "blue")]
    path = save(tmp_path, frames[0], "in.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(ds.DepthstyleWarning, match="holds 2 pictures"):
        got = ds.read_image(path)
    np.testing.assert_allclose(got, np.broadcast_to([1, 0, 0], (4, 5, 3)), atol=1e-6)


# Reading: bad files


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (1, 2**31 - 1), (20000, 10000)])
def test_decompression_bombs_are_refused_from_the_header(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    with pytest.raises(ds.ImageError, match=r"bomb\.png: .*(limit|pixels)"):
        ds.read_image(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x00\x01\x02" * 99, "no picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known format"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(ds.ImageError, match=words) as caught:
        ds.read_image(path)
    assert "odd.png" in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ds.ImageError, match=r"gone\.png: cannot be read \(No such file"):
        ds.read_image(tmp_path / "gone.png")
    with pytest.raises(ds.ImageError, match="cannot be read"):
        ds.read_image(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["cut.png", "deep.png", "cut.jpg", "cut.tif", "deep.tif", "raw.tif", "cut.webp"]
)
def test_cut_files_are_errors_never_grey_tails(tmp_path, rng, name):
    picture = rng.uniform(size=(40, 30, 3))
    path = tmp_path / name
    if name == "raw.tif":
        tifffile.imwrite(path, to_bytes(picture, 16), photometric="rgb", rowsperstrip=8)
    else:
        ds.write_image(path, picture, bits=16 if name.startswith("deep") else 8)
    whole, data = ds.read_image(path), path.read_bytes()
    for share in np.linspace(0, 0.99, 40):
        path.write_bytes(data[: int(share * len(data))])
        try:
            got = ds.read_image(path)
        except ds.ImageError:
            continue
        np.testing.assert_array_equal(got, whole)
        assert share > 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 16])
def test_no_changed_bit_of_a_png_passes_for_another_picture(tmp_path, colour, bits):
    path = tmp_path / "in.png"
    ds.write_image(path, colour, bits=bits)
    whole, data = ds.read_image(path), path.read_bytes()
    refused = 0
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            got = ds.read_image(path)
        except ds.ImageError:
            refused += 1
            continue
        np.testing.assert_array_equal(got, whole)
    assert refused > 4 * len(data)


def test_damaged_depth_map_is_refused(tmp_path, colour):
    path = tmp_path / "depth.png"
    save(tmp_path, Image.fromarray(to_bytes(colour[..., 0], 16)), "depth.png")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 4
    path.write_bytes(data)
    with pytest.raises(ds.ImageError, match="damaged or cut in its IDAT chunk"):
        ds.read_depth(path)


@pytest.mark.parametrize("damage", ["no counts", "one count zero"])
def test_tiff_without_some_of_its_strips_is_refused(tmp_path, damage):
    path = tmp_path / "strips.tif"
    samples = np.full((16, 16, 3), 40000, np.uint16)
    tifffile.imwrite(path, samples, photometric="rgb", rowsperstrip=4)
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages[0].tags["StripByteCounts"]
        place = counts.offset if damage == "no counts" else counts.valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 2] = b"\xff\xff" if damage == "no counts" else b"\0\0"
    path.write_bytes(data)
    with pytest.raises(ds.ImageError, match=r"strips\.tif: parts of the picture are missing"):
        ds.read_image(path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_image_error_only(tmp_path, colour, rng):
    for name in ["in.png", "in.jpg", "in.tif", "in.webp", "in.gif"]:
        path = tmp_path / name
        if name == "in.gif":
            Image.fromarray(to_bytes(colour, 8)).save(path)
        else:
            ds.write_image(path, colour)
        data = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(0, data.size, 3)] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                got = ds.read_image(path)
            except ds.ImageError:
                continue
            assert got.dtype == np.float32
            assert np.isfinite(got).all()


# Arrays


@pytest.mark.parametrize(
    ("dtype", "top"),
    [("u1", 255), ("<u2", 65535), (">u2", 65535), ("f2", 1), ("<f4", 1), (">f8", 1), ("?", 1)],
)
@pytest.mark.parametrize("view", ["plain", "reversed", "strided", "fortran", "readonly"])
def test_arrays_of_any_kind_are_read_right(rng, dtype, top, view):
    values = rng.integers(0, 2, (6, 8, 3)) if dtype == "?" else rng.uniform(0, top, (6, 8, 3))
    array = values.astype(dtype)
    array = {
        "plain": lambda a: a,
        "reversed": lambda a: a[::-1, :, ::-1],
        "strided": lambda a: a[::2, 1::3],
        "fortran": np.asfortranarray,
        "readonly": lambda a: a,
    }[view](array)
    if view == "readonly":
        array.flags.writeable = False
    before = array.copy()
    got = ds.as_image(array)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous and got.flags.writeable
    assert not np.shares_memory(got, array)
    np.testing.assert_allclose(got, before.astype(np.float64) / top, atol=1e-6)
    np.testing.assert_array_equal(array, before)


def test_grey_and_alpha_arrays(rng):
    grey = rng.uniform(size=(5, 4))
    for array in (grey, grey[..., None], grey.tolist()):
        np.testing.assert_allclose(ds.as_image(array), np.dstack([grey] * 3), atol=1e-7)
    rgba = rng.uniform(size=(5, 4, 4))
    expected = 1 + (rgba[..., :3] - 1) * rgba[..., 3:]
    np.testing.assert_allclose(ds.as_image(rgba), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 4, 3), np.int64), "dtype int64 is ambiguous"),
        (np.zeros((5, 4, 3), complex), "dtype complex128 is ambiguous"),
        (np.full((5, 4, 3), "a"), "is ambiguous"),
        (np.full((5, 4), None), "dtype object is ambiguous"),
        (np.zeros((3, 5, 7)), r"channels first; use picture.transpose\(1, 2, 0\)"),
        (np.zeros((1, 5, 7, 3)), "is no picture"),
        (np.zeros((5, 7, 2)), "is no picture"),
        (np.zeros(5), "is no picture"),
        (np.float64(0.5), "is no picture"),
        (np.zeros((0, 7, 3)), "is empty"),
        (np.zeros((7, 0)), "is empty"),
        (np.full((5, 4), np.nan), "20 values are NaN or infinite"),
        (np.full((5, 4), 255.0), r"outside \[0, 1\]; divide"),
        (np.full((5, 4), -1.0), r"outside \[0, 1\]"),
        (np.ma.masked_equal(np.eye(4), 1), "masked values"),
        ([[1, 2], [3]], "is no array"),
        (Image.new("P", (4, 4)), "is a Pillow image"),
        ("photo.png", "ambiguous|no picture"),
    ],
)
def test_bad_arrays_are_refused_by_name(array, words):
    with pytest.raises(ds.ImageError, match=words) as caught:
        ds.as_image(array, "picture")
    assert str(caught.value).startswith("picture: ")


def test_check_size():
    images.check_size(np.zeros((16, 40, 3)), 16)
    with pytest.raises(ds.ImageError, match=r"content: 15x40 pixels are too few.* at least 16"):
        images.check_size(np.zeros((15, 40, 3)), 16, "content")


# Sizes


def test_scaled_size():
    assert images.scaled_size(500, 741, longest=512) == (345, 512)
    assert images.scaled_size(500, 741, shortest=256) == (256, 379)
    assert images.scaled_size(1, 1000, longest=10) == (1, 10)
    with pytest.raises(ValueError, match="above the limit of 134217728 pixels"):
        images.scaled_size(500, 741, longest=10**6)
    for options in [{}, {"longest": 3, "shortest": 3}, {"longest": 0}, {"shortest": -4}]:
        with pytest.raises(ValueError, match=r"longest|shortest"):
            images.scaled_size(10, 10, **options)


def test_area_resize_by_a_whole_factor_is_the_block_mean(rng):
    image = rng.uniform(size=(12, 20, 3)).astype(np.float32)
    expected = image.astype(np.float64).reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(ds.resize(image, (3, 5), "area"), expected, atol=1e-6)


@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic", "lanczos"])
def test_resize_keeps_range_constants_and_input(rng, method):
    image = (rng.uniform(size=(9, 14, 3)) > 0.5).astype(np.float32)
    before = image.copy()
    for size in [(1, 1), (5, 31), (23, 3), (9, 14)]:
        got = ds.resize(image, size, method)
        assert got.shape == (*size, 3)
        assert got.dtype == np.float32
        assert got.min() >= 0 and got.max() <= 1
        assert np.ptp(ds.resize(np.full((9, 14), 0.3, np.float32), size, method)) == 0
    np.testing.assert_array_equal(image, before)


def test_resize_refuses(rng):
    image = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match="method='cubic': must be one of area"):
        ds.resize(image, (2, 2), "cubic")
    with pytest.raises(ValueError, match=r"size=\(0, 2\)"):
        ds.resize(image, (0, 2))
