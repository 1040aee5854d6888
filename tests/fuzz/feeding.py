"""Feeds numbered inputs to a reader, and the command line of that."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

Campaign = Callable[[str, int, int], tuple[int, list[str]]]
"""Feeds `count` inputs of a kind, from number `start`, and returns what `feed` does."""


def folder_in_memory() -> tempfile.TemporaryDirectory:
    """Return a temporary folder, in memory where the system has a place for that."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def feed(kind: str, numbers: Iterable[int], check: Callable[[int], bool]) -> tuple[int, list[str]]:
    """Check inputs by their numbers.

    Returns
    -------
    int
        How many were accepted.
    list of str
        What went wrong, with the input's number.
    """
    accepted, failures = 0, []
    for number in numbers:
        try:
            accepted += check(number)
        except Exception as error:
            failures.append(f"{kind} {number}: {type(error).__name__}: {error}")
    return accepted, failures


def main(description: str, option: str, kinds: Iterable[str], campaign: Campaign) -> int:
    """Run the campaign for the kinds that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=10_000, help=f"inputs for each {option}")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument(
        f"--{option}", dest="kinds", choices=[*kinds], action="append", help="default: all"
    )
    args = parser.parse_args()
    failed = False
    for kind in args.kinds or kinds:
        started = time.perf_counter()
        accepted, failures = campaign(kind, args.count, args.start)
        seconds = time.perf_counter() - started
        print(
            f"{kind}: {args.count} inputs in {seconds:.0f} s, {accepted} accepted, "
            f"{len(failures)} failures",
            flush=True,
        )
        for failure in failures[:20]:
            print("   ", failure)
        failed = failed or bool(failures)
    return 1 if failed else 0
