"""The folder that keeps published files of weights once they were downloaded or imported."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from depthstyle.errors import WeightsError
from depthstyle.lock import Lock
from depthstyle.weights.archive import unpack
from depthstyle.weights.download import Resuming
from depthstyle.weights.formats import open as open_weights
from depthstyle.weights.registry import PUBLISHED, Published, published

FOLDER_VARIABLE = "DEPTHSTYLE_CACHE"
OFFLINE_VARIABLE = "DEPTHSTYLE_OFFLINE"


def folder() -> Path:
    """Return the cache: ``DEPTHSTYLE_CACHE``, or the system's place for such files."""
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    import pooch

    return Path(pooch.os_cache("depthstyle"))


def find(name: str) -> Path | None:
    """Return the file, or folder of files, of a name of the registry if it is in the cache.

    Raises
    ------
    WeightsError
        The name is unknown.
    """
    path = folder() / published(name).filename
    return path if path.exists() else None


def get(
    name: str,
    *,
    accept_non_commercial: bool = False,
    offline: bool | None = None,
    progress: bool = True,
) -> Path:
    """Return a published file, downloaded first if it is not in the cache.

    A download that was cut goes on where it stopped when it is asked for again.

    Parameters
    ----------
    name : str
        A name of ``registry.PUBLISHED``.
    accept_non_commercial : bool, optional
        You have read the licence and will not use the file commercially.
    offline : bool, optional
        Use the cache only; by default if the environment variable ``DEPTHSTYLE_OFFLINE`` is set.
    progress : bool, optional
        Show a progress bar with the remaining time.

    Returns
    -------
    Path
        The file in the cache, for `depthstyle.weights.open` and `depthstyle.networks.load`; of an
        archive the folder with its files, for `depthstyle.networks.load`.

    Raises
    ------
    WeightsError
        The name is unknown, the licence is not accepted, the file cannot be downloaded, or what
        came is not the published file.
    """
    file = published(name)
    _check_licence(file, accept_non_commercial)
    path = find(name)
    if path is not None:
        return path
    if _is_offline() if offline is None else offline:
        raise WeightsError(
            f"{name}: not in the cache {folder()}, and offline; go online, or get {file.url} "
            "elsewhere and run depthstyle weights import FILE"
        )
    return _download(file, progress)


def add(
    path: str | os.PathLike[str], name: str | None = None, *, accept_non_commercial: bool = False
) -> Path:
    """Copy a published file that you already have into the cache.

    Parameters
    ----------
    path : path
        The file.
    name : str, optional
        Its name in the registry; by default it is recognised by its SHA-256.
    accept_non_commercial : bool, optional
        As for `get`.

    Returns
    -------
    Path
        The copy in the cache.

    Raises
    ------
    WeightsError
        The file cannot be read, or is not the published one.
    """
    if Path(path).is_dir():
        raise WeightsError(f"{path}: a folder; only single files are kept, use it where it is")
    file = _archive(path) if name is None else published(name)
    if file is None or not file.members:
        open_weights(path)
    digest = sha256(path)
    file = file or _recognise(path, digest)
    if not digest.startswith(file.sha256) or file.md5 not in ("", _digest(path, "md5")):
        raise WeightsError(
            f"{path}: SHA-256 {digest}, but {file.name} is published with "
            f"{file.sha256 or f'MD5 {file.md5}'}; it is damaged or another file, get it again or "
            "give its path where it is used"
        )
    _check_licence(file, accept_non_commercial)
    target = folder() / file.filename
    _make_folder()
    if file.members:
        shutil.rmtree(target, ignore_errors=True)
        unpack(Path(path), file.members, target)
        return target
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(path, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return _digest(path, "sha256")


def _digest(path: str | os.PathLike[str], algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _archive(path: str | os.PathLike[str]) -> Published | None:
    """Return the published archive that a file is, recognised by its MD5."""
    archives = {file.md5: file for file in PUBLISHED.values() if file.md5}
    return archives.get(_digest(path, "md5")) if os.path.isfile(path) else None


def _recognise(path: str | os.PathLike[str], digest: str) -> Published:
    for file in PUBLISHED.values():
        if file.sha256 and digest.startswith(file.sha256):
            return file
    raise WeightsError(
        f"{path}: no published file has its SHA-256 {digest}; name the file it is with --name, or "
        "give its path where it is used"
    )


def _check_licence(file: Published, accepted: bool) -> None:
    if file.non_commercial and not accepted:
        raise WeightsError(
            f"{file.name}: {file.licence}; if that suits you, confirm it with "
            "--accept-non-commercial (in Python accept_non_commercial=True)"
        )


def _is_offline() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0")


def _make_folder() -> None:
    try:
        folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{folder()}: the cache cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to a "
            "folder that can"
        ) from error


def _download(file: Published, progress: bool) -> Path:
    import pooch

    _make_folder()
    target = folder() / file.download_name
    downloader = Resuming(file, target.with_name(f"{target.name}.part"), progress)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it would advise about checksums, which are checked here
    try:
        with Lock(target, wait=True):
            # of two processes the second finds what the first has brought
            if (folder() / file.filename).exists():
                return folder() / file.filename
            pooch.retrieve(
                file.url, None, fname=file.download_name, path=folder(), downloader=downloader
            )
            if file.members:
                unpack(target, file.members, folder() / file.filename)
                target.unlink()
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error}); make room or rights") from error
    finally:
        logger.setLevel(level)
    return folder() / file.filename
