"""A lock on a file that two processes must not write at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from depthstyle.errors import Busy


class Lock:
    """Keeps a second run, in this process or another, from writing the same file.

    The system frees it when the process ends in whatever way, so that none is left over.

    Parameters
    ----------
    path : path
        The file; the lock is ``NAME.lock`` beside it while it is held.
    wait : bool, optional
        Wait until another run frees it.

    Raises
    ------
    Busy
        Another run holds it and `wait` is false.
    """

    def __init__(self, path: str | os.PathLike[str], *, wait: bool = False) -> None:
        self._path = Path(f"{os.fspath(path)}.lock")
        self._mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self._handle: int | None = None

    def __enter__(self) -> Lock:
        while self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._handle = self._locked(handle)
            finally:
                if self._handle is None:
                    os.close(handle)
        with contextlib.suppress(OSError):  # on a full disk the lock holds, without a name
            os.truncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())
        return self

    def _locked(self, handle: int) -> int | None:
        """Return the handle, or None where the file was removed before it was locked."""
        try:
            fcntl.flock(handle, self._mode)
        except BlockingIOError:
            owner = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            raise Busy(
                f"{self._path}: another run, process {owner}, writes this file; wait for it or "
                "give another name"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(handle)):
                return handle
        return None

    def __exit__(self, *_: object) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(handle)
