"""Bytes of a file, read with every count checked against what is there."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from depthstyle.errors import WeightsError


class Source:
    """A regular file that must stay as it is while its arrays are read one by one.

    It is opened anew for every read and never mapped into memory: a file that shrinks under a map
    would end the process.

    Parameters
    ----------
    path : path
        The file.

    Attributes
    ----------
    path : Path
    size : int
        Number of bytes.

    Raises
    ------
    WeightsError
        The file is missing, no regular file, or may not be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise WeightsError(f"{path}: no such file; check the path") from None
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path}: cannot be read ({error}); check the path") from None
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path}: no regular file; give the file of the weights")
        self._identity = _identity(status)
        self.size = status.st_size

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for a while.

        Raises
        ------
        WeightsError
            The file cannot be opened or has changed.
        """
        try:
            with open(self.path, "rb") as file:
                if _identity(os.fstat(file.fileno())) != self._identity:
                    raise self.error("it has changed since it was opened", "open it again")
                yield file
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror or error})", "check it") from error

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes from anywhere in the file."""
        with self.open() as file:
            return Cursor(self, file, offset).take(count)

    def error(self, wrong: str, fix: str = "get the file again") -> WeightsError:
        """Return the error that names this file, what is wrong with it, and the fix."""
        return WeightsError(f"{self.path}: {wrong}; {fix}")


class Cursor:
    """A position in an open file that moves forward and never past the end of its region.

    Parameters
    ----------
    source : Source
        Names the file in errors.
    file : binary file
        The open file.
    start, end : int, optional
        The region; the whole file by default.

    Attributes
    ----------
    offset : int
        The next byte, counted from the start of the file.
    """

    def __init__(
        self, source: Source, file: BinaryIO, start: int = 0, end: int | None = None
    ) -> None:
        self.source, self._file = source, file
        self.offset, self.end = start, source.size if end is None else end
        if not 0 <= self.offset <= self.end <= source.size:
            raise source.error(f"its index points to byte {start}, of {source.size}")
        file.seek(start)

    @classmethod
    def of_bytes(cls, source: Source, data: bytes) -> Cursor:
        """Return a cursor over bytes that were read from the file before."""
        cursor = cls(source, io.BytesIO(data), 0, 0)
        cursor.end = len(data)
        return cursor

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        self._advance(count)
        data = self._file.read(count)
        if len(data) != count:
            raise self.source.error("it became shorter while being read")
        return data

    def skip(self, count: int) -> int:
        """Pass over `count` bytes and return the offset of the first of them."""
        start = self.offset
        self._advance(count)
        self._file.seek(self.offset)
        return start

    def unpack(self, layout: str) -> Any:
        """Return the next number, given by its layout for `struct` (little-endian)."""
        (value,) = struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))
        return value

    def _advance(self, count: int) -> None:
        if not 0 <= count <= self.end - self.offset:
            raise self.source.error(
                f"cut short or damaged: {count} bytes are announced at byte {self.offset}, "
                f"{self.end - self.offset} are left"
            )
        self.offset += count


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
