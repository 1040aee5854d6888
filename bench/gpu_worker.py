"""The protocol between bench_gpu.py and its workers, one process for each engine and setting.

A request is a line of JSON on the worker's standard input, the answer one on its standard output:

- prepare: make a part ready, do its check and save the values of it; answers how long the first
  result took and how long a run takes.
- turn: do some runs and wait for the device; answers the seconds of all.
- drop: forget the part.
- whatever else the worker knows.

What fails is answered with `failed` and the reason; the worker goes on.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

import numpy as np
from gpu_problem import Part, find


class Work(Protocol):
    """A part, ready in one engine."""

    @property
    def bytes(self) -> int:
        """Device memory that it takes."""

    def check(self) -> np.ndarray:
        """Return the losses of the first iterations, or the output of the network."""

    def run(self, count: int) -> None:
        """Do some iterations or runs and wait for the device."""


def serve(make: Callable[[Part], Work], more: Mapping[str, Callable[[dict], dict]]) -> None:
    """Answer requests until the input ends; `more` are the kinds that one worker knows."""
    answers = _take_output()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    work: Work | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                work = None
                work, answer = _prepare(make, request)
            elif request["do"] == "turn":
                answer = _turn(work, request["count"])
            elif request["do"] == "drop":
                work, answer = None, {}
            else:
                answer = more[request["do"]](request)
        except Exception as error:  # whatever a peer raises becomes a row of the table
            traceback.print_exc()
            work = None if request["do"] == "prepare" else work
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _take_output() -> TextIO:
    """Keep standard output for answers: libraries that print there print to standard error now."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _prepare(make: Callable[[Part], Work], request: dict[str, Any]) -> tuple[Work, dict]:
    part = find(request["part"], request["tiny"])
    begin = time.perf_counter()
    work = make(part)
    work.run(1)
    first = time.perf_counter() - begin
    np.save(request["save"], work.check())
    work.run(1)
    begin = time.perf_counter()
    work.run(2)
    return work, {"first": first, "run": (time.perf_counter() - begin) / 2, "bytes": work.bytes}


def _turn(work: Work | None, count: int) -> dict:
    if work is None:
        raise RuntimeError("no part is prepared")
    work.run(max(1, count // 10))  # another process had the device
    begin = time.perf_counter()
    work.run(count)
    return {"seconds": time.perf_counter() - begin}
