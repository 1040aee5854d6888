"""Feeds damaged picture files to the reader.

Every input is a right file with a few random changes. The reader must return a finite picture in
[0, 1] or raise ImageError, within five seconds of the processor's time and bounded memory; anything
else is printed with the input's number, which makes it again. A damaged EXIF block must cost no
more than the orientation, a damaged ICC profile no more than the colours.

    python tests/fuzz/fuzz_images.py --count 1000000         every kind, the whole campaign
    python tests/fuzz/fuzz_images.py --count 1000 --kind png --start 500
"""

from __future__ import annotations

import contextlib
import random
import resource
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import picture_files as make
from feeding import feed, folder_in_memory, main
from mutation import changed

import depthstyle as ds
from depthstyle import picture_codec

SECONDS = 5.0
MEBIBYTES = 512
PIXELS = 1 << 20
TOKENS = [b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND", b"iCCP", b"eXIf", b"acTL", b"\xff\xd8"]
TOKENS += [b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xdd", b"\xff\xe1", b"\xff\xd9", b"II*\x00"]
TOKENS += [b"MM\x00*", b"VP8L", b"VP8X", b"ANMF", b"ALPH", b"\x01\x00\x03\x00", b"GIF89a", b"\x00;"]


@cache
def seeds() -> dict[str, list[bytes]]:
    """The right files of each kind; of all kinds for random bytes."""
    return make.seeds()


def changed_chunks(rng: random.Random) -> bytes:
    """A PNG file with changed chunks and right checksums, which the decoder looks into."""
    chunks = make.png_chunks(rng.choice(seeds()["png"]))
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    chunks[at] = kind, changed(data, rng, seeds()["png"], TOKENS)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    return make.png_of(chunks)


def with_block(option: str, block: bytes, rng: random.Random) -> bytes:
    """A sound picture with an EXIF block or a profile."""
    kind = rng.choice(["PNG", "JPEG", "WEBP"])
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    return make.pillow(kind, **{option: block}, **options)


def case(kind: str, number: int) -> bytes:
    """Return an input by its number."""
    rng = random.Random(f"{kind} {number}")
    if kind == "random":
        head = rng.choice(rng.choice(list(seeds().values())))[: rng.choice([0, 4, 12, 64])]
        return head + rng.randbytes(rng.choice([0, 3, 50, 3000]))
    if kind == "png chunks":
        return changed_chunks(rng)
    if kind == "exif":
        block = make.exif_block()
        return with_block("exif", block[:6] + changed(block[6:], rng, [block], TOKENS), rng)
    if kind == "icc":
        profile = make.srgb_profile()
        return with_block("icc_profile", changed(profile, rng, [profile], TOKENS), rng)
    return changed(rng.choice(seeds()[kind]), rng, seeds()[kind], TOKENS)


KINDS = (*make.seeds(), "png chunks", "random", "exif", "icc")


def check(kind: str, data: bytes, path: Path) -> bool:
    """Read an input; return whether it was accepted."""
    path.write_bytes(data)
    before, started = peak(), time.process_time()
    try:
        with contextlib.suppress(ds.ImageError):
            ds.read_recipe(path)
        picture = ds.read_picture(path)
    except ds.ImageError as error:
        assert str(path) in str(error), f"the file is not named: {error}"
        assert kind not in ("exif", "icc"), f"a block cost the picture: {error}"
        return False
    finally:
        assert time.process_time() - started < SECONDS, "too slow"
        assert peak() - before < MEBIBYTES, f"{peak() - before} MiB more memory"
    rgb, alpha = picture.rgb, picture.alpha
    assert rgb.dtype == np.float32 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size
    for samples in (rgb,) if alpha is None else (rgb, alpha):
        assert samples.shape[:2] == rgb.shape[:2]
        assert np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1
    if kind == "exif":
        upright = make.samples() / 255
        turned = {12: upright, 16: upright.swapaxes(0, 1)}.get(rgb.shape[0] - 1)
        assert turned is not None, f"shape {rgb.shape}"
        views = [turned[::down, ::across] for down in (1, -1) for across in (1, -1)]
        # JPEG of quality 100 with halved chroma
        assert min(np.abs(rgb - view).mean() for view in views) < 0.02, "other pixels"
    return True


def campaign(kind: str, count: int, start: int = 0) -> tuple[int, list[str]]:
    """Feed inputs to the reader; return what `feed` does."""
    limit, picture_codec.MAX_PIXELS = picture_codec.MAX_PIXELS, PIXELS
    try:
        with warnings.catch_warnings(), folder_in_memory() as folder:
            warnings.simplefilter("ignore")
            seeds()
            before = peak()
            accepted, failures = feed(
                kind,
                range(start, start + count),
                lambda number: check(kind, case(kind, number), Path(folder, "input")),
            )
    finally:
        picture_codec.MAX_PIXELS = limit
    if peak() - before > MEBIBYTES:
        failures.append(f"{kind}: {peak() - before} MiB more memory")
    return accepted, failures


def peak() -> int:
    """The largest memory of the process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    sys.exit(main(__doc__.split("\n")[0], "kind", KINDS, campaign))
