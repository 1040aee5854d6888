"""deeplearn.js folders: ``manifest.json`` and one file of raw float32 for each variable."""

from __future__ import annotations

import os
from pathlib import Path

from depthstyle.errors import WeightsError
from depthstyle.weights.formats.source import Source
from depthstyle.weights.formats.strict_json import parse, sizes
from depthstyle.weights.formats.tensors import ELEMENTS, Storage, TensorFile, contiguous

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 4 << 20


def read(folder: str | os.PathLike[str]) -> TensorFile:
    """Read the index of a folder.

    Raises
    ------
    WeightsError
        The manifest or a file is missing or damaged, or the manifest points out of the folder.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise WeightsError(
            f"{folder}: a folder without {MANIFEST}; give a file of weights or the folder of a "
            "deeplearn.js checkpoint"
        )
    source = Source(folder / MANIFEST)
    if source.size > _LARGEST_MANIFEST:
        raise source.error(f"hostile: {source.size} bytes of index")
    tensors, files, held = {}, set(), 0
    for name, entry in parse(source.read(0, source.size), source).items():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            raise source.error(f"damaged: {name[:80]!r} has no filename")
        filename = entry["filename"]
        if filename in ("", ".", "..") or any(letter in filename for letter in "/\\\0:"):
            raise source.error(f"hostile: {name[:80]!r} is at {filename[:80]!r}, out of the folder")
        if filename in files:
            raise source.error(f"damaged: two variables are in {filename[:80]!r}")
        files.add(filename)
        member = Source(folder / filename)
        held += member.size
        count, rest = divmod(member.size, 4)
        shape = sizes(entry.get("shape"), member, name)
        if rest:
            raise member.error(f"cut short: {member.size} bytes are no whole number of float32")
        tensors[name] = contiguous(Storage(member, 0, count, ELEMENTS["float32"]), shape)
    found = TensorFile(source, "deeplearn.js", tensors, held)
    found.path = folder
    return found
