"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by new content in one step that survives a kill or a power cut.

    The bytes go to a temporary file in the same folder, which is flushed to the disk and then
    renamed; the rename is flushed too. On any failure the old file is as it was and the temporary
    file is gone.

    Parameters
    ----------
    path : path
        The file to write. A symbolic link is followed.
    data : bytes
        The whole new content.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, and the like.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".depthstyle-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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
