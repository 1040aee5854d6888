"""The formats of files of weights, one per file, and which of them a file is.

Every reader gives the names, shapes and types at once and the arrays on demand. A file is data:
nothing in it is executed, whatever it asks for, and each number in it is checked against the size
of the file before it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from depthstyle.errors import WeightsError
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

__all__ = ["TensorFile", "open"]

_HEAD = 512
_LONGEST_HEADER = 100_000_000
_TAR = slice(257, 262)
_TORCH7 = tuple(kind.to_bytes(4, "little") for kind in (3, 4))

_OTHERS = {
    rb"version https://git-lfs": "a Git LFS pointer in place of the file; run git lfs pull",
    rb"<[!?a-zA-Z]": "a web page or other text with tags; the download went wrong, get the file "
    "again",
    rb"\{": "JSON; if it is the manifest of a deeplearn.js checkpoint, give its folder",
    rb"\x89PNG": "a picture; give a file of weights",
    rb"\xff\xd8\xff": "a picture; give a file of weights",
    rb"\x89HDF": "an HDF5 file; convert it to safetensors",
    rb"\x1f\x8b": "compressed with gzip; unpack it first",
    rb"\x80": "a pickle that PyTorch did not write; nothing of it was executed, convert it to "
    "safetensors",
}
"""Beginnings of files that are often given in place of weights, and what to say."""


def open(path: str | os.PathLike[str]) -> TensorFile:
    """Open a file of weights by what it is, whatever it is called.

    Parameters
    ----------
    path : path
        A file of PyTorch (``.pth``, ``.pt``: zip, legacy or tar), safetensors, Torch7 (``.t7``,
        binary), ncnn (``.bin`` of the transformation network of PyTorch's examples), TensorFlow
        Lite, or the folder of a deeplearn.js checkpoint.

    Returns
    -------
    TensorFile
        A mapping of names to arrays, each read when it is asked for and an array of its own.
        Numbers have the type that the file has; bfloat16 becomes float32. Containers in a file of
        PyTorch or Torch7 are joined with dots, and values that are no tensors left out.

    Raises
    ------
    WeightsError
        The file is missing, cut short, damaged, hostile or of another kind.
    """
    if not isinstance(path, str | os.PathLike):
        raise WeightsError(f"weights: {path!r} is no path; give the path of a file")
    if Path(path).is_dir():
        return deeplearnjs.read(path)
    source = Source(path)
    head = source.read(0, min(source.size, _HEAD))
    reader = _reader(source, head)
    try:
        return reader(source)
    except RecursionError:
        raise source.error("hostile or damaged: nested too deeply") from None


def _reader(source: Source, head: bytes) -> Callable[[Source], TensorFile]:
    if head.startswith(b"PK\x03\x04"):
        return pytorch_zip.read
    if head.startswith(pytorch_legacy.MAGIC):
        return pytorch_legacy.read
    if head[_TAR] == b"ustar":
        return pytorch_tar.read
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        return safetensors.read
    if head.startswith(_TORCH7):
        return torch7.read
    if head[4:8] == tflite.MAGIC:
        return tflite.read
    if head.startswith(ncnn.FIRST_BYTES):
        return ncnn.read
    raise _unknown(source, head)


def _unknown(source: Source, head: bytes) -> Exception:
    if not head:
        return source.error("the file is empty")
    for start, words in _OTHERS.items():
        if re.match(start, head.lstrip(b"\xef\xbb\xbf \r\n\t")):
            wrong, _, fix = words.partition("; ")
            return source.error(wrong, fix)
    return source.error(
        "no file of weights that is known here",
        "give one of PyTorch, safetensors, Torch7, ncnn, TensorFlow Lite or deeplearn.js",
    )
