"""A reader of pickles that builds plain values and cannot call anything.

Python's own `pickle` imports and calls what a file names. This one knows the few operations that
programs use to write tensors, and hands every name of a function or class to its caller, who
answers with a `Builder` or a value of its own, or refuses.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from depthstyle.errors import WeightsError
from depthstyle.weights.formats.source import Cursor
from depthstyle.weights.formats.tensors import Tensor

_MOST_BYTES = 32 << 20
_MOST_OPERATIONS = 500_000
"""Some thirty describe a tensor, and each may allocate a hundred bytes."""

_MARK = object()


class Builder:
    """What a pickle may apply to arguments in place of the function that it names."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


class Unpickler:
    """Read pickles from a cursor, one after the other.

    Parameters
    ----------
    cursor : Cursor
        Where the pickles are.
    find_global : callable, optional
        ``find_global(module, name)`` returns what stands for a global; a `Builder` may be applied
        to arguments. Without it every global is refused.
    load_persistent : callable, optional
        ``load_persistent(id)`` returns the object that is stored elsewhere.
    """

    def __init__(
        self,
        cursor: Cursor,
        find_global: Callable[[str, str], Any] | None = None,
        load_persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._cursor = cursor
        self._find_global = find_global
        self._load_persistent = load_persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the next object.

        Raises
        ------
        WeightsError
            The pickle is damaged, or asks for what a file of tensors does not need.
        """
        self._stack, self._memo = [], {}
        try:
            self._run()
            (value,) = self._stack
        except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, WeightsError):
                raise
            raise self._error(f"no valid structure ({type(error).__name__}: {error})") from error
        return value

    def _run(self) -> None:
        start, done = self._cursor.offset, 0
        while (code := self._cursor.take(1)) != pickle.STOP:
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise self._error(f"operation {code!r}, which no file of tensors needs")
            operation(self)
            done += 1
            if done > _MOST_OPERATIONS or self._cursor.offset - start > _MOST_BYTES:
                raise self._error("more structure than any network has")

    def _error(self, wrong: str) -> WeightsError:
        return self._cursor.source.error(
            f"damaged or hostile pickle at byte {self._cursor.offset}: {wrong}",
            "nothing of it was executed; get a file that holds only a state dict",
        )

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise self._error("a mark where a value is expected")
        return value

    def _pop_to_mark(self) -> list[Any]:
        # from the end, so that the cost is what was put there and not the whole stack
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise self._error("no mark")
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _tuple(self, count: int) -> None:
        self._push(tuple([self._pop() for _ in range(count)][::-1]))

    def _text(self, layout: str) -> None:
        self._push(self._cursor.take(self._cursor.unpack(layout)).decode("utf-8"))

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._error("a global whose name is no text")
        if self._find_global is None:
            raise self._error(f"the name {module}.{name}")
        self._push(self._find_global(module, name))

    def _line(self) -> str:
        line = bytearray()
        while (letter := self._cursor.take(1)) != b"\n":
            line += letter
            if len(line) > 256:
                raise self._error("a name of more than 256 letters")
        return line.decode("utf-8")

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _persistent(self) -> None:
        if self._load_persistent is None:
            raise self._error("a reference to outside")
        self._push(self._load_persistent(self._pop()))

    def _reduce(self) -> None:
        arguments, builder = self._pop(), self._pop()
        if not isinstance(builder, Builder) or not isinstance(arguments, tuple):
            raise self._error("a call of what is no known builder of tensors")
        self._push(builder.build(*arguments))

    def _build(self) -> None:
        # The state of a state dict (its versions) and of a parameter says nothing about values.
        self._pop()
        if not isinstance(self._stack[-1], dict | Tensor):
            raise self._error("a state for what has none")

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise self._error("keys and values for what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | float | bool | None):
                raise self._error(f"a key of type {type(key).__name__}")
            target[key] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self._error("items for what is no list")
        target.extend(values)

    def _float(self) -> None:
        (value,) = struct.unpack(">d", self._cursor.take(8))
        self._push(value)

    def _long(self) -> None:
        data = self._cursor.take(self._cursor.unpack("B"))
        self._push(int.from_bytes(data, "little", signed=True))


def _constant(value: Any) -> Callable[[Unpickler], None]:
    return lambda self: self._push(value)


def _number(layout: str) -> Callable[[Unpickler], None]:
    return lambda self: self._push(self._cursor.unpack(layout))


def _check_protocol(self: Unpickler) -> None:
    version = self._cursor.unpack("B")
    if version > pickle.HIGHEST_PROTOCOL:
        raise self._error(f"protocol {version}")


_OPERATIONS: dict[bytes, Callable[[Unpickler], None]] = {
    pickle.PROTO: _check_protocol,
    pickle.FRAME: lambda self: self._cursor.take(8) and None,
    pickle.MARK: lambda self: self._push(_MARK),
    pickle.POP: lambda self: self._stack.pop() and None,
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(True),
    pickle.NEWFALSE: _constant(False),
    pickle.EMPTY_DICT: lambda self: self._push({}),
    pickle.EMPTY_LIST: lambda self: self._push([]),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.TUPLE: lambda self: self._push(tuple(self._pop_to_mark())),
    pickle.TUPLE1: lambda self: self._tuple(1),
    pickle.TUPLE2: lambda self: self._tuple(2),
    pickle.TUPLE3: lambda self: self._tuple(3),
    pickle.BININT: _number("i"),
    pickle.BININT1: _number("B"),
    pickle.BININT2: _number("H"),
    pickle.BINFLOAT: Unpickler._float,
    pickle.LONG1: Unpickler._long,
    pickle.BINUNICODE: lambda self: self._text("I"),
    pickle.SHORT_BINUNICODE: lambda self: self._text("B"),
    pickle.BINSTRING: lambda self: self._text("i"),
    pickle.SHORT_BINSTRING: lambda self: self._text("B"),
    pickle.BINPUT: lambda self: self._memoize(self._cursor.unpack("B")),
    pickle.LONG_BINPUT: lambda self: self._memoize(self._cursor.unpack("I")),
    pickle.MEMOIZE: lambda self: self._memoize(len(self._memo)),
    pickle.BINGET: lambda self: self._push(self._memo[self._cursor.unpack("B")]),
    pickle.LONG_BINGET: lambda self: self._push(self._memo[self._cursor.unpack("I")]),
    pickle.SETITEM: Unpickler._set_item,
    pickle.SETITEMS: lambda self: self._set_items(self._pop_to_mark()),
    pickle.APPEND: lambda self: self._append([self._pop()]),
    pickle.APPENDS: lambda self: self._append(self._pop_to_mark()),
    pickle.GLOBAL: lambda self: self._global(self._line(), self._line()),
    pickle.STACK_GLOBAL: Unpickler._stack_global,
    pickle.BINPERSID: Unpickler._persistent,
    pickle.REDUCE: Unpickler._reduce,
    pickle.BUILD: Unpickler._build,
}
"""What each operation does. Absent ones call code (INST, OBJ, NEWOBJ), reach for registered
extensions, or are of no use to tensors."""
