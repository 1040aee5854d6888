"""Times two or more programs against each other, one call at a time, in turns.

Each contender is a worker process that loads what it needs, warms up, and then does one unit of
work per line on its standard input. Only one worker runs at any moment, and the turns alternate, so
that a machine whose speed drifts slows all of them alike. The ratio is the median over the rounds
of peer / ours; the peer is the contender with the smallest median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Without these glibc gives every large block back to the system, and PyTorch pays for the page
# faults again in each iteration: up to twice its time.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


def machine() -> str:
    """Return the processor's name, its vector features and the cores this process may use."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next(
        (line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line),
        platform.processor() or platform.machine(),
    )
    lines = [line for line in info.splitlines() if line.startswith(("cpu family", "model\t"))]
    family = " ".join(line.split(":")[1].strip() for line in lines[:2])
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    known = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
    features = " ".join(flag for flag in known if flag in flags)
    return f"{name} (family/model {family}; {features}), {len(os.sched_getaffinity(0))} cores"


def cpu_level(environment: Mapping[str, str] | None = None) -> str:
    """Return the level of our CPU kernels in an environment, and whether AMX is there."""
    code = "from depthstyle import _core; print(_core.cpu_levels()[-1])"
    variables = {**os.environ, **(environment or {})}
    level = subprocess.check_output([sys.executable, "-c", code], env=variables, text=True)
    return f"level {level.strip()}, {'AMX' if 'amx_bf16' in machine() else 'no AMX'}"


def setting(args: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """Return what a row of a table says of a run: precision, threads and processor level."""
    return f"{args.precision}, {args.threads} threads, {cpu_level(environment)}"


def resident_peak() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


TURN_SECONDS = 0.5


def serve(work: Callable[[], object], before: int) -> None:
    """Do `work` for about half a second, at least once, per line of standard input.

    Prints the seconds of one run, the mean of the turn, and the peak above `before`. Without
    repetition a network of 30 ms would be timed with the caches and sleeping threads that the
    contenders before it leave behind.
    """
    work()
    start = time.perf_counter()
    work()
    runs = max(1, round(TURN_SECONDS / (time.perf_counter() - start)))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(runs):
            work()
        print((time.perf_counter() - start) / runs, resident_peak() - before, flush=True)


@dataclass
class Contender:
    """A worker process: a script of this folder, its arguments and its environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    def start(self) -> None:
        """Start the worker and wait until it is warm."""
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            cwd=HERE,
            env={**os.environ, **MALLOC, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        if self.process.stdout.readline().strip() != "ready":
            self.stop()
            raise RuntimeError(f"{self.name}: the worker did not start; see its messages above")

    def turn(self) -> None:
        """Let it work once."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, peak = self.process.stdout.readline().split()
        self.seconds.append(float(seconds))
        self.peak = int(peak)

    def stop(self) -> None:
        """End the worker."""
        self.process.stdin.close()
        self.process.wait(timeout=30)

    @property
    def median(self) -> float:
        """Median seconds of a turn."""
        return statistics.median(self.seconds)


TRIAL = 3
"""Rounds after which peers far behind the fastest one may leave."""
FAR = 1.3


def compare(
    name: str,
    ours: Contender,
    peers: Sequence[Contender],
    rounds: int,
    *,
    leave: bool = False,
) -> dict:
    """Run all contenders in turns and return the row of the table.

    With `leave`, peers whose median is more than `FAR` times that of the fastest after `TRIAL`
    rounds stop there, which saves the time of many peers.
    """
    running = [ours, *peers]
    try:
        for contender in running:
            print(f"{name}: {contender.name} starts", file=sys.stderr)
            contender.start()
        for i in range(rounds):
            # Each other round in reverse: who follows whom has an effect of its own.
            for contender in running[:: -1 if i % 2 else 1]:
                contender.turn()
            if leave and i + 1 == TRIAL:
                limit = FAR * min(peer.median for peer in peers)
                running = [c for c in running if c is ours or c.median <= limit]
    finally:
        for contender in (ours, *peers):
            if hasattr(contender, "process"):
                contender.stop()
    best = min((peer for peer in peers if peer in running), key=lambda peer: peer.median)
    ratios = {peer.name: _ratios(peer, ours) for peer in peers}
    low, high = min(ratios[best.name]), max(ratios[best.name])
    return {
        "name": name,
        "ours": round(ours.median * 1e3, 2),
        "peer": round(best.median * 1e3, 2),
        "unit": "ms",
        "ratio": round(statistics.median(ratios[best.name]), 3),
        "ratio_range": [round(low, 3), round(high, 3)],
        "rounds": rounds,
        "peer_settings": best.name,
        "others": {peer.name: round(peer.median * 1e3, 2) for peer in peers if peer is not best},
        "ratios": {name: round(statistics.median(found), 3) for name, found in ratios.items()},
        "seconds": {c.name: [round(turn, 5) for turn in c.seconds] for c in (ours, *peers)},
        "memory_mib": {c.name: round(c.peak / 2**20, 1) for c in (ours, *peers)},
        "machine": machine(),
    }


def _ratios(peer: Contender, ours: Contender) -> list[float]:
    """Return peer / ours of each round that both took part in."""
    return [theirs / own for theirs, own in zip(peer.seconds, ours.seconds, strict=False)]


def report(rows: Sequence[dict], command: str, as_json: bool, save: Path | None) -> None:
    """Print the rows, one JSON object per line with `--json`, and write the table to `save`."""
    header = "| what | ours ms | peer ms | ratio (range) | peer | ratio to others | memory MiB |"
    lines = [header, "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        low, high = row["ratio_range"]
        memory = ", ".join(f"{name} {value}" for name, value in row["memory_mib"].items())
        others = ", ".join(f"{name} {row['ratios'][name]}" for name in row["others"])
        lines.append(
            f"| {row['name']} | {row['ours']} | {row['peer']} | **{row['ratio']}** ({low}-{high}) "
            f"| {row['peer_settings']} | {others} | {memory} |"
        )
    print("\n".join(lines))
    if save:
        save.write_text(
            f"Machine: {rows[-1]['machine']}. Medians of {rows[-1]['rounds']} interleaved rounds; "
            f"the ratio is the median of peer / ours over the rounds.\n\n    {command}\n\n"
            + "\n".join(lines)
            + "\n\nAs JSON:\n\n"
            + "\n".join(f"    {json.dumps(row)}" for row in rows)
            + "\n"
        )
    if as_json:
        for row in rows:
            print(json.dumps(row))
