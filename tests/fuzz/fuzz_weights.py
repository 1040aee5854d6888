"""Feeds damaged files of weights to their readers.

Every input is a right file with a few random changes. A reader must return arrays or raise
WeightsError, within five seconds of the processor's time and within the memory that its file
justifies; anything else is printed with the input's number, which makes it again.

    python tests/fuzz/fuzz_weights.py --count 1000000          every reader, the whole campaign
    python tests/fuzz/fuzz_weights.py --count 1000 --reader torch7 --start 500
"""

from __future__ import annotations

import io
import random
import re
import struct
import sys
import tarfile
import time
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hostile_weights as make
from feeding import feed, folder_in_memory, main
from mutation import changed
from tflite_writer import tflite_file

from depthstyle.errors import WeightsError
from depthstyle.weights import formats
from depthstyle.weights.formats import (
    deeplearnjs,
    ncnn,
    pytorch_legacy,
    pytorch_tar,
    pytorch_zip,
    safetensors,
    tflite,
    torch7,
)
from depthstyle.weights.formats.source import Source
from depthstyle.weights.formats.tensors import TensorFile

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "weights"
SPARE = 17 << 20
SECONDS = 5.0
TOKENS = [b"(", b")", b"]", b"}", b"t", b"e", b"u", b"R", b"b", b"Q", b".", b"h\x00", b"q\x00"]
TOKENS += [b"cos\nsystem\n", b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"torch.FloatTensor", b"\x85"]
TOKENS += [struct.pack("<i", kind) for kind in range(9)]
NCNN_TAGS = [struct.pack("<I", tag) for tag in (0x01306B47, 0x0002C056)]
NCNN_LAYERS = ncnn._layers


def golden(pattern: str) -> list[bytes]:
    """The committed files of a kind; a model's code is of no use here."""
    paths = sorted(GOLDEN.glob(pattern))
    return [path.read_bytes() for path in paths if "whole" not in path.name]


