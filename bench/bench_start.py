"""What a new user meets first: time to import, to help, to the demo's pictures, size of the wheel.

`python bench/bench_start.py --json` prints a table and one JSON object for each figure. The way to
the first picture of a fast network, beside the peers, is `bench_networks.py start`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import HERE, machine

ROOT = HERE.parent
RESULTS = HERE / "results"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def seconds(*arguments: str) -> float:
    """Return the time of an interpreter with some arguments."""
    begin = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - begin


def median(rounds: int, *arguments: str) -> tuple[float, list[float]]:
    """Return the median and the range of several such times; the first one is not counted."""
    seconds(*arguments)
    times = [seconds(*arguments) for _ in range(rounds)]
    return statistics.median(times), [min(times), max(times)]


def wheel_size() -> int:
    """Build the wheel and return its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.stat().st_size


def row(name: str, value: float, unit: str, limits: list[float], rounds: int) -> dict:
    """Return a figure of the table."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "range": [round(limit, 3) for limit in limits],
        "rounds": rounds,
        "machine": machine(),
    }


def measure(rounds: int) -> list[dict]:
    """Return all figures."""
    bare, bare_range = median(rounds, "-c", "")
    imported, imported_range = median(rounds, "-c", "import depthstyle")
    helped, helped_range = median(rounds, "-m", "depthstyle", "--help")
    with tempfile.TemporaryDirectory() as folder:
        demo = seconds("-m", "depthstyle", "demo", "-o", folder)
    size = wheel_size() / 2**20
    return [
        row("python alone", bare, "s", bare_range, rounds),
        row("python -c 'import depthstyle'", imported, "s", imported_range, rounds),
        row("depthstyle --help", helped, "s", helped_range, rounds),
        row("depthstyle demo", demo, "s", [demo, demo], 1),
        row("wheel", size, "MiB", [size, size], 1),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.md")
    args = parser.parse_args()
    rows = measure(args.rounds)
    lines = ["| what | median | range |", "| --- | --- | --- |"]
    for figure in rows:
        low, high = figure["range"]
        value = f"{figure['value']} {figure['unit']}"
        lines.append(f"| {figure['name']} | {value} | {low}-{high} |")
    print("\n".join(lines))
    if args.save:
        head = f"Machine: {machine()}.\n\n    python bench/bench_start.py --rounds {args.rounds}"
        facts = "\n".join(f"    {json.dumps(figure)}" for figure in rows)
        text = f"{head} --json\n\n{chr(10).join(lines)}\n\nAs JSON:\n\n{facts}\n"
        (RESULTS / f"{args.save}.md").write_text(text)
    if args.json:
        for figure in rows:
            print(json.dumps(figure))


if __name__ == "__main__":
    main()
