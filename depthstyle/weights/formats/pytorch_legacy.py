"""PyTorch's format before 1.6: five pickles, then the storages in the order of the last one."""

from __future__ import annotations

from typing import Any

from depthstyle.weights.formats.pytorch import globals_of, storage_id, tensor_file
from depthstyle.weights.formats.source import Cursor, Source
from depthstyle.weights.formats.tensors import Element, Storage, TensorFile
from depthstyle.weights.formats.unpickler import Unpickler

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""The first pickle of every file: one long number."""

_PROTOCOL = 1001


def read(source: Source) -> TensorFile:
    """Read the index of a file in PyTorch's legacy format.

    The pickles come before the storages that they refer to, and only the pickles know how long a
    storage's numbers are. So the object is read twice: once to learn the storages, and again when
    each has been found.

    Raises
    ------
    WeightsError
        The file is cut short, damaged, or names anything but tensors.
    """
    with source.open() as file:
        cursor = Cursor(source, file)
        cursor.skip(len(MAGIC))
        _check_header(source, cursor)
        start = cursor.offset
        first = _Object(source)
        first.load(cursor)
        offsets = _find_storages(source, cursor, first.announced)
        root = _Object(source, offsets).load(Cursor(source, file, start))
    return tensor_file(root, source, "PyTorch legacy")


def _check_header(source: Source, cursor: Cursor) -> None:
    unpickler = Unpickler(cursor)
    protocol, system = unpickler.load(), unpickler.load()
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise source.error("damaged: no version that PyTorch has written")
    if system.get("little_endian") is not True:
        raise source.error("its bytes are in big-endian order", "convert the file")


class _Object:
    """The object of the file and the storages that its references speak of."""

    def __init__(self, source: Source, offsets: dict[str, int] | None = None) -> None:
        self.announced: dict[str, tuple[Element, int]] = {}
        self._source, self._offsets = source, offsets

    def load(self, cursor: Cursor) -> Any:
        """Read the object; without offsets the tensors are only checked against the sizes."""
        return Unpickler(cursor, globals_of(self._source), self._storage).load()

    def _storage(self, value: Any) -> Storage:
        element, key, count = storage_id(self._source, value, 6)
        if self.announced.setdefault(key, (element, count)) != (element, count):
            raise self._source.error(f"damaged: storage {key[:40]!r} is described in two ways")
        offset = 0 if self._offsets is None else self._offsets[key]
        whole = Storage(self._source, offset, count, element)
        view = value[5]
        if view is None:
            return whole
        _, first, part = view
        if type(first) is not int or type(part) is not int or not 0 <= first <= count - part:
            raise self._source.error(f"damaged: a view of storage {key[:40]!r} leaves it")
        return Storage(self._source, offset + first * element.size, part, element)


def _find_storages(
    source: Source, cursor: Cursor, announced: dict[str, tuple[Element, int]]
) -> dict[str, int]:
    """Return the offset of each storage's numbers, which stand in the order of a list of keys."""
    keys = Unpickler(cursor).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise source.error("damaged: no list of storages")
    if sorted(keys) != sorted(announced):
        raise source.error("damaged: the list of storages is not that of its tensors")
    offsets = {}
    for key in keys:
        element, count = announced[key]
        found = cursor.unpack("q")
        if found != count:
            raise source.error(f"damaged: storage {key[:40]!r} has {found} numbers, not {count}")
        offsets[key] = cursor.skip(count * element.size)
    return offsets
