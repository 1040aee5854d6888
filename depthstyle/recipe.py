"""Recipes: what made a picture, so that it can be made again from the same files.

A recipe names its input files by their SHA-256, so it holds wherever they lie, and keeps no paths
unless asked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from depthstyle.weights import EMBEDDED, cache

Entry = Mapping[str, Any]
"""An input file as a recipe names it: ``name``, ``sha256``, and perhaps ``bytes`` and ``path``."""

_MANIFEST = "manifest.json"


def describe(path: Path, keep_path: bool = False) -> dict[str, Any]:
    """Return the entry of a file, or of a folder that holds a network."""
    entry: dict[str, Any] = {"name": path.name, "sha256": digest(path)}
    if path.is_file():
        entry["bytes"] = path.stat().st_size
    return {**entry, "path": str(path.resolve())} if keep_path else entry


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if not path.is_dir():
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)
    files = sorted(file for file in path.iterdir() if file.is_file())
    listing = "".join(f"{file.name}\0{digest(file)}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


@functools.lru_cache(maxsize=1 << 14)
def _digest(path: Path, _size: int, _modified: int) -> str:
    # Weights and styles are the same files for every picture of a folder.
    return cache.sha256(path)


class Finder:
    """Finds the files that recipes name, by their SHA-256.

    Parameters
    ----------
    places : iterable of path
        Files, and folders to look through with all below them; looked through in this order. The
        package's own weights and the cache of downloaded ones are added.

    Raises
    ------
    ValueError
        A place does not exist.
    """

    def __init__(self, places: Iterable[str | os.PathLike[str]]) -> None:
        self._candidates: list[Path] = []
        for place in map(Path, places):
            if not place.exists():
                raise ValueError(f"{place}: no such file or folder; give where the inputs are")
            self._candidates += [place] if place.is_file() else _below(place)
        self._candidates += _below(EMBEDDED.parent)
        if cache.folder().is_dir():
            self._candidates += _below(cache.folder())

    def find(self, entry: Entry) -> Path | None:
        """Return where the file of an entry is: at its path, else where its name is, else."""
        recorded = [Path(entry["path"])] if "path" in entry else []
        named = [path for path in self._candidates if path.name == entry["name"]]
        for path in (*recorded, *named, *self._candidates):
            with contextlib.suppress(OSError):
                if _fits(path, entry):
                    return path
        return None


def _fits(path: Path, entry: Entry) -> bool:
    # The size first: a folder may hold far more than one wants to read.
    if "bytes" in entry and path.is_file() and path.stat().st_size != entry["bytes"]:
        return False
    return digest(path) == entry["sha256"]


def missing(entries: Iterable[tuple[str, Entry]]) -> str:
    """Say which inputs are missing, given what each was for."""
    return "; ".join(
        f"{role} {entry['name']} with SHA-256 {entry['sha256']}" for role, entry in entries
    )


def _below(folder: Path) -> list[Path]:
    return list(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for name, _, files in os.walk(folder):
        if _MANIFEST in files:
            yield Path(name)
        for file in sorted(files):
            path = Path(name, file)
            if path.is_file():
                yield path
