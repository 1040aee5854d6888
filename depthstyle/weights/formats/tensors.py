"""Tensors in files: views of stored elements that are checked at once and read on demand."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from depthstyle.weights.formats.source import Source

_MOST_DIMENSIONS = 32
_MOST_NUMBERS = 2**48
"""NumPy multiplies the sizes even of an empty array."""

_MOST_NAMES = 50_000
_MOST_LEVELS = 64
_LONGEST_NAME = 1024
_SPARE = 16 << 20
"""Bytes that the tensors of a small file may have beyond twice its size."""


@dataclass(frozen=True, eq=False)
class Quantisation:
    """What integers stand for: the float32 numbers scale * (n - zero).

    Attributes
    ----------
    scales : float32 (k,)
        One scale, or one for each index of an axis.
    zeros : int64 (k,)
    axis : int
    """

    scales: NDArray[np.float32]
    zeros: NDArray[np.int64]
    axis: int = 0

    def decode(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return the numbers that an array of integers stands for; infinite where they overflow."""
        shape = [1] * array.ndim
        if len(self.scales) > 1:
            shape[self.axis] = len(self.scales)
        scales, zeros = (v.astype(np.float32).reshape(shape) for v in (self.scales, self.zeros))
        with np.errstate(over="ignore", invalid="ignore"):
            return (array.astype(np.float32) - zeros) * scales


