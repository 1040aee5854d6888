"""Archives in which files of weights are published: only the wanted files leave them."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from depthstyle.errors import WeightsError

_Opener = Callable[[], Any]

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)
_LARGEST_RATIO = 4
"""Weights are noise to a packer: a member that grows more than this is no file of weights."""
_SPARE = 16 << 20


def unpack(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Copy members of a zip or tar archive into a new folder.

    Parameters
    ----------
    archive : Path
        The archive.
    members : sequence of str
        The ends of the wanted paths; each file is written under the last part of its path.
    folder : Path
        The folder to make; it appears when it is complete.

    Raises
    ------
    WeightsError
        The archive is damaged, lacks a member, or a member is far larger than the archive.
    """
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        missing = _copy(archive, members, temporary)
        if missing:
            raise WeightsError(f"{archive}: holds no {' and no '.join(missing)}; get it again")
        os.replace(temporary, folder)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
    ) as error:
        raise WeightsError(f"{archive}: damaged archive ({error}); get it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(archive: Path, members: Sequence[str], folder: Path) -> list[str]:
    """Copy what is wanted and return what was not found."""
    most = _LARGEST_RATIO * archive.stat().st_size + _SPARE
    missing = list(members)
    for path, size, source in _files(archive):
        wanted = next((end for end in missing if f"/{path}".endswith(f"/{end}")), None)
        if wanted is None:
            continue
        if size > most:
            raise WeightsError(f"{archive}: hostile or damaged: {path[:80]!r} has {size} bytes")
        with source() as stream, open(folder / Path(wanted).name, "wb") as target:
            shutil.copyfileobj(stream, target)
        missing.remove(wanted)
        if not missing:
            break
    return missing


def _files(archive: Path) -> Iterator[tuple[str, int, _Opener]]:
    """Yield path, size and a function that opens it, for each file in an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                yield info.filename, info.file_size, lambda info=info: packed.open(info)
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile():
                yield member.name, member.size, lambda member=member: packed.extractfile(member)
