"""PyTorch's oldest format, up to 0.1.9: a tar of the members storages, tensors and pickle."""

from __future__ import annotations

import tarfile
from typing import Any, BinaryIO

from depthstyle.errors import WeightsError
from depthstyle.weights.formats.pytorch import StorageType, globals_of, refuse_code, tensor_file
from depthstyle.weights.formats.source import Cursor, Source
from depthstyle.weights.formats.tensors import Element, Storage, Tensor, TensorFile
from depthstyle.weights.formats.unpickler import Unpickler

_MOST_DIMENSIONS = 32
_MEMBERS = ("storages", "tensors", "pickle")


def read(source: Source) -> TensorFile:
    """Read the index of a tar file that PyTorch wrote; nothing is unpacked.

    Raises
    ------
    WeightsError
        The file is cut short, damaged, or names anything but tensors.
    """
    with source.open() as file:
        starts = _locate(source, file)
        storages = _read_storages(source, Cursor(source, file, *starts["storages"]))
        tensors = _read_tensors(source, Cursor(source, file, *starts["tensors"]), storages)

        def load(value: Any) -> Tensor | Storage:
            if isinstance(value, tuple):
                refuse_code(source)
            if value not in tensors and value not in storages:
                raise source.error(f"damaged: it refers to tensor {str(value)[:40]!r}, absent")
            return tensors[value] if value in tensors else storages[value]

        cursor = Cursor(source, file, *starts["pickle"])
        root = Unpickler(cursor, globals_of(source), load).load()
    return tensor_file(root, source, "PyTorch tar")


def _locate(source: Source, file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Return where the bytes of the three members start and end."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive, start=1):
                if count > 2 * len(_MEMBERS) or member.name in found:
                    raise source.error("a tar file that PyTorch did not write", "unpack it first")
                if member.isreg() and not member.issparse():
                    found[member.name] = member.offset_data, member.offset_data + member.size
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, WeightsError):
            raise
        raise source.error(f"cut short or damaged tar file ({error})") from error
    missing = [name for name in _MEMBERS if name not in found]
    if missing:
        raise source.error(f"a tar file without the member {missing[0]}", "unpack it first")
    return found


def _count(source: Source, cursor: Cursor) -> int:
    count = Unpickler(cursor).load()
    if type(count) is not int or not 0 <= count <= cursor.end - cursor.offset:
        raise source.error(f"damaged: {str(count)[:40]} entries in {cursor.end} bytes")
    return count


def _entry(source: Source, cursor: Cursor) -> tuple[str, Any, Any]:
    """Return the three parts of the pickle before each storage and tensor, the first its key."""
    entry = Unpickler(cursor, globals_of(source)).load()
    if not isinstance(entry, tuple) or len(entry) != 3:
        raise source.error("damaged: an entry that has not three parts")
    return str(entry[0]), entry[1], entry[2]


def _read_storages(source: Source, cursor: Cursor) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for _ in range(_count(source, cursor)):
        key, _, kind = _entry(source, cursor)
        if not isinstance(kind, StorageType) or key in storages:
            raise source.error(f"damaged: storage {key[:40]!r} has no type, or is there twice")
        count = cursor.unpack("q")
        offset = cursor.skip(count * kind.element.size)
        storages[key] = Storage(source, offset, count, kind.element)
    views = Unpickler(cursor).load()
    if not isinstance(views, list):
        raise source.error("damaged: no list of views")
    for view in views:
        _add_view(source, storages, view)
    return storages


def _add_view(source: Source, storages: dict[str, Storage], view: Any) -> None:
    if not isinstance(view, tuple) or len(view) != 4:
        raise source.error("damaged: a view that has not four parts")
    key, root, first, count = str(view[0]), storages.get(str(view[1])), *view[2:]
    inside = type(first) is int and type(count) is int and root is not None
    if not inside or not 0 <= first <= root.count - count:
        raise source.error(f"damaged: view {key[:40]!r} leaves its storage")
    element: Element = root.element
    storages[key] = Storage(source, root.offset + first * element.size, count, element)


def _read_tensors(
    source: Source, cursor: Cursor, storages: dict[str, Storage]
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for _ in range(_count(source, cursor)):
        key, storage_key, _ = _entry(source, cursor)
        dimensions = cursor.unpack("i")
        cursor.skip(4)
        if not 0 <= dimensions <= _MOST_DIMENSIONS:
            raise source.error(f"damaged: a tensor of {dimensions} dimensions")
        sizes = tuple(cursor.unpack("q") for _ in range(dimensions))
        strides = tuple(cursor.unpack("q") for _ in range(dimensions))
        storage = storages.get(str(storage_key))
        if storage is None or key in tensors:
            raise source.error(f"damaged: tensor {key[:40]!r} has no storage, or is there twice")
        tensors[key] = Tensor(storage, sizes, strides, cursor.unpack("q"))
    return tensors
