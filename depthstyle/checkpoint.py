"""Checkpoints: files from which a long optimisation goes on, bit for bit.

A checkpoint is a safetensors file. Its metadata holds the values that are no arrays as JSON, the
SHA-256 of every array and, at its very start, the SHA-256 of the header itself, so that a single
changed bit is found and the array that it is in is named. The file before the newest stays beside
it as ``NAME.previous``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import CheckpointError, DepthstyleWarning, DeviceLost
from depthstyle.files import replacing
from depthstyle.lock import Lock
from depthstyle.presets import check_number

PathLike = str | os.PathLike[str]

FORMAT = "depthstyle checkpoint 1"
_SECONDS = 30.0
"""Time between two checkpoints where none is asked for."""

_SHARE = 0.01
"""The part of the time that saving may then take; slower disks get fewer checkpoints."""

_SPEED = 5e8
"""Bytes a second that the first save is expected to write; the next ones go by the last."""

_LENGTH = 8
_START = b'{"__metadata__":{"sha256":"'
_NO_DIGEST = b"0" * 64
_LONGEST_HEADER = 16 << 20
_TYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes
    ----------
    values : mapping of str to JSON value
    tensors : mapping of str to float32 or float64 array
    """

    values: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.tensors.values())


class Resumable(Protocol):
    """What can be written to checkpoints and go on from them.

    Attributes
    ----------
    iteration, iterations : int
        How many are done, and how many are wanted.
    """

    iteration: int
    iterations: int

    def state(self) -> Contents:
        """Return all that the next iteration depends on; the arrays may be views."""

    def restore(self, contents: Contents, path: Path) -> None:
        """Go on from there; CheckpointError where it is of other pictures or settings."""


def previous(path: PathLike) -> Path:
    """Return where the checkpoint before the newest is."""
    return Path(f"{os.fspath(path)}.previous")


def _unfinished(path: PathLike) -> Path:
    return Path(f"{os.fspath(path)}.new")


def write(path: PathLike, contents: Contents) -> None:
    """Replace a checkpoint by a new one, in a way that survives a kill or a power cut.

    Parameters
    ----------
    path : path
        The checkpoint. What was there becomes the previous one.
    contents : Contents
        What to write.

    Raises
    ------
    CheckpointError
        The disk is full, the folder read-only, and the like; what was there stays.
    """
    arrays = {name: _stored(array) for name, array in contents.tensors.items()}
    header = _header(contents.values, arrays)
    try:
        with replacing(path, temporary=_unfinished(path), keep=previous(path)) as file:
            file.write(len(header).to_bytes(_LENGTH, "little") + header)
            for array in arrays.values():
                file.write(_bytes(array))
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({error.strerror or error}); the one "
            "before is as it was"
        ) from error


def read(path: PathLike) -> Contents:
    """Read a checkpoint, or the previous one with a warning where the newest is damaged.

    Parameters
    ----------
    path : path
        The checkpoint.

    Returns
    -------
    Contents

    Raises
    ------
    CheckpointError
        Neither can be used; the message names the file, the part of it, and what is wrong.
    """
    path = Path(path)
    try:
        return read_one(path)
    except CheckpointError as error:
        older = previous(path)
        if not older.exists():
            raise
        contents = read_one(older)
        warnings.warn(f"{error}; going on from {older}", DepthstyleWarning, stacklevel=3)
        return contents


def exists(path: PathLike) -> bool:
    """Tell whether there is a checkpoint, be it the previous one."""
    return Path(path).exists() or previous(path).exists()


def remove(path: PathLike) -> None:
    """Remove a checkpoint, the previous one, and what a kill left of a third."""
    for file in (Path(path), previous(path), _unfinished(path)):
        file.unlink(missing_ok=True)


def read_one(path: Path) -> Contents:
    """Read one file of a checkpoint; CheckpointError where any bit of it is wrong."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, start = _read_header(path, file, size)
            return _read_contents(path, file, header, size - start)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    stored = np.ascontiguousarray(array)
    return stored.astype(stored.dtype.newbyteorder("<"), copy=False)


def _bytes(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _header(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    digests = {name: hashlib.sha256(_bytes(array)).hexdigest() for name, array in arrays.items()}
    metadata = {
        "sha256": _NO_DIGEST.decode(),
        "format": FORMAT,
        "values": json.dumps(values, allow_nan=False),
        "digests": json.dumps(digests),
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        shape, dtype = list(array.shape), _NAMES[array.dtype.newbyteorder("<")]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH)
    digest = hashlib.sha256(header).hexdigest().encode()
    return header.replace(_NO_DIGEST, digest, 1)


def _read_header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, whose every bit was checked, and where the arrays start."""
    length = int.from_bytes(file.read(_LENGTH), "little")
    if not len(_START) + len(_NO_DIGEST) <= length <= min(size - _LENGTH, _LONGEST_HEADER):
        raise CheckpointError(
            f"{path}: header: {length} bytes announced in a file of {size}; it is damaged, or no "
            "checkpoint of depthstyle"
        )
    header = file.read(length)
    place = slice(len(_START), len(_START) + len(_NO_DIGEST))
    if not header.startswith(_START):
        raise CheckpointError(f"{path}: header: damaged, or no checkpoint of depthstyle")
    found = hashlib.sha256(header[: place.start] + _NO_DIGEST + header[place.stop :]).hexdigest()
    if found.encode() != header[place]:
        raise CheckpointError(
            f"{path}: header: SHA-256 {found[:8]}..., expected "
            f"{header[place][:8].decode(errors='replace')}...; it is damaged"
        )
    try:
        entries = json.loads(header)
        metadata = entries.pop("__metadata__")
        version = metadata["format"]
        if version != FORMAT:
            raise CheckpointError(
                f"{path}: format: {str(version)[:40]!r}, expected {FORMAT!r}; it is of another "
                "version of depthstyle"
            )
        values, digests = json.loads(metadata["values"]), json.loads(metadata["digests"])
        return {"values": values, "digests": digests, "tensors": entries}, _LENGTH + length
    except CheckpointError:
        raise
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: header: damaged ({error})") from error


