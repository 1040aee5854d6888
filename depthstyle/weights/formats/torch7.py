"""Torch7's binary format: objects one inside the other, each written once and numbered.

A Lua function in the file is passed over; nothing in the file is a program to this reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from depthstyle.weights.formats.source import Cursor, Source
from depthstyle.weights.formats.tensors import ELEMENTS, Storage, Tensor, TensorFile, flatten

_MOST_LEVELS = 200
_MOST_DIMENSIONS = 32
_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN, _OLD_FUNCTION = range(7)
_FUNCTIONS = (7, 8)

_ELEMENTS = {
    "Float": "float32",
    "Cuda": "float32",
    "Double": "float64",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
}
_STORAGES = {f"torch.{kind}Storage": ELEMENTS[name] for kind, name in _ELEMENTS.items()}
_TENSORS = {f"torch.{kind}Tensor" for kind in _ELEMENTS}


def read(source: Source) -> TensorFile:
    """Read the index of a ``.t7`` file in binary mode of a 64-bit machine.

    Returns
    -------
    TensorFile
        Tensors are named by the fields and numbers on the way to them, ``modules.1.weight``;
        numbers count from 1 as in Lua. A tensor that stands in several places has the first name.

    Raises
    ------
    WeightsError
        The file is cut short or damaged, or of another mode.
    """
    with source.open() as file:
        cursor = Cursor(source, file)
        root = _Reader(source, cursor).read(0)
    if cursor.offset != source.size:
        raise source.error(f"damaged: {source.size - cursor.offset} bytes after its end")
    tensors = flatten(root, source, once=True)
    return TensorFile(
        source, "Torch7", {name: tensor for name, tensor in tensors.items() if tensor.size}
    )


class _Reader:
    def __init__(self, source: Source, cursor: Cursor) -> None:
        self._source, self._cursor = source, cursor
        self._known: dict[int, Any] = {}

    def read(self, level: int) -> Any:
        """Return the next object; what carries no numbers becomes None."""
        if level > _MOST_LEVELS:
            raise self._source.error(f"hostile or damaged: nested more than {_MOST_LEVELS} deep")
        cursor = self._cursor
        kind = cursor.unpack("i")
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return cursor.unpack("d")
        if kind == _STRING:
            return self._string()
        if kind == _BOOLEAN:
            return cursor.unpack("i") != 0
        if kind == _TABLE:
            return self._once(level, self._table)
        if kind == _OBJECT:
            return self._once(level, self._object)
        if kind in _FUNCTIONS:
            return self._once(level, self._function)
        if kind == _OLD_FUNCTION:
            return self._function(level, -1)
        raise self._source.error(
            f"damaged: an object of kind {kind} before byte {cursor.offset}",
            "get it again, or save it in Torch's binary mode on a 64-bit machine",
        )

    def _once(self, level: int, read: Callable[[int, int], Any]) -> Any:
        index = self._cursor.unpack("i")
        if index in self._known:
            return self._known[index]
        if index != len(self._known) + 1:
            raise self._source.error(f"damaged: object {index} after {len(self._known)} objects")
        self._known[index] = None
        self._known[index] = value = read(level, index)
        return value

    def _string(self) -> str:
        return self._cursor.take(self._cursor.unpack("i")).decode("utf-8", "replace")

    def _table(self, level: int, index: int) -> dict[Any, Any]:
        # known before its entries are read, since they may hold it
        table: dict[Any, Any] = {}
        self._known[index] = table
        for _ in range(self._cursor.unpack("i")):
            key = self.read(level + 1)
            value = self.read(level + 1)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if isinstance(key, str | int | float):
                table[key] = value
        return table

    def _function(self, level: int, index: int) -> None:
        self._cursor.skip(self._cursor.unpack("i"))
        self.read(level + 1)

    def _object(self, level: int, index: int) -> Any:
        name = self._string()
        if name.startswith("V "):
            name = self._string()
        if name in _STORAGES:
            return self._storage(name)
        if name in _TENSORS:
            return self._tensor(name, level)
        return self.read(level + 1)

    def _storage(self, name: str) -> Storage:
        element, count = _STORAGES[name], self._cursor.unpack("q")
        return Storage(self._source, self._cursor.skip(count * element.size), count, element)

    def _tensor(self, name: str, level: int) -> Tensor | None:
        dimensions = self._cursor.unpack("i")
        if not 0 <= dimensions <= _MOST_DIMENSIONS:
            raise self._source.error(f"damaged: a tensor of {dimensions} dimensions")
        shape = tuple(self._cursor.unpack("q") for _ in range(dimensions))
        strides = tuple(self._cursor.unpack("q") for _ in range(dimensions))
        first = self._cursor.unpack("q") - 1
        storage = self.read(level + 1)
        if storage is None or not shape:
            return None
        if not isinstance(storage, Storage):
            raise self._source.error(f"damaged: a {name} without a storage")
        return Tensor(storage, shape, strides, first)