@dataclass(frozen=True)
class Element:
    """A type of stored numbers.

    Attributes
    ----------
    name : str
        The name that is shown, ``"float32"``.
    stored : numpy dtype
        How the bytes are read.
    quantisation : Quantisation, optional
        What the numbers stand for where that is not themselves.
    """

    name: str
    stored: np.dtype[Any]
    quantisation: Quantisation | None = None

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return self.stored.itemsize

    @property
    def is_real(self) -> bool:
        """Whether `decode` gives floating-point numbers."""
        return self.quantisation is not None or "float" in self.name

    def decode(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return stored numbers as what NumPy has; bfloat16, which it lacks, becomes float32."""
        if self.quantisation is not None:
            return self.quantisation.decode(array)
        if self.name == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        if self.name == "bool":
            return array != 0
        return array.astype(self.stored.newbyteorder("="), copy=False)


_STORED = {
    **{f"float{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"complex{bits}": f"<c{bits // 8}" for bits in (64, 128)},
    "bfloat16": "<u2",
    "bool": "u1",
}

ELEMENTS = {name: Element(name, np.dtype(stored)) for name, stored in _STORED.items()}
"""The types of numbers by name."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a file.

    Attributes
    ----------
    source : Source
    offset : int
        The first byte.
    count : int
        How many numbers.
    element : Element
    checksum : int, optional
        The CRC-32 of all its bytes.
    """

    source: Source
    offset: int
    count: int
    element: Element
    checksum: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.count * self.element.size <= self.source.size - self.offset:
            raise self.source.error(
                f"cut short or damaged: {self.count} numbers of type {self.element.name} are more "
                f"than {self.source.size} bytes hold"
            )

    def read(self, first: int, count: int) -> NDArray[Any]:
        """Return some of the numbers as they are stored."""
        size = self.element.size
        if self.checksum is None:
            data = self.source.read(self.offset + first * size, count * size)
            return np.frombuffer(data, self.element.stored)
        data = self.source.read(self.offset, self.count * size)
        if zlib.crc32(data) != self.checksum:
            raise self.source.error(f"damaged: wrong checksum of the tensor at {self.offset}")
        return np.frombuffer(data, self.element.stored)[first : first + count]


@dataclass(frozen=True)
class Tensor:
    """A view of a storage.

    Attributes
    ----------
    storage : Storage
    shape : tuple of int
    strides : tuple of int
        In numbers, not bytes.
    offset : int
        The first number.
    """

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        fail = self.storage.source.error
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(n) is not int or n < 0 for n in numbers):
            raise fail(f"damaged: a tensor's shape, strides and offset are {numbers}")
        if math.prod(size for size in self.shape if size) > _MOST_NUMBERS:
            raise fail(f"damaged: a tensor of shape {self.shape}")
        if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_DIMENSIONS:
            raise fail(f"damaged: {len(self.shape)} sizes with {len(self.strides)} strides")
        if self.size and self.offset + self._reach >= self.storage.count:
            raise fail(
                f"damaged: a tensor of shape {self.shape} with strides {self.strides} from "
                f"{self.offset} leaves its storage of {self.storage.count} numbers"
            )

    @property
    def size(self) -> int:
        """How many numbers the view has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes the view has as an array."""
        return self.size * self.storage.element.size

    @property
    def _reach(self) -> int:
        return sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    def read(self) -> NDArray[Any]:
        """Return the view as an array of its own."""
        element = self.storage.element
        stored = np.zeros(self.shape, element.stored)
        if self.size > 0:
            flat = self.storage.read(self.offset, self._reach + 1)
            strides = tuple(stride * element.size for stride in self.strides)
            stored[...] = as_strided(flat, self.shape, strides)
        return np.asarray(element.decode(stored))  # arithmetic makes scalars of no dimensions


def contiguous(storage: Storage, shape: Sequence[int]) -> Tensor:
    """Return the tensor that fills its storage in C order."""
    shape = tuple(shape)
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if math.prod(shape) != storage.count:
        raise storage.source.error(f"damaged: shape {shape} for {storage.count} numbers")
    return Tensor(storage, shape, strides)


class TensorFile(Mapping[str, NDArray[Any]]):
    """The arrays of a file by name; each is read when it is asked for.

    Parameters
    ----------
    source : Source
        The file, or the index file of a folder.
    format : str
        The format's name for people.
    tensors : mapping of str to Tensor
    size : int, optional
        Bytes of what holds the tensors, if that is more than the file.
    numbers : mapping of str to float, optional
        Numbers that stand beside the tensors.

    Attributes
    ----------
    path : Path
        The file or folder.
    format : str
    tensors : dict of str to Tensor
        Shapes and types, without reading.
    numbers : dict of str to float
    """

    def __init__(
        self,
        source: Source,
        format: str,
        tensors: Mapping[str, Tensor],
        size: int | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> None:
        self.path, self.format = source.path, format
        self.tensors, self.numbers = dict(tensors), dict(numbers or {})
        if not self.tensors:
            raise source.error(f"{format} without tensors", "give a file that holds weights")
        claimed, held = self.bytes, source.size if size is None else size
        if claimed > 2 * held + _SPARE:
            raise source.error(
                f"damaged: its tensors claim {claimed} bytes, the file has {held}",
                "get the file from whom you trust",
            )

    @cached_property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.tensors[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __repr__(self) -> str:
        return f"<{self.format} {self.path}: {len(self)} tensors, {self.bytes} bytes>"


def flatten(root: Any, source: Source, *, once: bool = False) -> dict[str, Tensor]:
    """Return all tensors in nested containers, named by their keys joined with dots.

    Parameters
    ----------
    root : dict, list, tuple or Tensor
        What a file holds; values of other kinds are left out.
    source : Source
        Names the file in errors.
    once : bool, optional
        Visit each container only the first time it is met. Otherwise one that holds itself is an
        error.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    WeightsError
        The containers hold themselves, are nested deeper than any real file's, or name two
        tensors alike.
    """
    found: dict[str, Tensor] = {}
    visits = 0
    met: set[int] = set()

    def visit(value: Any, name: str, level: int) -> None:
        nonlocal visits
        visits += 1
        if visits > _MOST_NAMES or level > _MOST_LEVELS or len(name) > _LONGEST_NAME:
            raise source.error(
                f"hostile or damaged: nested too deeply, too often, or in a circle at {name[:80]!r}"
            )
        if isinstance(value, Tensor):
            if name in found:
                raise source.error(f"damaged: two tensors are named {name!r}")
            found[name or "tensor"] = value
            return
        if isinstance(value, dict):
            items: Any = value.items()
        elif isinstance(value, list | tuple):
            items = enumerate(value)
        else:
            return
        if id(value) in met:
            if once:
                return
            raise source.error(f"hostile or damaged: {name[:80]!r} holds itself")
        met.add(id(value))
        for key, inner in items:
            visit(inner, f"{name}.{key}" if name else str(key), level + 1)
        if not once:
            met.discard(id(value))

    visit(root, "", 0)
    return found


__all__ = ["ELEMENTS", "Element", "Storage", "Tensor", "TensorFile", "contiguous", "flatten"]
