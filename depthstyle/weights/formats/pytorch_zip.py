"""PyTorch's present format: an uncompressed zip of one pickle and one member per storage."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Any, BinaryIO

from depthstyle.errors import WeightsError
from depthstyle.weights.formats.pytorch import globals_of, refuse_code, storage_id, tensor_file
from depthstyle.weights.formats.source import Cursor, Source
from depthstyle.weights.formats.tensors import Storage, TensorFile
from depthstyle.weights.formats.unpickler import Unpickler

_LOCAL_HEADER = "<4s22xHH"


def read(source: Source) -> TensorFile:
    """Read the index of a zip file that PyTorch wrote.

    Raises
    ------
    WeightsError
        The file is damaged, compressed, a program (TorchScript), or names anything but tensors.
    """
    try:
        with source.open() as file, zipfile.ZipFile(file) as archive:
            return _Archive(source, file, archive).read()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        if isinstance(error, WeightsError):
            raise
        raise source.error(f"cut short or damaged zip file ({error})") from error


class _Archive:
    def __init__(self, source: Source, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._source, self._file = source, file
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.filename in self._members:
                raise source.error(f"damaged: two members are named {member.filename!r}")
            self._members[member.filename] = member
        self._starts: dict[str, int] = {}
        self._storages: dict[str, Storage] = {}

    def read(self) -> TensorFile:
        pickles = [name for name in self._members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise self._source.error(
                f"a zip file with {len(pickles)} members data.pkl, so not one that PyTorch wrote",
                "give a file of weights",
            )
        self._root = pickles[0].removesuffix("data.pkl")
        if f"{self._root}constants.pkl" in self._members:
            refuse_code(self._source)
        self._starts = self._locate()
        order = self._members.get(f"{self._root}byteorder")
        if order is not None and self._bytes(order) != b"little":
            raise self._source.error("its bytes are in big-endian order", "convert the file")
        cursor = Cursor.of_bytes(self._source, self._bytes(self._members[pickles[0]]))
        unpickler = Unpickler(cursor, globals_of(self._source), self._load)
        return tensor_file(unpickler.load(), self._source, "PyTorch zip")

    def _locate(self) -> dict[str, int]:
        """Return where each member's bytes start, none inside another and none compressed."""
        source, starts, end = self._source, {}, 0
        for member in sorted(self._members.values(), key=lambda member: member.header_offset):
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise source.error(
                    f"member {member.filename!r} is compressed or encrypted, which PyTorch never "
                    "does",
                    "unpack it and zip it again without compression",
                )
            if member.header_offset < end:
                raise source.error(f"hostile: member {member.filename!r} overlaps another")
            header = Cursor(source, self._file, member.header_offset)
            signature, name, extra = struct.unpack(_LOCAL_HEADER, header.take(30))
            if signature != b"PK\x03\x04":
                raise source.error(f"damaged: member {member.filename!r} has no header")
            header.skip(name + extra)
            starts[member.filename] = header.skip(member.file_size)
            end = header.offset
        return starts

    def _bytes(self, member: zipfile.ZipInfo) -> bytes:
        start = self._starts[member.filename]
        data = Cursor(self._source, self._file, start).take(member.file_size)
        if zlib.crc32(data) != member.CRC:
            raise self._source.error(f"damaged: wrong checksum of {member.filename[:80]!r}")
        return data

    def _load(self, value: Any) -> Storage:
        element, key, count = storage_id(self._source, value, 5)
        known = self._storages.get(key)
        if known is None:
            name = f"{self._root}data/{key}"
            member = self._members.get(name)
            if member is None or member.file_size != count * element.size:
                found = "missing" if member is None else f"{member.file_size} bytes"
                raise self._source.error(
                    f"damaged: member {name[:80]!r} is {found}, the pickle wants {count} numbers "
                    f"of type {element.name}"
                )
            known = Storage(self._source, self._starts[name], count, element, member.CRC)
            self._storages[key] = known
        if (known.element, known.count) != (element, count):
            raise self._source.error(f"damaged: storage {key[:40]!r} is described in two ways")
        return known
