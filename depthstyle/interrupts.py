"""Ctrl-C at a moment that leaves everything whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class HeldInterrupt:
    """A context in which Ctrl-C waits for the next `check`, and at the latest for the end.

    Python may raise KeyboardInterrupt between any two of its steps, also between a change and the
    note that it was made. Outside the main thread, where that never happens, this does nothing.
    """

    def __init__(self) -> None:
        self._usual: Any = None
        self._pending = self._released = False

    def __enter__(self) -> HeldInterrupt:
        usual = signal.getsignal(signal.SIGINT)
        if callable(usual) and threading.current_thread() is threading.main_thread():
            self._usual = usual
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._usual is not None:
            signal.signal(signal.SIGINT, self._usual)
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._released:
            self._usual(number, frame)
        else:
            self._pending = True

    def check(self) -> None:
        """Let Ctrl-C have its usual effect now if it was pressed."""
        if self._pending:
            self._pending = False
            self._usual(signal.SIGINT, None)

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Let Ctrl-C through at any moment: for work whose result is not kept before the end."""
        self.check()
        self._released = True
        try:
            yield
        finally:
            self._released = False
