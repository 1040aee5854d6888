"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by new content; see `replacing`.

    Parameters
    ----------
    path : path
        The file to write.
    data : bytes
        The whole new content.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, and the like.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str],
    *,
    temporary: Path | None = None,
    keep: Path | None = None,
) -> Iterator[BinaryIO]:
    """Replace a file by new content in one step that survives a kill or a power cut.

    The bytes go to a temporary file in the same folder, which is flushed to the disk and then
    renamed; the rename is flushed too. On any failure the old file is as it was and the temporary
    file is gone.

    Parameters
    ----------
    path : path
        The file to write. A symbolic link is followed.
    temporary : path, optional
        The temporary file, for a caller who knows that no one else writes it; what a kill left
        there is overwritten. By default it has a name of its own.
    keep : path, optional
        Where to move the old file. Between that and the second rename only this one exists.

    Yields
    ------
    binary file
        To write the new content to.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, and the like.
    """
    target = Path(os.path.realpath(path))
    mode = "xb" if temporary is None else "wb"
    if temporary is None:
        temporary = target.with_name(f".depthstyle-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and target.exists():
            os.replace(target, keep)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    # Windows cannot open a folder; there the rename itself is what the file system promises.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
