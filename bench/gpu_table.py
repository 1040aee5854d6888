"""The tables of bench_gpu.py, from its JSON.

    python bench/gpu_table.py bench/results/gpu_NAME.json

writes the file of the same name that ends in .md; tests check that the two belong together.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EAGER = "B0 eager"
RIVALS = ("B2 compile", "B3 max-autotune", "B4 captured")
"""The fastest of them is what a ratio is claimed against."""
PRODUCT = "bf16 matrix product 8192^3 TFLOP/s"
COPY = "copy TB/s, read and written"
"""The ceilings that convolutions are compared with."""
EXPLANATION = """\
Milliseconds of one iteration or run, the median over interleaved rounds of many runs each, timed
by the wall clock between two moments at which the device is idle. A ratio is the median over the
rounds of theirs / ours. Inputs are random pictures, weights are seeded and the same for all.

- B0: PyTorch as it comes, fp32 with TF32 convolutions, NCHW.
- B1: eager in bf16, channels_last, `cudnn.benchmark`.
- B2: B1 with `torch.compile`.
- B3: B1 with `torch.compile(mode="max-autotune")`, which uses CUDA graphs.
- B4: B1 captured by hand as one CUDA graph; of L-BFGS the loss and its gradient.

Error: relative L2 distance from PyTorch in fp32 without TF32, of a network's output or of the
losses of the first five iterations. Memory: ours is the plan's, PyTorch's the most that was
allocated, or kept where it has graphs; nobody's context counts. Start: from the start of the
process to the end of its imports, and from there to the first result with nothing prepared on
disk, while the other contenders do the same on other processors."""


def median(contender: dict[str, Any]) -> float | None:
    """Return the median milliseconds of a run, or None where it has no number."""
    if not contender.get("seconds"):
        return None
    return statistics.median(contender["seconds"]) * 1e3


def best_rival(part: dict[str, Any]) -> str | None:
    """Return the fastest of compiled and captured PyTorch."""
    measured = [name for name in RIVALS if median(part["contenders"].get(name, {})) is not None]
    return min(measured, key=lambda name: median(part["contenders"][name]), default=None)


def ratio(part: dict[str, Any], peer: str | None) -> float | None:
    """Return the median over the rounds of theirs / ours."""
    ours = part["contenders"].get(part["ours"], {}).get("seconds")
    theirs = part["contenders"].get(peer, {}).get("seconds") if peer else None
    if not ours or not theirs:
        return None
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def against(value: float | None, target: float | None, form: str, most: bool) -> str:
    """Return a value with its target."""
    if value is None:
        return "not measured"
    text = form.format(value)
    if target is None:
        return text
    met = value <= target if most else value >= target
    sign = "at most" if most else "at least"
    return f"{'**' if met else ''}{text}{'**' if met else ''} ({sign} {form.format(target)})"


def summary(parts: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of ours against the targets; a target that is met is bold."""
    rows = []
    for part in parts:
        rival, targets = best_rival(part), part["targets"]
        rows.append(
            [
                part["title"],
                part["ours"].split()[-1],
                against(median(part["contenders"][part["ours"]]), targets[0], "{:.3f}", True),
                f"{median(part['contenders'][rival]):.3f}, {rival}" if rival else "not measured",
                against(ratio(part, rival), targets[1], "{:.2f}", False),
                against(ratio(part, EAGER), targets[2], "{:.2f}", False),
            ]
        )
    header = ["what", "precision", "ours ms", "best of B2 to B4 ms", "ratio to it", "ratio to B0"]
    return table(header, rows)


def details(part: dict[str, Any]) -> list[str]:
    """Return the table of all contenders of a part."""
    rows = []
    for name, contender in part["contenders"].items():
        if "failed" in contender:
            rows.append([name, f"failed: {contender['failed']}", *[""] * 5])
            continue
        milliseconds = [1e3 * value for value in contender["seconds"]]
        rows.append(
            [
                name,
                f"{statistics.median(milliseconds):.3f}",
                f"{min(milliseconds):.3f} to {max(milliseconds):.3f}",
                f"{contender['error']:.1e}" if contender["error"] is not None else "",
                f"{contender['bytes'] / 2**20:.0f}" if contender["bytes"] else "",
                f"{contender['start']:.1f}" if contender["start"] else "",
                f"{contender['first']:.1f}",
            ]
        )
    header = ["contender", "ms", "range", "error", "memory MiB", "start s", "first result s"]
    rounds = max(len(contender.get("seconds", ())) for contender in part["contenders"].values())
    return [
        f"### {part['title']}",
        "",
        f"{part['date']}, {rounds} rounds. {part['state']}".rstrip(),
        "",
        *table(header, rows),
    ]


def layers(rows: Sequence[dict[str, Any]], ceilings: dict[str, float]) -> list[str]:
    """Return the table of VGG19's convolutions with the share of the roof that they reach."""
    lines = []
    for row in rows:
        cells = [row["layer"], str(row["side"])]
        for name in ("forward", "backward"):
            cells.append(f"{1e6 * row[name]:.1f}")
            if not ceilings:
                cells += ["", ""]
                continue
            product = row["flop"] / (ceilings[PRODUCT] * 1e12)
            copy = row[f"{name} bytes"] / (ceilings[COPY] * 1e12)
            shares = product / row[name], max(product, copy) / row[name]
            cells += [f"{100 * share:.0f}" for share in shares]
        lines.append(cells)
    header = ["layer", "side"]
    for name in ("forward", "backward"):
        header += [f"{name} us", "% of the product", "% of the roof"]
    return table(header, lines)


def text(data: dict[str, Any]) -> str:
    """Return everything that is in the JSON as Markdown."""
    lines = [f"# {data['machine']['GPU']}", "", f"    {data['command']}", ""]
    lines += [f"- {name}: {value}" for name, value in data["machine"].items()]
    lines += [f"- {name}: {value:.4g}" for name, value in data["ceilings"].items()]
    lines += ["", EXPLANATION, ""]
    if data["parts"]:
        lines += ["## Against the targets", "", *summary(data["parts"]), "", "## All contenders"]
    for part in data["parts"]:
        lines += ["", *details(part)]
    if data["layers"]:
        lines += ["", "## Convolutions of VGG19 with their ends, bf16", ""]
        lines += layers(data["layers"], data["ceilings"])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables of each JSON file."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.with_suffix(".md").write_text(text(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