def _read_contents(path: Path, file: BinaryIO, header: dict[str, Any], size: int) -> Contents:
    """Read all arrays, which must follow one another and end with the file."""
    tensors, at = {}, 0
    try:
        for name, entry in header["tensors"].items():
            begin, end = entry["data_offsets"]
            shape, dtype = tuple(entry["shape"]), _TYPES[entry["dtype"]]
            if any(type(number) is not int or number < 0 for number in (begin, end, *shape)):
                raise CheckpointError(f"{path}: tensor {name}: a size is no whole number")
            wanted = math.prod(shape) * dtype.itemsize
            if begin != at or end - begin != wanted or end > size:
                raise CheckpointError(
                    f"{path}: tensor {name}: bytes {begin} to {end} of {size}, expected {wanted} "
                    f"from {at} on; the file was cut short or is damaged"
                )
            tensors[name], at = _read_tensor(path, file, name, shape, dtype, header["digests"]), end
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: header: damaged ({error!r})") from error
    if at != size:
        raise CheckpointError(f"{path}: {size} bytes of arrays, expected {at}; it is damaged")
    return Contents(header["values"], tensors)


def _read_tensor(
    path: Path,
    file: BinaryIO,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    digests: Mapping[str, str],
) -> NDArray[Any]:
    array = np.empty(shape, dtype)
    got = file.readinto(_bytes(array))  # type: ignore[attr-defined]
    if got != array.nbytes:
        raise CheckpointError(f"{path}: tensor {name}: {got} bytes, expected {array.nbytes}")
    found, expected = hashlib.sha256(_bytes(array)).hexdigest(), digests[name]
    if found != expected:
        raise CheckpointError(
            f"{path}: tensor {name}: SHA-256 {found[:8]}..., expected {expected[:8]}...; it is "
            "damaged"
        )
    return array.astype(dtype.newbyteorder("="), copy=False)


class Checkpoints:
    """Saves a long run by time and takes it up again.

    Parameters
    ----------
    path : path
        The checkpoint.
    resume : bool, optional
        Go on from the checkpoint where there is one.
    seconds : float, optional
        Time between two checkpoints, 0 for one after every iteration; by default 30, or more where
        saving would take more than 1 % of the time.

    Raises
    ------
    ValueError
        `seconds` is no finite number of at least 0.
    """

    def __init__(
        self, path: PathLike, *, resume: bool = False, seconds: float | None = None
    ) -> None:
        if seconds is not None:
            check_number("seconds", seconds)
        self.path = Path(path)
        self._resume = resume
        self._seconds = _SECONDS if seconds is None else seconds
        self._share = _SHARE if seconds is None else None
        self._speed = _SPEED
        self._last = 0.0
        self._saved = 0

    @contextlib.contextmanager
    def of(self, run: Resumable) -> Iterator[None]:
        """Go on from the checkpoint if asked to, and keep its lock during a run.

        Where the run ends before its last iteration, by Ctrl-C or an error, its state is saved.

        Raises
        ------
        Busy
            Another run writes this checkpoint.
        CheckpointError
            The checkpoint to go on from is damaged, or of other pictures or settings.
        """
        with Lock(self.path):
            if self._resume and exists(self.path):
                run.restore(read(self.path), self.path)
            self._saved, self._last = run.iteration, time.monotonic()
            try:
                yield
            except DeviceLost:  # and with it the state
                raise
            except BaseException:
                self._save_unfinished(run)
                raise
            self._save_unfinished(run)

    def after_step(self, run: Resumable) -> None:
        """Save where it is time to; where that fails the run goes on, with a warning."""
        passed = time.monotonic() - self._last
        if passed < self._seconds:
            return
        state = run.state()
        if self._share is None or state.nbytes / self._speed <= self._share * passed:
            self._save(run, state)

    def remove(self) -> None:
        """Remove the files: the result is in safety."""
        remove(self.path)

    def _save_unfinished(self, run: Resumable) -> None:
        if run.iteration < run.iterations:
            self._save(run, run.state())

    def _save(self, run: Resumable, state: Contents) -> None:
        if run.iteration == self._saved:
            return
        start = time.monotonic()
        try:
            write(self.path, state)
        except CheckpointError as error:
            warnings.warn(f"{error}; the run goes on", DepthstyleWarning, stacklevel=3)
        else:
            self._saved = run.iteration
            self._speed = state.nbytes / max(time.monotonic() - start, 1e-6)
        self._last = time.monotonic()
