"""safetensors files, whose index the package of that name checks."""

from __future__ import annotations

from typing import Any

from depthstyle.weights.formats.source import Source
from depthstyle.weights.formats.strict_json import parse, sizes
from depthstyle.weights.formats.tensors import ELEMENTS, Storage, TensorFile, contiguous

_LENGTH = 8
_ELEMENTS = {
    "BOOL": "bool",
    **{
        f"{letter}{bits}": f"{name}{bits}"
        for letter, name in (("I", "int"), ("U", "uint"))
        for bits in (8, 16, 32, 64)
    },
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


def read(source: Source) -> TensorFile:
    """Read the index of a safetensors file.

    The package refuses what leaves holes, overlaps, overflows or does not end with the file; the
    numbers are read without mapping the file, which it would do.

    Raises
    ------
    WeightsError
        The index is damaged, or a type of numbers is one that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source.path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise source.error(f"damaged safetensors file ({error})") from error
    length = int.from_bytes(source.read(0, _LENGTH), "little")
    header = parse(source.read(_LENGTH, length), source)
    header.pop("__metadata__", None)
    start = _LENGTH + length
    tensors = {name: _tensor(source, name, entry, start) for name, entry in header.items()}
    return TensorFile(source, "safetensors", tensors)


def _tensor(source: Source, name: str, entry: dict[str, Any], start: int) -> Any:
    kind = _ELEMENTS.get(entry["dtype"])
    if kind is None:
        raise source.error(
            f"{name[:80]}: numbers of type {entry['dtype']}, which are not read",
            "convert them to float32",
        )
    begin, end = entry["data_offsets"]
    count = (end - begin) // ELEMENTS[kind].size
    storage = Storage(source, start + begin, count, ELEMENTS[kind])
    return contiguous(storage, sizes(entry["shape"], source, name))
