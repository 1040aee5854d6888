"""``depthstyle sweep``: a sheet of pictures over the parameters of depth-aware AdaIN."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "sweep",
        description="Paint a photograph by depth-aware AdaIN with every beta (columns) and every "
        "epsilon (rows), in one labelled picture.",
    )
    parser.add_argument("content", metavar="CONTENT", help="the photograph")
    parser.add_argument("style", metavar="STYLE", nargs="+", help="one or several style pictures")
    parser.add_argument("-o", "--output", metavar="OUT.png", required=True, help="what to write")
    parser.add_argument(
        "--depth",
        metavar="FILE|MODEL",
        required=True,
        help="depth or disparity of the photograph; or a depth network: auto, its name or its file "
        "of weights",
    )
    parser.add_argument(
        "--depth-kind",
        choices=("depth", "disparity"),
        help="whether its values grow with distance or with nearness (default: depth)",
    )
    parser.add_argument(
        "--depth-encoding",
        metavar="NAME",
        help="how a data set stores it: mm, tum, kitti and others of depthstyle depth --encoding",
    )
    parser.add_argument(
        "--beta",
        type=_numbers,
        default=[1, 5, 10, 20, 50],
        metavar="X[,X...]",
        help="prominences of what is near (default: 1,5,10,20,50)",
    )
    parser.add_argument(
        "--epsilon",
        type=_numbers,
        default=[0, 0.15, 0.3, 0.5],
        metavar="X[,X...]",
        help="styles that even the nearest takes, 0 to 1 (default: 0,0.15,0.3,0.5)",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=512,
        metavar="N",
        help="longer side of each picture in pixels (default: 512)",
    )
    parser.add_argument(
        "--cell-width",
        type=int,
        default=300,
        metavar="N",
        help="width of each picture on the sheet (default: 300)",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of the encoder")
    parser.add_argument("--decoder", metavar="FILE", help="weights of the decoder")
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads")
    parser.add_argument(
        "--device",
        default="auto",
        help="what computes: auto (the default), cpu, cuda, or cuda:1 for another GPU",
    )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        default="auto",
        help="how precisely: fp32, bf16, mixed or auto (default: auto)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, paint all pictures, write the sheet."""
    from depthstyle.depth_estimation import resolve_depth
    from depthstyle.images import check_output, read_image, write_image
    from depthstyle.parameter_sweep import sweep

    check_output(args.output)
    names = ("size", "cell_width", "weights", "decoder", "threads", "device", "precision")
    photograph = read_image(args.content)
    sheet = sweep(
        photograph,
        [read_image(path) for path in args.style],
        resolve_depth(
            args.depth,
            photograph,
            device=args.device,
            precision=args.precision,
            kind=args.depth_kind,
            encoding=args.depth_encoding,
        ).depth,
        betas=args.beta,
        epsilons=args.epsilon,
        **{name: value for name in names if (value := getattr(args, name)) is not None},
    )
    write_image(args.output, sheet)
    height, width = sheet.shape[:2]
    print(f"wrote {args.output} ({width}x{height})")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
