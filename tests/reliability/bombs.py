"""Picture files that would fill the memory, and a process that reads them and measures itself.

python tests/reliability/bombs.py
"""

import functools
import io
import json
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

from campaign import main

import depthstyle as ds

SMALL = {"png pixels": "read (17, 13, 3)"}
MILLISECONDS = 100
MEBIBYTES = 50
_HUGE = 1 << 27


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width, height, bits=8, extra=b"", pixels=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", pixels or zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunks + _chunk(b"IEND", b"")


@functools.cache
def _zeros():
    """Deflated zeros, a thousand times as many."""
    return zlib.compress(bytes(_HUGE))


def _jpeg(width, height, frame=b"\xff\xc0"):
    size = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    return b"\xff\xd8" + frame + size + b"\xff\xda" + b"\0" * 99


def _tiff(width, height, bits=8, data=b"\0" * 99, compression=1):
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 134), (259, 3, 1, compression),
        (262, 3, 1, 2), (273, 4, 1, 140), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4
    return head + struct.pack("<3H", bits, bits, bits) + data


def _webp(width, height):
    canvas = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little")
    canvas += (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _lossless_webp(width, height):
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBP" + b"VP8L" + struct.pack("<IBI", 5, 0x2F, bits)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif(screen, frame):
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0" * 6
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0;"


def _bmp(width, height):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + info


def _jpeg2000(side):
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, side, side, 0, 0, 3) + b"\x07\1\1" * 3
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size


def _avif():
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "AVIF")
    data = buffer.getvalue()
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 60000, 60000) + data[at + 8 :]


def files():
    """The files by name."""
    text = b"Comment\0\0"
    return {
        "png square": _png(65535, 65535),
        "png line": _png(1, 2**31 - 1),
        "png largest": _png(2**31 - 1, 2**31 - 1),
        "png 16 bit": _png(20000, 10000, 16),
        "png pixels": _png(13, 17, pixels=_zeros()),
        "png profile": _png(13, 17, extra=_chunk(b"iCCP", b"sRGB\0\0" + _zeros())),
        "png text": _png(13, 17, extra=_chunk(b"zTXt", text + _zeros())),
        "png 16 bit profile": _png(13, 17, 16, _chunk(b"iCCP", b"sRGB\0\0" + _zeros())),
        "jpeg": _jpeg(65535, 65535),
        "jpeg progressive": _jpeg(65500, 65500, b"\xff\xc2"),
        "tiff": _tiff(65535, 65535),
        "tiff 2^31": _tiff(2**31 - 1, 1),
        "tiff 16 bit": _tiff(2**31, 2**31, 16),
        "tiff pixels": _tiff(13, 17, 16, _zeros(), 8),
        "webp canvas": _webp(1 << 24, 1 << 24),
        "webp": _lossless_webp(16384, 16384),
        "gif screen": _gif((65535, 65535), (9, 9)),
        "gif frame": _gif((9, 9), (65535, 65535)),
        "bmp": _bmp(2**31 - 1, 2**31 - 1),
        "ppm": b"P6 99999 99999 255\n" + b"\0" * 99,
        "pfm": b"Pf\n99999 99999\n-1\n" + b"\0" * 99,
        "tga": b"\0\0\2" + b"\0" * 9 + struct.pack("<HHBB", 65535, 65535, 24, 0) + b"\0" * 99,
        "jpeg 2000": _jpeg2000(2**31 - 1),
        "avif": _avif(),
    }


def measure(folder):
    """Read each file in a fresh process; return rows of name, milliseconds, MiB and result."""
    for name, data in files().items():
        (folder / name).write_bytes(data)
    command = [sys.executable, __file__, "--read", folder]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def _read_all(folder):
    warnings.simplefilter("ignore")
    warm = Path(folder, "warm.tif")
    for name, bits in (("warm.png", 16), ("warm.tif", 16), ("warm.jpg", 8), ("warm.webp", 8)):
        warm = Path(folder, name)
        ds.write_image(warm, [[0.5] * 9] * 9, bits=bits)
        ds.read_picture(warm)
        warm.unlink()
    rows = []
    for path in sorted(Path(folder).iterdir()):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        try:
            result = f"read {ds.read_picture(path).rgb.shape}"
        except ds.ImageError as error:
            result = f"ImageError: {str(error).removeprefix(folder)}"
        milliseconds = 1000 * (time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows.append((path.name, milliseconds, (after - before) / 1024, result))
    print(json.dumps(rows))


def bombs(count, folder):
    """Measure all of the files; the time only where `count` is not 0."""
    rows = measure(folder)
    for name, milliseconds, mebibytes, result in rows:
        words = f"{name}: {milliseconds:.1f} ms, {mebibytes:.1f} MiB, {result}"
        assert result == SMALL.get(name) or result.startswith("ImageError"), words
        assert mebibytes < MEBIBYTES and (count == 0 or milliseconds < MILLISECONDS), words
    slowest, largest = (max(row[column] for row in rows) for column in (1, 2))
    return f"{len(rows)} files, at most {slowest:.1f} ms and {largest:.1f} MiB"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        _read_all(sys.argv[2])
    else:
        main({bombs: 1})
