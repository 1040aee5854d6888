"""A contender of bench_gpu.py: a worker process that is asked for turns, with a limit on each."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    """Why a contender has no number."""


class Contender:
    """A worker, started when it is first asked and anew after it was stopped.

    Parameters
    ----------
    name : str
        In tables.
    command : sequence of str
        A script of this folder and its arguments.
    log : path
        Where the worker's messages go.
    environment : mapping of str to str
        Added to this process's.

    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._start_seconds: float | None = None
        self._command, self._log, self._environment = list(command), log, environment
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, do: str, limit: float, **request: Any) -> dict[str, Any]:
        """Return the answer to a request.

        That to the first `prepare` of a process has the seconds from its start to the end of its
        imports as `start`.

        Raises
        ------
        Failed
            The worker says why it cannot, has ended, or was stopped after `limit` seconds.
        """
        end = time.monotonic() + limit
        if self._process is None:
            self._start(end)
        assert self._process and self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None
        answer = self._answer(end)
        if "failed" in answer:
            raise Failed(answer["failed"].splitlines()[0])
        if do == "prepare":
            answer["start"], self._start_seconds = self._start_seconds, None
        return answer

    def messages(self, count: int) -> str:
        """Return the last lines that the worker wrote besides its answers."""
        return "\n".join(self._log.read_text(errors="replace").strip().splitlines()[-count:])

    def stop(self) -> None:
        """End the worker and what it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _start(self, end: float) -> None:
        begin = time.monotonic()
        self._answers = queue.Queue()
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=HERE,
                env={**os.environ, **self._environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), daemon=True
        ).start()
        self._answer(end)
        self._start_seconds = time.monotonic() - begin

    def _answer(self, end: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            self.stop()
            raise Failed("stopped at its time limit") from None
        if not line:
            raise self._lost()
        return json.loads(line)

    def _lost(self) -> Failed:
        """Return what is known of a worker that has ended."""
        self.stop()
        last = self.messages(1)
        return Failed(f"the worker ended: {last or 'without a message'}")


def _forward(lines: Any, answers: queue.Queue[str]) -> None:
    """Hand on lines, and an empty one at the end."""
    for line in lines:
        answers.put(line)
    answers.put("")
