"""Whole iterations and whole pictures of the methods, side by side with PyTorch.

`python bench/bench_methods.py gatys --size 512 --json` prints a table and, as its last line, one
JSON object; `--precision bf16` or `mixed` takes PyTorch's bf16 for a peer. Needs PyTorch
(`pip install torch==2.13.0`, a CPU build) beside depthstyle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from side_by_side import Contender, compare, report, setting

RESULTS = Path(__file__).resolve().parent / "results"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "DEPTHSTYLE_CPU": "avx2"}


PEERS = {
    "fp32": [("fp32", "channels_last"), ("fp32", "contiguous")],
    "bf16": [("autocast", "channels_last"), ("bf16", "channels_last"), ("fp32", "channels_last")],
}
"""PyTorch's precisions and layouts; fp32 stands beside bf16 for the ratio to it."""
PEERS["mixed"] = PEERS["bf16"]


def ours(
    args: argparse.Namespace, problem: str, size: int | None = None, environment: dict | None = None
) -> Contender:
    """Return our contender."""
    common = [str(size or args.size), str(args.threads), args.precision]
    suffix = {"style": " style masks", "content": " content masks", "depth": " depth loss"}.get(
        problem, ""
    )
    command = ["worker_gatys_ours.py", *common, problem]
    return Contender(f"depthstyle {args.precision}{suffix}", command, environment or {})


def against_pytorch(args: argparse.Namespace, name: str, problem: str) -> list[dict]:
    """Compare one problem with PyTorch's settings, and its compiled one if asked for."""
    environment = AVX2 if args.cpu == "avx2" else {}
    chosen = [(*peer, "eager") for peer in PEERS[args.precision]]
    if args.compiled:
        chosen.append((chosen[0][0], "contiguous", "compiled"))
    common = [str(args.size), str(args.threads)]
    peers = [
        Contender(
            f"PyTorch {precision} {mode} {layout}",
            ["worker_gatys_torch.py", *common, precision, problem, layout, mode],
            environment,
        )
        for precision, layout, mode in chosen
    ]
    title = f"{name} {args.size}x{args.size}, {setting(args, environment)}"
    return [compare(title, ours(args, problem, environment=environment), peers, args.rounds)]


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
        masked, plain = ours(args, kind), ours(args, "no")
        name = f"plain / {kind}-masked iteration {args.size}x{args.size}, {setting(args)}"
        rows.append(compare(name, masked, [plain], args.rounds))
    return rows


def depth_loss(args: argparse.Namespace) -> list[dict]:
    """The same iteration with a depth loss (MiDaS small) against the one without."""
    with_loss, plain = ours(args, "depth"), ours(args, "no")
    name = f"plain iteration / with depth loss {args.size}x{args.size} (0.5: twice the time)"
    return [compare(f"{name}, {setting(args)}", with_loss, [plain], args.rounds)]


def scaling(args: argparse.Namespace) -> list[dict]:
    """Twice the size against the size; the ratio small / large is 0.25 at equal time per pixel."""
    large, small = ours(args, "no", 2 * args.size), ours(args, "no")
    name = f"iteration at {args.size} / at {2 * args.size} (0.25: the same time per pixel)"
    return [compare(f"{name}, {setting(args)}", large, [small], args.rounds)]


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
    parser.add_argument("--precision", choices=tuple(PEERS), default="fp32")
    parser.add_argument("--cpu", choices=("best", "avx2"), default="best")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile (minutes)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.md")
    args = parser.parse_args()
    options = f" --precision {args.precision}" + (" --cpu avx2" if args.cpu == "avx2" else "")
    options += f" --rounds {args.rounds}" + (" --compiled" if args.compiled else "")
    command = f"python bench/bench_methods.py {args.what} --size {args.size}{options} --json"
    save = RESULTS / f"{args.save}.md" if args.save else None
    report(what[args.what](args), command, args.json, save)


if __name__ == "__main__":
    main()
