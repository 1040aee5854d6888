"""What all of PyTorch's formats share: the names in their pickles and how tensors are described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from depthstyle.weights.formats.source import Source
from depthstyle.weights.formats.tensors import (
    ELEMENTS,
    Element,
    Storage,
    Tensor,
    TensorFile,
    flatten,
)
from depthstyle.weights.formats.unpickler import Builder

_FIX = "nothing of it was executed; save the model's state_dict() alone, or as safetensors"

_LARGEST_NUMBER = 2**53
"""Larger integers are no settings of a network, and have no exact float."""

_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class StorageType:
    """A storage class, or its tensor class, that a pickle names."""

    element: Element


def globals_of(source: Source) -> Callable[[str, str], Any]:
    """Return the function that answers the names in the pickles of a file.

    Parameters
    ----------
    source : Source
        Names the file in errors.

    Returns
    -------
    callable
        For `Unpickler`. It knows tensors, parameters, ordered dictionaries, storage classes and
        types of numbers, and refuses every other name.
    """
    builders = {
        "collections.OrderedDict": lambda *items: _ordered_dict(source, *items),
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": lambda *args: _tensor_of_bytes(source, *args),
        "torch._utils._rebuild_parameter": _parameter,
        "torch.nn.parameter.Parameter": _parameter,
        "torch.Size": lambda *sizes: tuple(*sizes),
    }

    def find(module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in builders:
            return Builder(builders[full])
        storage = name.removesuffix("Tensor") + "Storage" if name.endswith("Tensor") else name
        if storage in _STORAGES and module in ("torch", "torch.cuda", "torch.storage"):
            return StorageType(ELEMENTS[_STORAGES[storage]])
        if module == "torch" and name in ELEMENTS:
            return ELEMENTS[name]
        raise source.error(f"its pickle names {full[:120]!r}, which is no part of weights", _FIX)

    return find


def refuse_code(source: Source) -> Any:
    """Raise the error about a file that holds a whole model with its code."""
    raise source.error("it holds a model's Python code, not its weights", _FIX)


def tensor_file(root: Any, source: Source, format: str) -> TensorFile:
    """Return what a saved object holds, by name without the prefix of `DataParallel`.

    Parameters
    ----------
    root : object
        What the pickle holds.
    source : Source
        The file.
    format : str
        The format's name for people.
    """
    tensors = flatten(root, source)
    prefix = "module."
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    entries = root.items() if isinstance(root, dict) else ()
    numbers = {
        str(key): float(value)
        for key, value in entries
        if isinstance(value, int | float) and abs(value) <= _LARGEST_NUMBER
    }
    return TensorFile(source, format, tensors, numbers=numbers)


def storage_id(source: Source, value: Any, parts: int) -> tuple[Element, str, int]:
    """Check the reference to a storage and return its type, key and number of elements.

    Parameters
    ----------
    source : Source
        Names the file in errors.
    value : object
        The reference: ("storage", class, key, location, count, ...).
    parts : int
        How many parts it must have.
    """
    if isinstance(value, tuple) and value[:1] == ("module",):
        refuse_code(source)
    valid = isinstance(value, tuple) and len(value) == parts and value[0] == "storage"
    if valid:
        _, kind, key, _, count = value[:5]
        if isinstance(kind, StorageType) and isinstance(key, str) and type(count) is int:
            return kind.element, key, count
    raise source.error(f"damaged: a tensor refers to {str(value)[:80]}, which is no storage")


def _ordered_dict(source: Source, items: Any = ()) -> dict[Any, Any]:
    pairs = isinstance(items, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int)
        for pair in items
    )
    if not pairs:
        raise source.error("damaged: an ordered dictionary of no pairs")
    return dict(items)


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    return Tensor(storage, tuple(shape), tuple(strides), offset)


def _tensor_of_bytes(
    source: Source,
    storage: Storage,
    offset: int,
    shape: Any,
    strides: Any,
    gradient: Any,
    hooks: Any,
    element: Element,
    *_: Any,
) -> Tensor:
    """Build a tensor whose storage is counted in bytes and whose type stands beside it."""
    if not isinstance(element, Element) or not isinstance(storage, Storage):
        raise TypeError("a tensor without a type or a storage")
    count, rest = divmod(storage.count * storage.element.size, element.size)
    if rest:
        raise source.error(f"damaged: {element.name} does not fill {storage.count} bytes")
    numbers = Storage(storage.source, storage.offset, count, element, storage.checksum)
    return _tensor(numbers, offset, shape, strides)


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter without a tensor")
    return tensor
