"""The inside of picture files: every mode and depth to float32 sRGB, and back to bytes.

`depthstyle.images` is the public face. Pillow identifies every file and decodes all but 16-bit
colour, which it would cut down to 8 bits: that goes through imagecodecs (PNG) and tifffile.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import DepthstyleWarning, ImageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Samples = NDArray[Any]
"""Stored values: uint8, uint16 or float32."""

PathLike = str | os.PathLike[str]

MAX_PIXELS = 1 << 27
"""Larger pictures are refused from their header, before memory is allocated; set it to change."""

READABLE = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "GIF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF")
READABLE += ("HEIF",)
"""Pillow's names of the formats read, HEIF where the package pillow-heif is installed. EPS and the
like, which run other programs, are left out."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".ppm", ".pgm")
SUFFIXES += (".pnm", ".tga", ".jp2", ".avif", ".heic")
"""Suffixes of the files that a folder of pictures is searched for."""

WRITABLE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""Suffixes of the formats written."""

DEEP = (".png", ".tif", ".tiff")
"""Suffixes of the formats that can hold 16 bits per channel."""

LONGEST = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}
"""Most pixels of a side, of the formats that have a limit."""

_RECIPE = "depthstyle-recipe"
_EXIF_DESCRIPTION = 0x010E
_EXIF_ORIENTATION = 0x0112
_PNG_LEVEL = 4  # the usual 6 takes up to 2.5 times as long for 1.5 % fewer bytes
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_TIFF_BITS_PER_SAMPLE = 0x0102
_DPI = (1.0, 1e5)
"""Least and largest resolution that is believed."""
_PROFILE_DATE = slice(24, 36)
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Picture:
    """A picture as it was in its file.

    Attributes
    ----------
    rgb : float32 (H, W, 3)
        sRGB in [0, 1], upright, not multiplied by alpha.
    alpha : float32 (H, W) or None
        Opacity in [0, 1]; None for a picture without transparency.
    bits : int
        Bits per channel in the file, 8 or 16 (float files count as 16).
    dpi : (float, float) or None
        Horizontal and vertical resolution, where the file states one.
    """

    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    bits: int
    dpi: tuple[float, float] | None


def open_picture(path: PathLike) -> ImageFile:
    """Read a picture's header; `ImageError` says what else the file seems to be."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        # Pillow warns of large pictures where our own limit below decides.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            file = _identify(path)
        except UnidentifiedImageError:
            raise ImageError(f"{path}: {_describe_file(path)}; use PNG, JPEG or TIFF") from None
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # plugins raise nearly anything on damaged headers
            raise ImageError(f"{path}: damaged picture header ({error})") from error
    width, height = file.size
    if width * height > MAX_PIXELS:
        file.close()
        raise ImageError(
            f"{path}: {width}x{height} pixels are above the limit of {MAX_PIXELS}; shrink it first"
        )
    return file


def _identify(path: PathLike) -> ImageFile:
    """Open a picture, with Pillow's common formats before all, which take long to import."""
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    with contextlib.suppress(UnidentifiedImageError):
        return _open(path)
    Image.init()
    _register_heif()
    return _open(path)


def _open(path: PathLike) -> ImageFile:
    from PIL import Image

    return Image.open(path, formats=[name for name in READABLE if name in Image.OPEN])


def _register_heif() -> None:
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


def _describe_file(path: PathLike) -> str:
    with open(path, "rb") as file:
        head = file.read(256)
    if not head:
        return "is an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the picture itself"
    if b"<html" in head.lower() or b"<!doctype html" in head.lower():
        return "is an HTML page, not a picture"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif"):
        return "is a HEIC picture, which needs the package pillow-heif; install it"
    return "is no picture of a known format"


def decode_picture(file: ImageFile, name: str) -> Picture:
    """Decode an opened picture to upright sRGB."""
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":
        _warn(f"{name}: holds {frames} pictures; the first one is used")
    profile = file.info.get("icc_profile")
    check_pixels(file, name)
    if is_deep(file):
        colour, space, alpha = _deep_samples(file, name)
    else:
        colour, space, alpha = _samples(file, name)
    # Asked after decoding: Pillow itself turns TIFF upright when it decodes, and says so here.
    orientation = _exif(file).get(_EXIF_ORIENTATION, 1)
    rgb = _to_srgb(colour, space, profile, name)
    return Picture(
        rgb=_upright(rgb, orientation),
        alpha=None if alpha is None else _upright(to_unit(alpha, name), orientation),
        bits=8 if colour.dtype == np.uint8 else 16,
        dpi=_resolution(file),
    )


