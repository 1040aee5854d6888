"""Whole iterations and whole pictures of the methods, side by side with PyTorch.

`python bench/bench_methods.py gatys --size 512 --json` prints a table and, as its last line, one
JSON object. Needs PyTorch (`pip install torch==2.13.0`, a CPU build) beside depthstyle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from side_by_side import Contender, compare, report

RESULTS = Path(__file__).resolve().parent / "results"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "DEPTHSTYLE_CPU": "avx2"}


def ours(size: int, threads: int, problem: str, environment: dict[str, str]) -> Contender:
    """Return our contender."""
    command = ["worker_gatys_ours.py", str(size), str(threads), problem]
    suffix = {"style": " style masks", "content": " content masks", "depth": " depth loss"}.get(
        problem, ""
    )
    return Contender(f"depthstyle{suffix}", command, environment)


def against_pytorch(args: argparse.Namespace, name: str, problem: str) -> list[dict]:
    """Compare one problem with PyTorch in both layouts, and compiled if asked for."""
    environment = AVX2 if args.cpu == "avx2" else {}
    settings = [("channels_last", "eager"), ("contiguous", "eager")]
    settings += [("contiguous", "compiled")] if args.compiled else []
    peers = [
        Contender(
            f"PyTorch fp32 {mode} {layout}",
            ["worker_gatys_torch.py", str(args.size), str(args.threads), problem, layout, mode],
            environment,
        )
        for layout, mode in settings
    ]
    level = " limited to AVX2" if args.cpu == "avx2" else ""
    title = f"{name} {args.size}x{args.size}, {args.threads} threads{level}"
    own = ours(args.size, args.threads, problem, environment)
    return [compare(title, own, peers, args.rounds)]


def gatys(args: argparse.Namespace) -> list[dict]:
    """One iteration: VGG19 to relu5_1, content relu4_2, five Gram layers, gradient to the image."""
    return against_pytorch(args, "Gatys iteration", "no")


def network(args: argparse.Namespace) -> list[dict]:
    """The convolutions of that iteration: forward and backward to the image, without losses."""
    return against_pytorch(args, "VGG19 to relu5_1, forward and backward", "network")


def masks(args: argparse.Namespace) -> list[dict]:
    """The same iteration with masks against the one without."""
    rows = []
    for kind in ("style", "content"):
        masked = ours(args.size, args.threads, kind, {})
        plain = ours(args.size, args.threads, "no", {})
        name = f"plain / {kind}-masked iteration {args.size}x{args.size}"
        rows.append(compare(name, masked, [plain], args.rounds))
    return rows


def depth_loss(args: argparse.Namespace) -> list[dict]:
    """The same iteration with a depth loss (MiDaS small) against the one without."""
    with_loss = ours(args.size, args.threads, "depth", {})
    plain = ours(args.size, args.threads, "no", {})
    name = f"plain iteration / with depth loss {args.size}x{args.size} (0.5: twice the time)"
    return [compare(name, with_loss, [plain], args.rounds)]


def scaling(args: argparse.Namespace) -> list[dict]:
    """Twice the size against the size; the ratio small / large is 0.25 at equal time per pixel."""
    large = ours(2 * args.size, args.threads, "no", {})
    small = ours(args.size, args.threads, "no", {})
    name = f"iteration at {args.size} / at {2 * args.size} (0.25: the same time per pixel)"
    return [compare(name, large, [small], args.rounds)]


def main() -> None:
    """Parse, run, report."""
    what = {
        "gatys": gatys,
        "network": network,
        "masks": masks,
        "depth-loss": depth_loss,
        "scaling": scaling,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=what)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu", choices=("best", "avx2"), default="best")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile (minutes)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.md")
    args = parser.parse_args()
    options = f" --cpu {args.cpu}" if args.cpu != "best" else ""
    options += f" --rounds {args.rounds}" + (" --compiled" if args.compiled else "")
    command = f"python bench/bench_methods.py {args.what} --size {args.size}{options} --json"
    save = RESULTS / f"{args.save}.md" if args.save else None
    report(what[args.what](args), command, args.json, save)


if __name__ == "__main__":
    main()
