"""Downloads that go on where they were cut, and say in words what went wrong."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from depthstyle.errors import WeightsError
from depthstyle.weights.registry import Published

_ATTEMPTS = 4
_TIMEOUT = (10.0, 30.0)
"""Seconds without a connection, and without a byte, after which an attempt is given up."""
_REDIRECTS = 5
_CHUNK = 1 << 14
"""Bytes that an attempt that is cut may lose."""
_LARGEST_RATIO = 2
_LARGEST_UNKNOWN = 1 << 30
_GONE = (404, 410)
_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_POINTER = b"version https://git-lfs"


class _CutError(Exception):
    """An attempt ended early; what came is kept."""


class Resuming:
    """A downloader for `pooch` that keeps what has come in a ``.part`` file and goes on from there.

    Parameters
    ----------
    file : Published
        What is to come.
    part : Path
        Where the bytes are collected.
    progress : bool
        Show a progress bar.
    """

    def __init__(self, file: Published, part: Path, progress: bool) -> None:
        self._file, self._part, self._progress = file, part, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download a file, check it, and put it where pooch wants it.

        Raises
        ------
        WeightsError
            The link is dead, something else is at its end, or the connection keeps breaking.
        """
        logging.getLogger("urllib3").addHandler(logging.NullHandler())
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                self._attempt(url)
                break
            except _CutError as cut:
                reason = str(cut)
        else:
            have = self._have()
            fix = (
                "run the command again, it goes on from there"
                if have
                else "check it, or get the file elsewhere and run depthstyle weights import FILE"
            )
            raise WeightsError(
                f"{url}: the connection failed {_ATTEMPTS} times ({reason}) after {have} bytes; "
                f"{fix}"
            )
        self._check()
        os.replace(self._part, output_file)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _attempt(self, url: str) -> None:
        import requests

        have = self._have()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with requests.Session() as session:
                session.max_redirects = _REDIRECTS
                with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                    self._receive(url, response, have)
        except requests.TooManyRedirects:
            raise WeightsError(
                f"{url}: the link leads in a circle; get the file elsewhere"
            ) from None
        except requests.RequestException as error:
            raise _CutError(type(error).__name__) from error

    def _receive(self, url: str, response: Any, have: int) -> None:
        status = response.status_code
        if status in _GONE:
            raise WeightsError(
                f"{url}: the link is dead (HTTP {status}); get the file elsewhere and run "
                "depthstyle weights import FILE"
            )
        if status == 416:
            # what is there is not a beginning of what the server has
            self._part.unlink(missing_ok=True)
            raise _CutError("the server has a shorter file")
        if status >= 500:
            raise _CutError(f"HTTP {status}")
        if status not in (200, 206):
            raise WeightsError(f"{url}: the server refuses (HTTP {status}); try again later")
        resumed = status == 206 and _first_byte(response) == have
        if status == 206 and not resumed:
            self._part.unlink(missing_ok=True)
            raise _CutError("the server sent another part")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        self._write(url, response.iter_content(_CHUNK), have, total)
        if total is not None and self._have() < total:
            raise _CutError(f"{self._have()} of {total} bytes came")

    def _write(self, url: str, chunks: Iterator[bytes], have: int, total: int | None) -> None:
        from tqdm import tqdm

        size = self._file.size
        most = _LARGEST_UNKNOWN if size is None else _LARGEST_RATIO * size
        with (
            open(self._part, "ab" if have else "wb") as part,
            tqdm(
                desc=self._file.name,
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                delay=2,
                leave=False,
                disable=not self._progress,
            ) as bar,
        ):
            for chunk in chunks:
                if have == 0:
                    _check_start(url, chunk)
                have += len(chunk)
                if have > most:
                    raise WeightsError(
                        f"{url}: sends more than {most} bytes, so not the published file; get it "
                        "elsewhere"
                    )
                part.write(chunk)
                bar.update(len(chunk))

    def _check(self) -> None:
        for name, published in (("SHA-256", self._file.sha256), ("MD5", self._file.md5)):
            with open(self._part, "rb") as part:
                digest = hashlib.file_digest(part, name.replace("-", "")).hexdigest()
            if not digest.startswith(published):
                self._part.unlink()
                raise WeightsError(
                    f"{self._file.url}: what came has {name} {digest}, published is {published}; "
                    "it was damaged on the way or replaced, try again or get it elsewhere"
                )


def _first_byte(response: Any) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _check_start(url: str, chunk: bytes) -> None:
    if _PAGE.match(chunk):
        raise WeightsError(
            f"{url}: a web page came in place of the file; open the link in a browser, then run "
            "depthstyle weights import FILE"
        )
    if chunk.startswith(_POINTER):
        raise WeightsError(
            f"{url}: a Git LFS pointer came in place of the file; get the file elsewhere and run "
            "depthstyle weights import FILE"
        )
