"""Progress bars."""

from __future__ import annotations

from typing import Any


def progress_bar(**options: Any) -> Any:
    """Return a bar of tqdm without the thread by which it watches idle bars.

    Where memory is short Python waits for ever for a thread that could not start.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0

    return Bar(**options)
