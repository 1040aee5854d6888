"""Runs campaigns: functions (count, folder) that return one line about what they did."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Campaign = Callable[[int, Path], str]


def report(cases: Iterable[str | None]) -> str:
    """Go through cases, each None or what is wrong with it; return how many there were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = list(cases)
    wrong = [result for result in results if result is not None]
    assert not wrong, f"{len(wrong)} of {len(results)} cases: " + "\n".join(["", *wrong[:20]])
    return f"{len(results)} cases"


def main(campaigns: Mapping[Campaign, int]) -> None:
    """Run the campaigns that the command line names as ``name=count``, or all of them in full."""
    # A shell that starts something in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    named = {campaign.__name__: campaign for campaign in campaigns}
    asked = dict(word.partition("=")[::2] for word in sys.argv[1:])
    for name in asked:
        if name not in named:
            raise SystemExit(f"{name}: no campaign; there are {', '.join(named)}")
    for name in asked or named:
        campaign = named[name]
        count = int(asked.get(name) or campaigns[campaign])
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder, "work")
            work.mkdir()
            report = campaign(count, work)
        print(f"{name}: {report} ({time.monotonic() - start:.0f} s)", flush=True)