def narrow_layers() -> list[tuple[str, str | None, int, int, int]]:
    """Two layers and the last of ncnn's network, with few channels, for speed."""
    first, second, *_, last = NCNN_LAYERS()
    return [
        (key, norm, max(outputs // 16, 3), max(inputs // 16, 3), kernel)
        for key, norm, outputs, inputs, kernel in (first, second, last)
    ]


def read_narrow_ncnn(source: Source) -> TensorFile:
    """Read a file of the narrow network."""
    ncnn._layers = narrow_layers
    try:
        return ncnn.read(source)
    finally:
        ncnn._layers = NCNN_LAYERS


def ncnn_seeds() -> list[bytes]:
    """Files of zeros in both of ncnn's forms, of the right length for the narrow network."""
    files = []
    for tag, size in zip(NCNN_TAGS, (2, 4), strict=True):
        data = b""
        for _, norm, outputs, inputs, kernel in narrow_layers():
            count = size * outputs * inputs * kernel * kernel
            vectors = 1 if norm is None else 3
            data += tag + bytes(count + -count % 4) + bytes(4 * outputs * vectors)
        files.append(data)
    return files


def legacy_seeds() -> list[bytes]:
    """The committed files, and one with a part of a storage."""
    part = make.legacy_tensor(view=("9", 1, 3), shape=(3,))
    return [*golden("*.legacy.pth"), make.legacy_file({"a": part})]


def tar_seeds() -> list[bytes]:
    """The committed file, and one with a part of a storage."""
    return [*golden("*.tar.pth"), make.tar_kind(key="1", size=2, view=("1", "0", 2, 2))]


def torch7_seeds() -> list[bytes]:
    """Tables with a tensor in them, one shared and one by itself."""
    tensor = make.tensor7((2, 2), (2, 1), index=2)
    key = struct.pack("<i", 2) + make.text7("weight")
    again = struct.pack("<i", 2) + make.text7("again") + struct.pack("<ii", 4, 2)
    number, flag = struct.pack("<id", 1, 7), struct.pack("<ii", 5, 1)
    table = make.table7(key, tensor, again[:-8], again[-8:], number, flag)
    return [make.tensor7((4,), (1,)), table]


def safetensors_seeds() -> list[bytes]:
    """The committed file, one of two tensors, and one of two without dimensions."""
    header = {"a": make.entry([2], 0, 8), "b": make.entry([1, 2], 8, 12, "F16")}
    single = {
        kind: make.entry([], 2 * i, 2 * i + 2, kind) for i, kind in enumerate(("F16", "BF16"))
    }
    return [
        *golden("*.safetensors"),
        make.safetensors_file(header, b"\0" * 12),
        make.safetensors_file(single, b"\0" * 4),
    ]


def manifest_seeds() -> list[bytes]:
    """A manifest of two variables."""
    return [
        b'{"x": {"filename": "x", "shape": [2, 1]}, "y": {"filename": "y", "shape": [3]}}',
    ]


def tflite_seeds() -> list[bytes]:
    """Models of plain tensors, and of tensors with one scale and with several."""
    plain = {"a": (np.ones((2, 3), np.int8), 0.5), "b": np.ones(3, np.float32)}
    scaled = {"c": (np.ones((2, 3), np.int8), [0.5, 1, 2]), "d": (np.int8(1), 0.5)}
    return [tflite_file(plain), tflite_file(scaled)]


READERS = {
    "zip": (pytorch_zip.read, lambda: golden("*.zip.pth")),
    "legacy": (pytorch_legacy.read, legacy_seeds),
    "tar": (pytorch_tar.read, tar_seeds),
    "safetensors": (safetensors.read, safetensors_seeds),
    "torch7": (torch7.read, torch7_seeds),
    "ncnn": (read_narrow_ncnn, ncnn_seeds),
    "deeplearnjs": (deeplearnjs.read, manifest_seeds),
    "tflite": (tflite.read, tflite_seeds),
    "any": (
        None,
        lambda: [
            *golden("*.pth"),
            *safetensors_seeds(),
            *torch7_seeds(),
            *tflite_seeds(),
            *(b"<html>", b"\x80\x02"),
        ],
    ),
}
"""Name of each reader: its function and its right files; `any` is the choice between them."""


@cache
def zip_members(data: bytes) -> list[tuple[str, bytes]]:
    """The members of a right zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


@cache
def tar_members(data: bytes) -> list[tuple[str, bytes]]:
    """The members of a right tar file."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def changed_zip(data: bytes, rng: random.Random) -> bytes:
    """Change the pickle inside a zip file and mend its checksum."""
    members = zip_members(data)
    pickles = [member for name, member in members if name.endswith("data.pkl")]
    return make.zip_members(
        [
            (name, changed(member, rng, pickles, TOKENS) if name.endswith("data.pkl") else member)
            for name, member in members
        ]
    )


def changed_tar(data: bytes, rng: random.Random) -> bytes:
    """Change one member of a tar file and mend its size and checksum: half of a tar is padding."""
    members = dict(tar_members(data))
    name = rng.choice([*members])
    members[name] = changed(members[name], rng, [*members.values()], TOKENS)
    return make.tar_file(members.items())


ARCHIVES = {"zip": changed_zip, "tar": changed_tar}


def case(name: str, number: int, seeds: list[bytes]) -> bytes:
    """Return an input by its number."""
    rng = random.Random(f"{name} {number}")
    seed = rng.choice(seeds)
    if name in ARCHIVES and rng.random() < 0.7:
        return ARCHIVES[name](seed, rng)
    if name == "ncnn" and rng.random() < 0.9:
        # changes of the many numbers say nothing, those of tags and lengths do
        tag = rng.choice([found.start() for found in re.finditer(b"|".join(NCNN_TAGS), seed)])
        return seed[:tag] + changed(seed[tag : tag + 16], rng, seeds, TOKENS) + seed[tag + 16 :]
    return changed(seed, rng, seeds, TOKENS)


def write(name: str, data: bytes, folder: Path) -> tuple[Path, int]:
    """Put an input where its reader finds it; return that and how many bytes are there."""
    if name == "deeplearnjs":
        (folder / "manifest.json").write_bytes(data)
        return folder, len(data) + 20
    path = folder / "input"
    path.write_bytes(data)
    return path, len(data)


def check(name: str, data: bytes, folder: Path) -> bool:
    """Read an input as its user would; return whether it was accepted."""
    path, size = write(name, data, folder)
    reader, _ = READERS[name]
    started = time.process_time()
    try:
        if reader is None:
            found = formats.open(path)
        else:
            found = reader(path if name == "deeplearnjs" else Source(path))
        arrays = list(found.values())
    except WeightsError as error:
        assert str(folder) in str(error), f"the file is not named: {error}"
        return False
    finally:
        assert time.process_time() - started < SECONDS, "too slow"
    assert all(isinstance(array, np.ndarray) for array in arrays)
    # bfloat16 is returned in twice its size
    assert sum(array.nbytes for array in arrays) <= 2 * (2 * size + SPARE), "too much memory"
    return True


def campaign(name: str, count: int, start: int = 0) -> tuple[int, list[str]]:
    """Feed inputs to a reader; return what `feed` does."""
    seeds = READERS[name][1]()
    with folder_in_memory() as holder:
        folder = Path(holder)
        for variable, numbers in (("x", 2), ("y", 3)):
            (folder / variable).write_bytes(bytes(4 * numbers))
        return feed(
            name,
            range(start, start + count),
            lambda number: check(name, case(name, number, seeds), folder),
        )


if __name__ == "__main__":
    sys.exit(main(__doc__.split("\n")[0], "reader", READERS, campaign))
