"""What pictures and depth maps promise: cut files, modes, odd arrays, sizes.

python tests/reliability/pictures.py              every campaign in full
python tests/reliability/pictures.py arrays=999   the named ones, with other counts
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import johnson_files
import picture_files
from campaign import main, report

import depthstyle as ds
from depthstyle.depth import strength_map
from depthstyle.methods import Painter, make_painter

LARGEST = 70
LSB = 1 / 255 + 1e-6


def cut_pictures(count: int) -> Iterator[str | None]:
    """Cut every file at points over its length: refused, or the same pixels as the whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input")
        for kind, files in picture_files.seeds((61, 83)).items():
            for number, data in enumerate(files):
                path.write_bytes(data)
                whole = ds.read_picture(path)
                for length in np.unique(np.linspace(0, len(data) - 1, count, dtype=int)):
                    path.write_bytes(data[:length])
                    yield _cut(path, whole, f"{kind} {number} cut at {length} of {len(data)}")


def _cut(path: Path, whole: ds.Picture, name: str) -> str | None:
    try:
        got = ds.read_picture(path)
    except ds.ImageError:
        return None
    same = np.array_equal(got.rgb, whole.rgb) and np.array_equal(
        np.float32(0 if got.alpha is None else got.alpha),
        np.float32(0 if whole.alpha is None else whole.alpha),
    )
    return None if same else f"{name}: another picture"


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB")
MODES += ("HSV", "I", "F", "I;16", "I;16B", "I;16L")
FORMATS = {
    "PNG": {}, "TIFF": {}, "JPEG": {"quality": 100}, "WEBP": {"lossless": True}, "GIF": {},
    "BMP": {}, "PPM": {}, "TGA": {}, "JPEG2000": {}, "AVIF": {"quality": 100},
}  # fmt: skip


def pictures_of_modes() -> Iterator[str | None]:
    """Every mode of Pillow in every format that it writes it to, against Pillow's own reading."""
    from PIL import Image, features

    kinds = dict(FORMATS)
    if not features.check("avif"):
        kinds.pop("AVIF")
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            for kind, options in kinds.items():
                buffer = io.BytesIO()
                try:
                    picture_of_mode(mode).save(buffer, kind, **options)
                except (OSError, KeyError, ValueError, SystemError, TypeError):
                    continue  # Pillow does not write this mode to this format
                path = Path(folder, "input")
                path.write_bytes(buffer.getvalue())
                with Image.open(buffer) as stored:
                    stored.load()
                    expected, alpha = reference(stored)
                yield _mode(path, expected, alpha, f"{mode} in {kind}")


def picture_of_mode(mode: str):
    """A picture of 13x17 pixels in a mode."""
    from PIL import Image

    grey = picture_files.samples(1, 16)[..., 0]
    if mode in ("I;16", "I;16B", "I;16L"):
        order = ">" if mode == "I;16B" else "<"
        return Image.frombytes(mode, (17, 13), grey.astype(f"{order}u2").tobytes())
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 65535)
    colour = Image.fromarray(picture_files.samples())
    if mode in ("LA", "PA", "RGBA", "RGBa", "La"):
        colour.putalpha(Image.fromarray(picture_files.samples()[..., 2]))
    if mode in ("La", "PA"):
        colour = colour.convert("LA")
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(colour, srgb, lab, outputMode="LAB")
    return colour.convert(mode)


def reference(stored):
    """Colours (H, W, 3) and alpha (H, W) or None in [0, 1] of a picture that Pillow has read."""
    if stored.mode.startswith("I"):
        return np.dstack([np.asarray(stored) / 65535] * 3), None
    if stored.mode == "F":
        return np.dstack([np.asarray(stored)] * 3), None
    if stored.mode == "CMYK":
        inks = np.asarray(stored) / 255
        return (1 - inks[..., :3]) * (1 - inks[..., 3:]), None
    if stored.mode == "LAB":
        return srgb_of_lab(np.asarray(stored)), None
    clear = stored.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in stored.info
    pixels = np.asarray(stored.convert("RGBA")) / 255
    return pixels[..., :3], pixels[..., 3] if clear else None