def check_pixels(file: ImageFile, name: str) -> None:
    """Compare the checksums of a PNG file's pixels, which Pillow leaves out."""
    if file.format != "PNG":
        return
    source = cast(IO[bytes], file.fp)
    position = source.tell()
    source.seek(8)
    while len(head := source.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _PNG_PIXELS:
            checksum = zlib.crc32(source.read(length), zlib.crc32(kind))
            if source.read(4) != struct.pack(">I", checksum):
                raise ImageError(f"{name}: damaged or cut in its {kind.decode()} chunk")
        else:
            source.seek(length + 4, os.SEEK_CUR)
    source.seek(position)


def _resolution(file: ImageFile) -> tuple[float, float] | None:
    try:
        across, down = map(float, file.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    least, most = _DPI
    return (across, down) if least <= across <= most and least <= down <= most else None


def is_deep(file: ImageFile) -> bool:
    """Tell whether Pillow would cut 16-bit colour down to 8 bits, or take it for 8 bits."""
    from PIL.TiffImagePlugin import TiffImageFile

    if file.format == "PNG":
        return file.mode in ("RGB", "RGBA") and ";16" in str(file.tile[0][3])
    if isinstance(file, TiffImageFile):
        bits = file.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (8,))
        return len(bits) > 1 and max(bits) > 8
    return False


def _deep_samples(file: ImageFile, name: str) -> tuple[Samples, str, Samples | None]:
    source = cast(IO[bytes], file.fp)
    source.seek(0)
    if file.format == "PNG":
        import imagecodecs

        samples, premultiplied = imagecodecs.png_decode(source.read()), False
    else:
        import tifffile

        with tifffile.TiffFile(source) as tiff:
            page = tiff.pages[0]
            if page.imagelength * page.imagewidth * page.samplesperpixel > 4 * MAX_PIXELS:
                raise ImageError(f"{name}: more samples than the header's size explains")
            segments = math.prod(page.chunked)
            if len(page.dataoffsets) != segments or sum(map(bool, page.databytecounts)) != segments:
                # tifffile itself gives zeros, a black picture, for what is not there.
                raise ImageError(f"{name}: parts of the picture are missing from the file")
            samples = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                samples = np.moveaxis(samples, 0, -1)
            premultiplied = tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples
    if samples.dtype != np.uint16:
        raise ImageError(f"{name}: {samples.dtype} samples; save it with 8 or 16 bits per channel")
    if file.mode == "CMYK":
        return samples[..., :4], "cmyk", None
    colours = 1 if samples.shape[2] == 2 else 3
    colour, alpha = samples[..., :colours], None
    if file.mode == "RGBA":
        alpha = samples[..., colours]
        if premultiplied:
            opacity = np.maximum(alpha[..., None].astype(np.float32), 1) / 65535
            colour = np.minimum(np.rint(colour / opacity), 65535).astype(np.uint16)
    return colour, "gray" if colours == 1 else "rgb", alpha


def _samples(file: ImageFile, name: str) -> tuple[Samples, str, Samples | None]:
    """Give colour (H, W, k), its space, and alpha (H, W) or None of what Pillow decodes."""
    mode = file.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _grey_samples(file, name), "gray", None
    if mode == "CMYK":
        return np.asarray(file), "cmyk", None
    if mode == "LAB":
        return _from_lab(file), "rgb", None
    if mode in ("1", "L") and "transparency" not in file.info:
        return np.asarray(file.convert("L"))[..., None], "gray", None
    if mode in ("LA", "La"):
        samples = np.asarray(file.convert("LA"))
        return samples[..., :1], "gray", samples[..., 1]
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in file.info:
        samples = np.asarray(file.convert("RGBA"))
        return samples[..., :3], "rgb", samples[..., 3]
    return np.asarray(file.convert("RGB")), "rgb", None


def _from_lab(file: ImageFile) -> Samples:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"),
        ImageCms.createProfile("sRGB"),
        "LAB",
        "RGB",
        # the table that it would make is off by 33 of 255 in saturated colours
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    return np.asarray(ImageCms.applyTransform(file, transform))


def _grey_samples(file: ImageFile, name: str) -> Samples:
    samples = np.asarray(file)[..., None]
    if file.mode == "F":
        return to_unit(samples, name)
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError(
            f"{name}: integers from {samples.min()} to {samples.max()} are no picture; "
            "save it with 8 or 16 bits per channel"
        )
    return samples.astype(np.uint16)


def _to_srgb(colour: Samples, space: str, profile: bytes | None, name: str) -> NDArray[np.float32]:
    if profile and profile != srgb_profile() and colour.dtype != np.float32:
        import imagecodecs

        try:
            srgb = imagecodecs.cms_transform(
                np.ascontiguousarray(colour[..., 0] if space == "gray" else colour),
                profile,
                imagecodecs.cms_profile("srgb"),
                colorspace=space,
                outcolorspace="rgb",
                outdtype="float32",
            )
            return np.clip(srgb, 0, 1)
        except (imagecodecs.CmsError, ValueError) as error:
            _warn(f"{name}: its colour profile is ignored ({error})")
    unit = to_unit(colour, name)
    if space == "cmyk":
        return (1 - unit[..., :3]) * (1 - unit[..., 3:])
    return as_rgb(unit)


@functools.cache
def srgb_profile() -> bytes:
    """Give the ICC profile of sRGB, the same bytes on every day."""
    import imagecodecs

    profile = bytearray(imagecodecs.cms_profile("srgb"))
    profile[_PROFILE_DATE] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(profile)


def recipe_text(file: ImageFile) -> str | None:
    """Give the text that `encode_picture` stored in a file, or None."""
    if _RECIPE in file.info:
        return str(file.info[_RECIPE])
    marker, _, text = str(_exif(file).get(_EXIF_DESCRIPTION, "")).partition(":")
    return text if marker == _RECIPE else None


def _exif(file: ImageFile) -> Mapping[int, Any]:
    try:
        return file.getexif()
    except Exception:  # a broken EXIF block must not cost the picture
        return {}


def _upright(array: NDArray[np.float32], orientation: Any) -> NDArray[np.float32]:
    """Undo the EXIF orientation (1 to 8) of an array (H, W, ...)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def to_unit(samples: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Scale samples to float32 in [0, 1], in a new array."""
    kind = samples.dtype
    if kind.kind == "b":
        return samples.astype(np.float32)
    if kind.kind == "u" and kind.itemsize <= 2:
        return samples.astype(np.float32) / np.float32(np.iinfo(kind).max)
    if kind.kind != "f":
        raise ImageError(f"{name}: dtype {kind} is ambiguous; use uint8, uint16 or float in [0, 1]")
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        count = np.count_nonzero(~np.isfinite(samples))
        raise ImageError(f"{name}: {count} values are NaN or infinite; replace them first")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ImageError(
            f"{name}: values from {low:.4g} to {high:.4g} are outside [0, 1]; "
            "divide by the maximum of the format (255 for 8 bits) or clip"
        )
    return np.clip(samples, 0, 1).astype(np.float32)


def as_rgb(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat the one channel of a grey picture (H, W, 1); leave (H, W, 3) alone."""
    return np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit


def encode_picture(
    pixels: Samples, suffix: str, text: str | None, dpi: tuple[float, float] | None
) -> bytes:
    """Encode uint8 or uint16 samples (H, W, 3 or 4) in the format of a suffix of `WRITABLE`."""
    if suffix == ".png":
        return _encode_png(pixels, text, dpi)
    if suffix in (".tif", ".tiff"):
        return _encode_tiff(pixels, text, dpi)
    return _encode_with_pillow(pixels, suffix, text, dpi)


def _encode_png(pixels: Samples, text: str | None, dpi: tuple[float, float] | None) -> bytes:
    import imagecodecs

    data = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=_PNG_LEVEL)
    chunks = _png_chunk(b"sRGB", b"\0")
    if dpi is not None:
        per_metre = [round(value / 0.0254) for value in dpi]
        chunks += _png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if text is not None:
        chunks += _png_chunk(b"tEXt", _RECIPE.encode() + b"\0" + text.encode("latin-1"))
    end_of_header = 8 + 25  # signature, IHDR
    return data[:end_of_header] + chunks + data[end_of_header:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _encode_tiff(pixels: Samples, text: str | None, dpi: tuple[float, float] | None) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb",
        compression="zlib",
        predictor=True,
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        description=None if text is None else f"{_RECIPE}:{text}",
        resolution=dpi,
        resolutionunit="inch" if dpi else None,
        software="depthstyle",
        metadata=None,
        iccprofile=srgb_profile(),
    )
    return buffer.getvalue()


def _encode_with_pillow(
    pixels: Samples, suffix: str, text: str | None, dpi: tuple[float, float] | None
) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    if text is not None:
        exif[_EXIF_DESCRIPTION] = f"{_RECIPE}:{text}"
    options: dict[str, Any] = {"exif": exif, "quality": 95, "icc_profile": srgb_profile()}
    if suffix == ".webp":
        options["method"] = 6
    else:
        options["subsampling"] = 0
    if dpi is not None:
        options["dpi"] = dpi
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, "WEBP" if suffix == ".webp" else "JPEG", **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"the picture does not fit {suffix} ({error}); use .png") from error
    return buffer.getvalue()


def _warn(message: str) -> None:
    warnings.warn(message, DepthstyleWarning, stacklevel=4)
