"""``depthstyle evaluate``: tables that compare methods of style transfer, or depth estimates."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Structural similarity (SSIM) of two methods' pictures to the content images, for example of a
depth-preserving network and a Johnson baseline. Writes ssim.csv, ssim.md and ssim.png. Rows that
cannot be measured are named, the others are measured all the same, and the exit code is 1."""

DEPTH_ORDER = """\
How often depth estimates know which of two points is farther: on annotations in the form of
"Depth in the Wild", or on random points of measured depth maps. The last row is the rule that the
lower of two points is nearer. Pictures that cannot be judged are named, and the exit code is 1."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register ``depthstyle evaluate``."""
    parser = subparsers.add_parser("evaluate", help="compare methods or depth estimates in a table")
    tables = parser.add_subparsers(dest="table", metavar="TABLE", required=True)
    _add_ssim(tables)
    _add_depth_order(tables)


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
    parser.add_argument(
        "--depth",
        metavar="MODEL",
        help="adds how much the depth that a network sees differs, as for depthstyle depth",
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
    table = ssim_table(
        pairs, out=args.out, protocol=protocol, columns=args.columns, depth=args.depth
    )
    print(table.describe())
    print("wrote", ", ".join(str(args.out / name) for name in ("ssim.csv", "ssim.md", "ssim.png")))
    for problem in unmatched:
        print(f"left out: {problem.message}", file=sys.stderr)
    for problem in table.problems:
        print(f"left out: {pairs}, {problem}", file=sys.stderr)
    return 1 if unmatched or table.problems else 0


def _add_depth_order(tables: argparse._SubParsersAction) -> None:
    parser = tables.add_parser(
        "depth-order", help="which of two points is farther", description=DEPTH_ORDER
    )
    points = parser.add_mutually_exclusive_group(required=True)
    points.add_argument(
        "--annotations",
        type=Path,
        metavar="CSV",
        help="DIW: two lines for each pair, the picture and y_A,x_A,y_B,x_B,relation,width,height",
    )
    points.add_argument(
        "--depth-maps",
        type=Path,
        metavar="CSV",
        help="measured depth: header image,depth with any of encoding,kind,scale,invalid,near,far",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="where the annotated pictures lie (by the csv)"
    )
    parser.add_argument(
        "--pairs", type=int, default=1000, metavar="N", help="points of each depth map (1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the points (0)")
    parser.add_argument(
        "--margin",
        type=float,
        default=0.02,
        help="least difference of two depths, of the map's range (0.02)",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a depth network, as for depthstyle depth; may be repeated",
    )
    parser.add_argument(
        "--predictions",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder with a depth file of each picture's name; may be repeated",
    )
    parser.add_argument("--encoding", metavar="NAME", help="of the predictions' files")
    parser.add_argument(
        "--kind", choices=("depth", "disparity"), help="whether they grow with the distance (depth)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for csv and markdown")
    parser.set_defaults(run=_run_depth_order)


def _run_depth_order(args: argparse.Namespace) -> int:
    from .depth_order import Source, depth_order_table, open_sources
    from .point_pairs import draw_pairs, read_annotations

    named: dict[str, Source] = {name: name for name in args.model}
    named.update({str(folder): folder for folder in args.predictions})
    sources = open_sources(named)
    if args.annotations:
        pairs, problems = read_annotations(args.annotations, args.images)
    else:
        pairs, problems = draw_pairs(args.depth_maps, args.pairs, args.seed, args.margin)
    given = {"encoding": args.encoding, "kind": args.kind}
    options = {name: value for name, value in given.items() if value is not None}
    table = depth_order_table(pairs, sources, options=options, problems=problems)
    print(table.describe())
    if args.out is not None:
        print("wrote", ", ".join(map(str, table.save(args.out))))
    for problem in table.problems:
        print(f"left out: {args.annotations or args.depth_maps}, {problem}", file=sys.stderr)
    return 1 if table.problems else 0
