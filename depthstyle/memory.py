"""How much memory the machine has left, and how much this process has."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from depthstyle._core import get_num_threads

_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Limit and use of a container's memory, in the two versions of control groups."""


def free_memory() -> int:
    """Return the bytes that this process can still take without swapping.

    The least of what the machine, the container and the limit of the address space (``ulimit -v``)
    leave. Linux says so; elsewhere it is half of the machine's memory.
    """
    free = _field(_MEMINFO, "MemAvailable")
    if free is None:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _field(_STATUS, "VmSize")
    if limit != resource.RLIM_INFINITY and used is not None:
        free = min(free, limit - used - _stacks())
    for most, taken in _GROUPS:
        try:
            free = min(free, int(most.read_text()) - int(taken.read_text()))
        except (OSError, ValueError):  # no group, or "max"
            continue
    return max(free, 0)


def _stacks() -> int:
    """Return the address space of the stacks of the engine's threads, of two pools at a time."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    if stack == resource.RLIM_INFINITY:
        stack = 8 << 20
    return 2 * (get_num_threads() - 1) * stack


def give_back_memory() -> None:
    """Give freed blocks back to the system, where the C library is one that keeps them (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_memory() -> int:
    """Return the bytes of memory that this process has and uses."""
    give_back_memory()
    resident = _field(_STATUS, "VmRSS")
    if resident is not None:
        return resident
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if os.uname().sysname == "Darwin" else 1024)


def largest_memory() -> int:
    """Return the most bytes that this process has had so far."""
    most = _field(_STATUS, "VmHWM")
    return resident_memory() if most is None else most


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Measure the most bytes that this process has during a block of code.

    Yields
    ------
    list of int
        One number, after the block.
    """
    peak: list[int] = []
    resident_memory()
    with contextlib.suppress(OSError):  # without it the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    yield peak
    peak.append(largest_memory())


def _field(path: Path, name: str) -> int | None:
    """Return a number of kB from a file of lines ``Name: N kB``, in bytes."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
