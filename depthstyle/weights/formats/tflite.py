"""TensorFlow Lite's models: FlatBuffers, of which the tensors that have values are read.

A FlatBuffer is tables that point forwards to what they hold: a table begins with the distance back
to its list of fields, which says how far behind the table's beginning each field lies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.weights.formats.source import Source
from depthstyle.weights.formats.tensors import (
    ELEMENTS,
    Element,
    Quantisation,
    Storage,
    TensorFile,
    contiguous,
)

MAGIC = b"TFL3"
"""At byte 4."""

_LARGEST_FILE = 64 << 20
_LONGEST_NAME = 1024
_MOST_DIMENSIONS = 32
_ELEMENTS = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
}
# places of fields in their tables
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTISATION = range(5)
_SCALE, _ZERO, _AXIS = 2, 3, 6
_DATA = 0


def read(source: Source) -> TensorFile:
    """Read the index of a ``.tflite`` file.

    Returns
    -------
    TensorFile
        The tensors with values, under the names of the graph. Integers with scales, one for the
        tensor or one for each channel, become the float32 that they stand for.

    Raises
    ------
    WeightsError
        The file is damaged or larger than such models are.
    """
    if source.size > _LARGEST_FILE:
        raise source.error(f"{source.size} bytes are too many for a TensorFlow Lite model")
    file = _File(source)
    model = file.table(0)
    buffers = list(file.tables(model, _BUFFERS))
    tensors = {}
    for graph in file.tables(model, _SUBGRAPHS):
        for table in file.tables(graph, _TENSORS):
            place = file.scalar(table, _BUFFER, "I")
            if place >= len(buffers):
                raise source.error(f"damaged: a tensor lies in buffer {place} of {len(buffers)}")
            start, size = file.vector(buffers[place], _DATA, 1)
            if size == 0:
                continue
            begin, length = file.vector(table, _NAME, 1)
            if length > _LONGEST_NAME:
                raise source.error(f"damaged: a name of {length} bytes")
            name = file.data[begin : begin + length].decode("utf-8", "replace")
            if name in tensors:
                raise source.error(f"damaged: two tensors are named {name[:80]!r}")
            shape = file.sizes(table, _SHAPE)
            element = _element(file, table, name, shape)
            storage = Storage(source, start, size // element.size, element)
            tensors[name] = contiguous(storage, shape)
    return TensorFile(source, "TensorFlow Lite", tensors)


def _element(file: _File, table: int, name: str, shape: list[int]) -> Element:
    kind = file.scalar(table, _TYPE, "B")
    if kind not in _ELEMENTS:
        raise file.source.error(f"tensor {name[:80]!r} has type {kind}, which is not read")
    element = ELEMENTS[_ELEMENTS[kind]]
    field = file.field(table, _QUANTISATION)
    if field is None or element.stored.kind not in "iu":
        return element
    described = file.table(field)
    scales, zeros = file.array(described, _SCALE, "<f4"), file.array(described, _ZERO, "<i8")
    axis = file.scalar(described, _AXIS, "i")
    if len(scales) == 0:
        return element
    if len(zeros) == 0:
        zeros = np.zeros(len(scales), np.int64)
    channels = shape[axis] if 0 <= axis < len(shape) else 1
    if len(scales) not in (1, channels) or len(zeros) != len(scales):
        raise file.source.error(
            f"damaged: {len(scales)} scales and {len(zeros)} zeros for axis {axis} of tensor "
            f"{name[:80]!r} of shape {tuple(shape)}"
        )
    return replace(element, quantisation=Quantisation(scales, zeros, axis))


class _File:
    """The bytes of a FlatBuffer; every offset is checked before it is followed."""

    def __init__(self, source: Source) -> None:
        self.source, self.data = source, source.read(0, source.size)

    def number(self, layout: str, at: int) -> Any:
        """Return the number at a byte."""
        if not 0 <= at <= len(self.data) - struct.calcsize("<" + layout):
            raise self.source.error(f"damaged: its index points to byte {at}, of {len(self.data)}")
        (value,) = struct.unpack_from("<" + layout, self.data, at)
        return value

    def table(self, at: int) -> int:
        """Return where the table begins to which the number at a byte points."""
        return at + self.number("I", at)

    def field(self, table: int, place: int) -> int | None:
        """Return where a field of a table lies, or None where the table has none."""
        fields = table - self.number("i", table)
        if 4 + 2 * place >= self.number("H", fields):
            return None
        distance = self.number("H", fields + 4 + 2 * place)
        return table + distance if distance else None

    def scalar(self, table: int, place: int, layout: str) -> int:
        """Return a number of a table; 0 is not stored."""
        field = self.field(table, place)
        return 0 if field is None else self.number(layout, field)

    def vector(self, table: int, place: int, size: int) -> tuple[int, int]:
        """Return where the items of a vector begin, each of `size` bytes, and how many they are."""
        field = self.field(table, place)
        if field is None:
            return 0, 0
        begin = field + self.number("I", field)
        count = self.number("I", begin)
        if count * size > len(self.data) - begin - 4:
            raise self.source.error(f"cut short or damaged: {count} items at byte {begin}")
        return begin + 4, count

    def array(self, table: int, place: int, dtype: str) -> NDArray[Any]:
        """Return a vector of numbers, a view of the file's bytes."""
        begin, count = self.vector(table, place, np.dtype(dtype).itemsize)
        return np.frombuffer(self.data, dtype, count, begin)

    def sizes(self, table: int, place: int) -> list[int]:
        """Return the sizes of a tensor."""
        found = self.array(table, place, "<i4")
        if len(found) > _MOST_DIMENSIONS:
            raise self.source.error(f"damaged: a tensor of {len(found)} dimensions")
        return found.tolist()

    def tables(self, table: int, place: int) -> Iterator[int]:
        """Yield where each table of a vector begins."""
        begin, count = self.vector(table, place, 4)
        for i in range(count):
            yield self.table(begin + 4 * i)
