"""Everything that is timed on a GPU, beside PyTorch, in one command of under ten minutes.

    python bench/bench_gpu.py

writes `bench/results/gpu_NAME.md` and the raw numbers in `gpu_NAME.json`, after each part anew, so
that a run that is cut short leaves what it has; `--resume` goes on with the parts that are not
there yet, and with `--only` the other parts of an earlier run stay. Needs a build with
DEPTHSTYLE_CUDA=1 and PyTorch with CUDA (`pip install torch`) beside depthstyle; a contender that
fails becomes a line that says why.

Each contender is a process of its own that keeps its libraries; only one works at any moment, and
the turns alternate, so that a GPU whose clock drifts slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpu_table
import numpy as np
from gpu_contender import HERE, Contender, Failed
from gpu_problem import PARTS, Part
from side_by_side import machine

OURS = {precision: f"depthstyle {precision}" for precision in ("bf16", "tf32", "fp32")}
PEERS = {
    "eager": gpu_table.EAGER,
    "bf16": "B1 eager bf16",
    **dict(zip(("compiled", "autotuned", "captured"), gpu_table.RIVALS, strict=True)),
}
FURTHEST = {"fp32": 1e-3, "tf32": 3e-2, "bf16": 0.25}
"""Error from which on a contender has computed something else; the table shows the error itself."""
TURN_SECONDS, LEAST_RUNS, MOST_RUNS = 0.15, 10, 400
PREPARE_SECONDS = 120.0
RESERVE_SECONDS, LEAST_SECONDS = 20.0, 60.0
"""Kept for the rounds while contenders are prepared, and what it takes to begin with a part."""
LAST_LINES = 15
"""Of the messages of a worker that failed."""
STATE = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")


def nvidia_smi(*fields: str) -> list[str]:
    """Return what the driver says of the first GPU, or nothing."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [value.strip() for value in done.stdout.strip().split(",")]


