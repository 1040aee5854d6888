"""``depthstyle study``: build, serve and evaluate a survey of paired pictures."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register ``depthstyle study``."""
    parser = subparsers.add_parser("study", help="ask people which of two pictures they like more")
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    _add_build(steps)
    _add_serve(steps)
    _add_report(steps)
    _add_test(steps)
    _add_power(steps)


def _add_build(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("build", help="choose who sees which pair, and make personal links")
    parser.add_argument(
        "--pairs",
        type=Path,
        required=True,
        metavar="CSV",
        help="header image,style,content,ours,baseline; paths relative to the csv",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the study's folder")
    parser.add_argument("--respondents", type=int, required=True, metavar="N")
    parser.add_argument("--pairs-per-respondent", type=int, required=True, metavar="K")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of order and sides (0)")
    parser.add_argument("--question", help='asked above the pictures ("Which ... like more?")')
    parser.set_defaults(run=_run_build)


def _add_serve(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("serve", help="open the survey's web page")
    parser.add_argument("folder", type=Path, help="the study's folder")
    parser.add_argument("--port", type=int, default=8000, metavar="P", help="(8000; 0: a free one)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (127.0.0.1: this computer only; 0.0.0.0: the whole network)",
    )
    parser.add_argument("--url", help="address that respondents use, for the links in links.txt")
    parser.set_defaults(run=_run_serve)


def _add_report(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("report", help="evaluate the votes; writes report.html and votes.csv")
    parser.add_argument("folder", type=Path, help="the study's folder")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    parser.set_defaults(run=_run_report)


def _add_test(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("test", help="test a count of votes")
    parser.add_argument("--votes", type=int, required=True, metavar="V", help="votes for ours")
    parser.add_argument("--of", type=int, required=True, metavar="N", help="all votes")
    parser.set_defaults(run=_run_test)


def _add_power(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("power", help="how many respondents a wished effect needs")
    parser.add_argument(
        "--effect", type=float, required=True, help="share of votes for ours to find, such as 0.575"
    )
    parser.add_argument("--pairs-per-respondent", type=int, required=True, metavar="K")
    parser.add_argument("--level", type=float, default=0.05, help="significance level (0.05)")
    parser.add_argument("--power", type=float, default=0.8, help="wished power (0.8)")
    parser.add_argument("--one-sided", action="store_true", help="alternative: ours is liked more")
    parser.add_argument(
        "--correlation", type=float, default=0.0, help="between votes of one respondent (0)"
    )
    parser.set_defaults(run=_run_power)


def _run_build(args: argparse.Namespace) -> int:
    from .design import QUESTION, build

    build(
        args.pairs,
        args.out,
        respondents=args.respondents,
        pairs_per_respondent=args.pairs_per_respondent,
        seed=args.seed,
        question=QUESTION if args.question is None else args.question,
    )
    print(
        f"built {args.out}: {args.respondents} respondents, {args.pairs_per_respondent} pairs each"
    )
    print(f"open it with: depthstyle study serve {args.out}")
    return 0


def _run_serve(args: argparse.Namespace) -> int:
    from .server import serve

    try:
        serve(args.folder, host=args.host, port=args.port, url=args.url)
    except KeyboardInterrupt:
        print("stopped; all votes are saved")
    return 0


def _run_report(args: argparse.Namespace) -> int:
    from .database import Study
    from .results import report, write_report

    study = Study(args.folder)
    result = report(study, args.seed)
    print(result)
    print("wrote", ", ".join(map(str, write_report(study, result))))
    return 0


def _run_test(args: argparse.Namespace) -> int:
    from .statistics import binomial_test

    print(binomial_test(args.votes, args.of))
    return 0


def _run_power(args: argparse.Namespace) -> int:
    from .statistics import power

    print(
        power(
            args.effect,
            args.pairs_per_respondent,
            level=args.level,
            wished=args.power,
            two_sided=not args.one_sided,
            correlation=args.correlation,
        )
    )
    return 0
