"""``depthstyle evaluate``: tables that compare two methods."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Structural similarity (SSIM) of two methods' pictures to the content images, for example of a
depth-preserving network and a Johnson baseline. Writes ssim.csv, ssim.md and ssim.png. Rows that
cannot be measured are named, the others are measured all the same, and the exit code is 1."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register ``depthstyle evaluate``."""
    parser = subparsers.add_parser("evaluate", help="compare two methods in a table")
    tables = parser.add_subparsers(dest="table", metavar="TABLE", required=True)
    _add_ssim(tables)


def _add_ssim(tables: argparse._SubParsersAction) -> None:
    parser = tables.add_parser(
        "ssim", help="structural similarity to the content images", description=DESCRIPTION
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--pairs",
        type=Path,
        metavar="CSV",
        help="header image,style,content,ours,baseline; paths relative to the csv",
    )
    source.add_argument(
        "--by-folder",
        nargs=3,
        type=Path,
        metavar=("CONTENT", "OURS", "BASELINE"),
        help="three folders matched by file stem (lake.jpg, lake_starry.png, lake_starry.png); "
        "writes the pairs.csv into --out",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--color", choices=("grey", "rgb"), default="grey")
    parser.add_argument("--window", choices=("gaussian", "uniform"), default="gaussian")
    parser.add_argument(
        "--sigma", type=float, default=1.5, help="of the Gaussian window, in pixels (1.5)"
    )
    parser.add_argument("--size", type=int, default=7, help="of the uniform window, in pixels (7)")
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=("psnr", "gradient"),
        default=[],
        help="further measures: peak signal-to-noise ratio, gradient-magnitude similarity",
    )
    parser.set_defaults(run=_run_ssim)


def _run_ssim(args: argparse.Namespace) -> int:
    from .metrics import Protocol
    from .pairs import Problem, match_folders, write_pairs
    from .ssim import ssim_table

    protocol = Protocol(args.color, args.window, args.sigma, args.size)
    pairs = args.pairs
    unmatched: list[Problem] = []
    if args.by_folder:
        matched, unmatched = match_folders(*args.by_folder)
        args.out.mkdir(parents=True, exist_ok=True)
        pairs = args.out / "pairs.csv"
        write_pairs(pairs, matched)
    table = ssim_table(pairs, out=args.out, protocol=protocol, columns=args.columns)
    print(table.describe())
    print("wrote", ", ".join(str(args.out / name) for name in ("ssim.csv", "ssim.md", "ssim.png")))
    for problem in unmatched:
        print(f"left out: {problem.message}", file=sys.stderr)
    for problem in table.problems:
        print(f"left out: {pairs}, {problem}", file=sys.stderr)
    return 1 if unmatched or table.problems else 0