def srgb_of_lab(samples: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of 8 bits (white D50) as sRGB in [0, 1], from the definitions."""
    lightness = samples[..., 0] / 255 * 100
    across, down = (samples[..., k].astype(np.int8).astype(float) for k in (1, 2))
    middle = (lightness + 16) / 116
    cubed = np.stack([middle + across / 500, middle, middle - down / 200], axis=-1)
    small = cubed <= 6 / 29
    xyz = np.where(small, 3 * (6 / 29) ** 2 * (cubed - 4 / 29), cubed**3)
    xyz *= [0.96422, 1.0, 0.82521]
    # XYZ under D50 to linear sRGB, adapted after Bradford
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.transpose(matrix), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _mode(path: Path, expected: np.ndarray, alpha: np.ndarray | None, name: str) -> str | None:
    got = ds.read_picture(path)
    if (got.alpha is None) != (alpha is None):
        return f"{name}: alpha {'found' if alpha is None else 'lost'}"
    worst = np.abs(got.rgb - expected).max()
    if worst > LSB:
        return f"{name}: differs by {255 * worst:.1f} of 255"
    if alpha is not None and np.abs(got.alpha - alpha).max() > LSB:
        return f"{name}: other alpha"
    return None


DTYPES = ("?", "u1", "<u2", ">u2", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "i1", "<i2", "<u4")
DTYPES += (">i8", "c8", "O", "S1", "U2", "M8[s]", "V4")
EDGES = (0.0, 1.0, 0.5, -1e-5, 1.00005, 1.1, -0.5, 255.0, np.nan, np.inf, -np.inf, 1e30)


def odd_arrays(count: int) -> Iterator[str | None]:
    """Arrays of any type, shape, layout and content: right or refused, and never changed."""
    for number in range(count):
        rng = random.Random(number)
        array, name = random_array(rng)
        before = array.tobytes() if array.dtype != object else repr(array).encode()
        yield _array(array, f"array {number}: {name}")
        after = array.tobytes() if array.dtype != object else repr(array).encode()
        if after != before:
            yield f"array {number}: {name}: was changed"


def random_array(rng: random.Random) -> tuple[np.ndarray, str]:
    """An array and what it is."""
    kind = rng.choice(DTYPES)
    channels = rng.choice([(), (1,), (2,), (3,), (3,), (4,), (5,), (3, 1)])
    shape = (rng.choice([0, 1, 2, 7, 12]), rng.choice([1, 1, 3, 8]), *channels)
    shape = shape if rng.random() < 0.95 else shape[: rng.randrange(2)]
    values = np.array([rng.random() for _ in range(int(np.prod(shape)))]).reshape(shape)
    dtype = np.dtype(kind)
    if dtype.kind in "ui" and rng.random() < 0.9:
        values = np.rint(values * np.iinfo(dtype).max)
    elif dtype.kind == "f" and values.size and rng.random() < 0.4:
        values.flat[rng.randrange(values.size)] = rng.choice(EDGES)
    with np.errstate(all="ignore"):
        array = np.zeros(shape, dtype) if dtype.kind in "MV" else np.array(values, dtype)
    layout = rng.choice(["plain", "fortran", "reversed", "every second", "read-only", "offset"])
    if layout == "fortran":
        array = np.asfortranarray(array)
    elif layout == "reversed":
        array = array[(slice(None, None, -1),) * array.ndim]
    elif layout == "every second" and array.ndim:
        array = np.repeat(array, 2, axis=0)[::2]
    elif layout == "read-only":
        array.flags.writeable = False
    elif layout == "offset" and not array.dtype.hasobject:
        room = bytearray(array.nbytes + 1)
        odd = np.frombuffer(room, array.dtype, array.size, offset=1) if array.size else array
        array = odd.reshape(array.shape)
    array = np.asarray(array)
    return array, f"{kind} {array.shape} {layout}"


def _array(array: np.ndarray, name: str) -> str | None:
    right = expected_picture(array)
    try:
        got = ds.as_image(array, "picture")
    except ds.ImageError as error:
        if right is not None:
            return f"{name}: refused ({error})"
        return None if str(error).startswith("picture: ") else f"{name}: not named: {error}"
    if right is None:
        return f"{name}: accepted"
    if got.dtype != np.float32 or not got.flags.c_contiguous or np.shares_memory(got, array):
        return f"{name}: not an array of its own"
    return None if np.abs(got - right).max() < 1e-6 else f"{name}: other values"


def expected_picture(array: np.ndarray) -> np.ndarray | None:
    """What an array is as a picture (H, W, 3) in float64; None where it is none."""
    shape, kind = array.shape, array.dtype
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        return None
    if kind.kind not in "buf" or (kind.kind == "u" and kind.itemsize > 2):
        return None
    values = array.astype(np.float64)
    values /= np.iinfo(kind).max if kind.kind == "u" else 1
    if not np.isfinite(values).all() or values.min() < -1e-4 or values.max() > 1 + 1e-4:
        return None
    values = np.clip(values.reshape(*shape[:2], -1), 0, 1)
    colour, alpha = values[..., :3], values[..., 3:]
    colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    return 1 + (colour - 1) * alpha if alpha.size else colour


READINGS = (0.0, -0.0, -1.0, 1e-30, 1e30, -1e30, np.nan, np.inf, -np.inf, 65535.0, 3.4e38)
MASKS = ("sigmoid", "complement", "linear", "window:0.2..0.5", "window:1..1", "linear:0..0")


def odd_depths(count: int) -> Iterator[str | None]:
    """Depth readings with holes, outliers, constants: maps and masks in [0, 1], or refused."""
    for number in range(count):
        rng = np.random.default_rng(number)
        readings = random_readings(rng)
        before = readings.tobytes()
        yield _depth(readings, rng, f"depth {number}")
        if readings.tobytes() != before:
            yield f"depth {number}: was changed"


def random_readings(rng: np.random.Generator) -> np.ndarray:
    """An array of depth readings, more or less damaged."""
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    values = rng.choice([0.0, 1.0, 100.0, -1.0]) + rng.random(shape) * rng.choice([0, 1e-9, 1, 1e4])
    for _ in range(rng.choice([0, 0, 1, 3, 40])):
        values[int(rng.integers(shape[0])), int(rng.integers(shape[1]))] = rng.choice(READINGS)
    kind = rng.choice(["<f4", ">f4", "<f8", "<f2", "u1", "<u2", ">u2", "<i4", "?"])
    with np.errstate(all="ignore"):
        return values.astype(kind)


def _depth(readings: np.ndarray, rng: np.random.Generator, name: str) -> str | None:
    kind = str(rng.choice(["depth", "disparity"]))
    try:
        found = ds.read_depth(readings, kind=kind)
    except ds.ImageError:
        # one with a range of its own must always be read
        good = readings[np.isfinite(readings.astype(float)) & (readings > 0)].astype(float)
        return f"{name}: refused" if good.size and np.ptp(good) > 1e-3 * good.max() else None
    if found.shape != readings.shape or found.dtype != np.float32:
        return f"{name}: {found.dtype} {found.shape}"
    maps = {"depth": found, "strength": strength_map(found, beta=float(rng.choice([0, 20, 1e30])))}
    with contextlib.suppress(ds.ImageError):
        spec = str(rng.choice(MASKS))
        maps[spec] = ds.depth_mask(found, spec)
    for part, values in maps.items():
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            return f"{name}: {part} from {values.min()} to {values.max()}"
    return None


def all_sizes(step: int) -> Iterator[str | None]:
    """Photographs of all sizes 0..70: a result of the same size, or the smallest size said."""
    style = picture_files.samples(size=(32, 32))
    short = {"iterations": 1, "scales": 1}
    fast = johnson_files.weights("pytorch-examples")
    painters = {
        "gatys": make_painter("gatys", [style], **short),
        "lapstyle": make_painter("lapstyle", [style], **short),
        "adain": make_painter("adain", [style]),
        "da-adain": make_painter("da-adain", [style]),
        "fast": make_painter("fast", [], weights=fast),
    }
    chosen = random.Random(7)
    for method, painter in painters.items():
        for height, width in itertools.product(range(LARGEST + 1), repeat=2):
            if chosen.randrange(step) == 0:
                yield _size(painter, height, width, f"{method} {height}x{width}")


def _size(painter: Painter, height: int, width: int, name: str) -> str | None:
    rows, columns = np.mgrid[0:height, 0:width] / (LARGEST + 1)
    content = np.stack([rows, columns, 1 - rows * columns], axis=-1)
    depth = columns if name.startswith("da-") and columns.size else None
    try:
        got = painter.paint(content, depth).image
    except ds.ImageError as error:
        told = "is empty" in str(error) or "must be at least" in str(error)
        return None if told else f"{name}: {error}"
    if got.shape != content.shape or not np.isfinite(got).all():
        return f"{name}: result {got.shape}, finite {np.isfinite(got).all()}"
    return None


def cuts(count: int, folder: Path) -> str:
    """Cut each of 51 files at so many points."""
    return report(cut_pictures(count))


def modes(count: int, folder: Path) -> str:
    """Read every mode in every format."""
    return report(pictures_of_modes())


def arrays(count: int, folder: Path) -> str:
    """Give so many arrays in place of a picture."""
    return report(odd_arrays(count))


def depths(count: int, folder: Path) -> str:
    """Give so many arrays of readings."""
    return report(odd_depths(count))


def sizes(count: int, folder: Path) -> str:
    """Paint photographs of one in so many of the sizes."""
    return report(all_sizes(count))


if __name__ == "__main__":
    main({cuts: 200, modes: 1, arrays: 50_000, depths: 20_000, sizes: 1})