class Bench:
    """A run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.end = args, time.monotonic() + args.budget
        self.folder = Path(tempfile.mkdtemp(prefix="depthstyle-gpu-"))
        self.ours = {name: self._contender(name, ours=True) for name in OURS}
        self.peers = {name: self._contender(name) for name in self._peers()}
        self.reference = self._contender("reference")
        described = nvidia_smi("name", "driver_version", "memory.total")
        gpu, driver, memory = described if len(described) == 3 else ("no GPU", "none", "none")
        name = args.name or re.sub(r"\W+", "_", gpu.removeprefix("NVIDIA ")).lower()
        self.path = args.folder / f"gpu_{name}.json"
        self.data: dict[str, Any] = {"ceilings": {}, "parts": [], "layers": []}
        if self.path.exists():
            self.data |= json.loads(self.path.read_text())
        self.data["command"] = shlex.join(["python", "bench/bench_gpu.py", *sys.argv[1:]])
        self.data["machine"] = {
            **{"GPU": gpu, "driver": driver, "memory": memory, "processor": machine()},
            **self.data.get("machine", {}),
        }

    def _peers(self) -> Sequence[str]:
        if self.args.emulated or self.args.quick:
            return ("eager", "captured")
        return tuple(PEERS)

    def _contender(self, name: str, ours: bool = False) -> Contender:
        emulated = self.args.emulated
        if ours:
            command = ["worker_gpu_ours.py", name, *([emulated] if emulated else [])]
        else:
            command = ["worker_gpu_torch.py", name, "cpu" if emulated else "cuda"]
        log = self.folder / f"{name}.log"
        log.touch()
        # Nothing that an earlier run has prepared on disk: the first result is a cold one.
        caches = {
            "DEPTHSTYLE_CACHE": str(self.folder / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
            "TRITON_CACHE_DIR": str(self.folder / "triton"),
        }
        return Contender((OURS if ours else PEERS).get(name, name), command, log, caches)

    @property
    def left(self) -> float:
        """Seconds until the run must end."""
        return self.end - time.monotonic()

    def write(self) -> None:
        """Write what there is so far."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.data, indent=1) + "\n")
        self.path.with_suffix(".md").write_text(gpu_table.text(self.data))

    def describe(self) -> None:
        """Ask for versions and ceilings."""
        for contender in (self.ours["bf16"], self.reference):
            try:
                answer = contender.ask("describe", PREPARE_SECONDS)
            except Failed as failure:
                print(f"{contender.name}: {failure}", file=sys.stderr)
                continue
            self.data["ceilings"] |= answer.pop("ceilings", {})
            self.data["machine"] |= answer
        self.write()

    def measure(self, part: Part) -> None:
        """Time a part, if there is time, and put it into the place of an earlier one."""
        enough = self.left > LEAST_SECONDS
        doing = "" if enough else "left out, "
        print(f"{part.title}: {doing}{self.left:.0f} s left", file=sys.stderr)
        if not enough:
            return
        contenders = {name: self.ours[name] for name in part.precisions} | self.peers
        records = self._prepare(part, contenders)
        wanted = {name: c for name, c in contenders.items() if "failed" not in records[c.name]}
        state = self._rounds(wanted, records)
        for contender in (*wanted.values(), self.reference):
            self._drop(contender)
        row = {
            **{"name": part.name, "title": part.title, "date": time.strftime("%Y-%m-%d %H:%M")},
            "targets": [part.milliseconds, part.over_compiled, part.over_eager],
            "ours": OURS[part.precisions[0]],
            "state": state,
            "contenders": records,
        }
        order = [other.name for other in PARTS]
        rows = {other["name"]: other for other in self.data["parts"]} | {part.name: row}
        self.data["parts"] = sorted(rows.values(), key=lambda other: order.index(other["name"]))
        self.write()

    def _prepare(self, part: Part, contenders: dict[str, Contender]) -> dict[str, dict[str, Any]]:
        """Return a record for each contender.

        All prepare at the same time, which is nearly all compilers' work on processors: one after
        the other they would take most of the time that there is.
        """
        wanted = self._reference(part)
        with ThreadPoolExecutor(len(contenders)) as pool:
            made = pool.map(lambda item: self._ready(part, *item, wanted), contenders.items())
            return {c.name: record for c, record in zip(contenders.values(), made, strict=True)}

    def _reference(self, part: Part) -> np.ndarray | None:
        """Return the values that all must have, or None without PyTorch."""
        try:
            self._ask_ready(part, self.reference)
        except Failed as failure:
            print(f"reference: {failure}", file=sys.stderr)
            return None
        return np.load(self._values(self.reference))

    def _values(self, contender: Contender) -> Path:
        return self.folder / f"{contender.name.replace(' ', '_')}.npy"

    def _ask_ready(self, part: Part, contender: Contender) -> dict[str, Any]:
        limit = min(PREPARE_SECONDS, self.left - RESERVE_SECONDS)
        save = str(self._values(contender))
        return contender.ask("prepare", limit, part=part.name, tiny=self.args.tiny, save=save)

    def _ready(
        self, part: Part, name: str, contender: Contender, wanted: np.ndarray | None
    ) -> dict[str, Any]:
        """Prepare a contender and compare its values."""
        try:
            answer = self._ask_ready(part, contender)
        except Failed as failure:
            print(f"{part.name}, {contender.name}: {failure}", file=sys.stderr)
            print(contender.messages(LAST_LINES), file=sys.stderr)
            return {"failed": str(failure)}
        error = None
        if wanted is not None:
            found = np.load(self._values(contender)).reshape(wanted.shape)
            error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
            furthest = FURTHEST.get(name, FURTHEST["tf32" if name == "eager" else "bf16"])
            if not error <= furthest:
                return {"failed": f"computes something else: {error:.1e} off"}
        return {"seconds": [], "error": error, **answer}

    def _rounds(self, wanted: dict[str, Contender], records: dict[str, dict[str, Any]]) -> str:
        """Let all take turns; return the state of the GPU right after the last round."""
        running = list(wanted.values())
        for i in range(self.args.rounds + 1):  # the first tells how many runs make a turn
            # Each other round in reverse: who follows whom has an effect of its own.
            for contender in running[:: -1 if i % 2 else 1]:
                record = records[contender.name]
                count = round(TURN_SECONDS / record["run"])
                count = 1 if self.args.tiny else min(max(count, LEAST_RUNS), MOST_RUNS)
                try:
                    answer = contender.ask("turn", max(10.0, self.left), count=count)
                except Failed as failure:
                    records[contender.name] = {"failed": str(failure)}
                    running = [other for other in running if other is not contender]
                else:
                    record["run"] = answer["seconds"] / count
                    record["seconds"] += [record["run"]] if i else []
            if self.left <= 0:
                break
        state = zip(STATE, nvidia_smi(*STATE), strict=False)
        return ", ".join(f"{name} {value}" for name, value in state)

    def _drop(self, contender: Contender) -> None:
        try:
            contender.ask("drop", PREPARE_SECONDS)
        except Failed as failure:
            print(f"{contender.name}: {failure}", file=sys.stderr)

    def layers(self) -> None:
        """Time the convolutions of VGG19 with their ends, one by one."""
        limit = self.left - RESERVE_SECONDS
        try:
            answer = self.ours["bf16"].ask("layers", limit, tiny=self.args.tiny)
            self.data["layers"] = answer["layers"]
        except Failed as failure:
            print(f"layers: {failure}", file=sys.stderr)
        self.write()

    def close(self) -> None:
        """End all workers and forget their files."""
        for contender in (*self.ours.values(), *self.peers.values(), self.reference):
            contender.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def names() -> list[str]:
    """Return the names of all parts."""
    return [part.name for part in PARTS]


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=names(), help="a part; may be given several times"
    )
    parser.add_argument("--resume", action="store_true", help="the parts that are not there yet")
    parser.add_argument("--quick", action="store_true", help="3 rounds beside B0 and B4")
    parser.add_argument("--layers", action="store_true", help="also each convolution of VGG19")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--budget", type=float, default=570, help="seconds for everything")
    parser.add_argument("--name", help="of the results; by default that of the GPU")
    parser.add_argument("--folder", type=Path, default=HERE / "results", help="for the results")
    parser.add_argument("--emulated", metavar="LIBRARY", help="for tests: beside PyTorch on CPUs")
    parser.add_argument("--tiny", action="store_true", help="for tests: pictures of 16x16")
    args = parser.parse_args()
    if args.quick:
        args.rounds = 3
    return args


def main() -> None:
    """Measure part after part."""
    args = parse()
    bench = Bench(args)
    steps: list[Callable[[], None]] = [bench.describe]
    there = {row["name"] for row in bench.data["parts"]} if args.resume else set()
    for part in PARTS:
        if part.name in (args.only or names()) and part.name not in there:
            steps.append(lambda part=part: bench.measure(part))
    if args.layers and not (args.resume and bench.data["layers"]):
        steps.append(bench.layers)
    try:
        for step in steps:
            step()
    finally:
        bench.close()
    print(gpu_table.text(bench.data))
    print(f"written to {bench.path} and {bench.path.with_suffix('.md').name}", file=sys.stderr)


if __name__ == "__main__":
    main()
