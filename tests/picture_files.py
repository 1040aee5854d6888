"""Small right picture files of every kind that is read, made in memory."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from depthstyle.picture_codec import encode_picture, srgb_profile


def samples(channels=3, bits=8, size=(13, 17)):
    """A smooth picture (H, W, channels) of whole numbers."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] / max(size)
    planes = np.stack([rows, columns, 1 - rows * columns, (rows + columns) / 2][:channels], -1)
    return np.rint(planes * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def pillow(kind, mode="RGB", size=(13, 17), **options):
    """A file that Pillow writes."""
    buffer = io.BytesIO()
    image = Image.fromarray(samples(size=size)).convert(mode)
    if mode == "F":
        image = Image.fromarray(np.asarray(image) / 255)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind):
    """A file of three frames."""
    frames = [Image.new("RGB", (9, 7), shade) for shade in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def tiff(channels=3, bits=8, size=(13, 17), **options):
    """A TIFF file that tifffile writes."""
    buffer = io.BytesIO()
    options.setdefault("photometric", "rgb")
    tifffile.imwrite(buffer, samples(channels, bits, size), **options)
    return buffer.getvalue()


def exif_block():
    """An EXIF block with orientation, resolution and text."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "depthstyle-recipe:{}", 300.0
    exif.get_ifd(0x8769)[0xA001] = 1
    return exif.tobytes()


def seeds(size=(13, 17)):
    """The files by format."""

    def pillow_of(kind, mode="RGB", **options):
        return pillow(kind, mode, size, **options)

    def tiff_of(channels=3, bits=8, **options):
        return tiff(channels, bits, size, **options)

    inks = samples(4, size=size)
    cmyk = imagecodecs.jpeg8_encode(inks, colorspace="cmyk", outcolorspace="ycck")
    grey16 = io.BytesIO()
    Image.fromarray(samples(1, 16, size)[..., 0]).save(grey16, "PNG")
    return {
        "png": [
            pillow_of("PNG"),
            pillow_of("PNG", "RGBA"),
            pillow_of("PNG", "LA"),
            pillow_of("PNG", "1"),
            pillow_of("PNG", "P", transparency=3),
            pillow_of("PNG", "L", transparency=9),
            imagecodecs.png_encode(samples(3, 16, size)),
            imagecodecs.png_encode(samples(4, 16, size)),
            grey16.getvalue(),
            pillow_of("PNG", exif=exif_block(), icc_profile=srgb_profile()),
            encode_picture(samples(size=size), ".png", '{"seed": 1}', (72, 72)),
            animation("PNG"),
        ],
        "jpeg": [
            pillow_of("JPEG"),
            pillow_of("JPEG", "L"),
            pillow_of("JPEG", "CMYK"),
            cmyk,
            pillow_of("JPEG", progressive=True, exif=exif_block(), icc_profile=srgb_profile()),
            pillow_of("JPEG", restart_marker_rows=1, subsampling=2),
        ],
        "tiff": [
            tiff_of(),
            tiff_of(4, extrasamples=["unassalpha"]),
            tiff_of(3, 16, compression="zlib"),
            tiff_of(3, 16, compression="lzw", predictor=True),
            tiff_of(4, 16, extrasamples=["assocalpha"]),
            tiff_of(3, 16, tile=(16, 16)),
            pillow_of("TIFF", "CMYK"),
            pillow_of("TIFF", "1", compression="group4"),
            pillow_of("TIFF", "F"),
            pillow_of("TIFF", compression="tiff_lzw"),
            pillow_of("TIFF", "LAB"),
            animation("TIFF"),
            encode_picture(samples(3, 16, size), ".tif", '{"seed": 1}', (72, 72)),
        ],
        "webp": [
            pillow_of("WEBP"),
            pillow_of("WEBP", "RGBA", lossless=True),
            animation("WEBP"),
        ],
        "gif": [pillow_of("GIF"), pillow_of("GIF", transparency=1), animation("GIF")],
        "other": [
            pillow_of("BMP"),
            pillow_of("BMP", "P"),
            pillow_of("BMP", "1"),
            pillow_of("PPM"),
            pillow_of("PPM", "L"),
            pillow_of("PPM", "1"),
            pillow_of("PPM", "F"),
            b"P3 2 1 9 0 1 2 3 4 5\n",
            pillow_of("TGA"),
            pillow_of("TGA", "RGBA", compression="tga_rle"),
            pillow_of("JPEG2000"),
            pillow_of("JPEG2000", "RGBA"),
            pillow_of("AVIF"),
            pillow_of("AVIF", "RGBA"),
        ],
    }


def png_chunks(data):
    """Split a PNG file into its chunks, pairs of kind and data."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks):
    """Join chunks to a PNG file with right lengths and checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
