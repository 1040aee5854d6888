"""``depthstyle stylize``: paint a photograph in the style of other pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthstyle.methods import Painted, Painter

_SETTINGS = (
    "content_layers",
    "style_layers",
    "normalisation",
    "content_weight",
    "style_weight",
    "tv_weight",
    "laplacian_weight",
    "laplacian_pools",
    "optimizer",
    "history",
    "iterations",
    "scales",
    "init",
    "pooling",
    "preset",
    "content_mask",
    "weights",
    "size",
    "style_scale",
    "seed",
    "preserve_colour",
    "threads",
    "backend",
)
"""Options that go to the method under their own name where they are given."""

_FIGURES = (".png", ".svg", ".pdf")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "stylize",
        description="Paint a photograph in the style of one or several pictures, if wanted "
        "depending on depth.",
    )
    parser.add_argument("content", metavar="CONTENT", help="the photograph")
    parser.add_argument("style", metavar="STYLE", nargs="*", help="one or several style pictures")
    parser.add_argument("-o", "--output", metavar="OUT.png", required=True, help="what to write")
    parser.add_argument(
        "--method",
        default="gatys",
        help="gatys, or lapstyle with a Laplacian loss (default: gatys)",
    )
    parser.add_argument(
        "--preset",
        help="settings by name: size-invariant, lapstyle, 001-squeezenet, 001-vgg16, 003, "
        "004-gatys, 004-lapstyle (default: the method's own)",
    )
    _add_depth_options(parser)
    _add_run_options(parser)
    _add_settings(parser)
    parser.set_defaults(run=run)


def _add_depth_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("depth")
    group.add_argument("--depth", metavar="FILE", help="depth or disparity of the photograph")
    group.add_argument(
        "--depth-kind",
        choices=("depth", "disparity"),
        default="depth",
        help="whether its values grow with distance or with nearness (default: depth)",
    )
    group.add_argument(
        "--mask",
        metavar="SPEC",
        action="append",
        help="where a style counts, once for each style: linear:LO..HI, sigmoid:k=K,t=T (far), "
        "complement:k=K,t=T (near), window:LO..HI, or all",
    )
    group.add_argument("--content-mask", metavar="SPEC", help="where the content counts")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of a network (default: VGG19 if it is in the cache, see depthstyle weights; "
        "otherwise the embedded encoder)",
    )
    group.add_argument("--size", type=int, metavar="N", help="longer side of the result in pixels")
    group.add_argument(
        "--style-scale", type=float, metavar="X", help="size of the style to that of the result"
    )
    group.add_argument("--seed", type=int, help="seed of the noise of --init noise")
    group.add_argument(
        "--preserve-colour",
        choices=("luminance", "covariance"),
        help="keep the photograph's colours",
    )
    group.add_argument(
        "--preview", type=int, metavar="N", help="write OUT_preview.png every N iterations"
    )
    group.add_argument("--losses", metavar="FILE", help="draw the losses: .png, .svg or .pdf")
    group.add_argument("--threads", type=int, metavar="N", help="number of threads")
    group.add_argument("--backend", choices=("cpu", "ref"), help="what computes (default: cpu)")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings that change the preset")
    group.add_argument("--iterations", type=int, metavar="N", help="iterations at each scale")
    group.add_argument("--scales", type=int, metavar="N", help="sizes to go through, each doubled")
    group.add_argument("--optimizer", help="lbfgs or adam")
    group.add_argument("--history", type=int, metavar="N", help="steps that L-BFGS remembers")
    group.add_argument("--learning-rate", type=float, metavar="X", help="of Adam, constant")
    group.add_argument("--init", help="content or noise")
    group.add_argument("--start", metavar="FILE", help="a picture to start from")
    group.add_argument("--content-weight", type=float, metavar="X")
    group.add_argument(
        "--style-weight", type=_numbers, metavar="X[,X...]", help="one, or one for each style"
    )
    group.add_argument("--tv-weight", type=float, metavar="X", help="of total variation")
    group.add_argument("--laplacian-weight", type=float, metavar="X")
    group.add_argument("--laplacian-pools", type=_counts, metavar="P[,P...]", help="as in 4,16")
    group.add_argument("--content-layers", type=_layers, metavar="LAYER[=X],...")
    group.add_argument("--style-layers", type=_layers, metavar="LAYER[=X],...")
    group.add_argument("--normalisation", help="gatys, johnson, sum or size-invariant")
    group.add_argument("--pooling", help="max or average")


def run(args: argparse.Namespace) -> None:
    """Read, stylise, write, and say what was done."""
    from depthstyle.depth import read_depth_map
    from depthstyle.images import check_output, read_image
    from depthstyle.methods import make_painter

    output = Path(args.output)
    check_output(output)
    if args.losses is not None and Path(args.losses).suffix not in _FIGURES:
        raise ValueError(f"--losses {args.losses}: use one of the suffixes {', '.join(_FIGURES)}")
    if args.losses is not None and not Path(args.losses).parent.is_dir():
        raise ValueError(f"--losses {args.losses}: its folder does not exist; create it first")
    if args.preview is not None and args.preview < 1:
        raise ValueError(f"--preview {args.preview}: must be at least 1")
    styles = [read_image(path) for path in args.style]
    painter = make_painter(args.method, styles, **_settings(args))
    for option in ("losses", "preview"):
        if getattr(args, option) is not None and not painter.iterates:
            raise ValueError(f"--{option}: method {args.method} does not iterate; leave it out")
    depth = None
    if args.depth is not None:
        depth_map = read_depth_map(args.depth, kind=args.depth_kind)
        depth = depth_map.depth
        print(f"depth: {depth_map.kind} from near {depth_map.near:g} to far {depth_map.far:g}")
    files = {"content": args.content, "styles": args.style, "depth": args.depth}
    masks = {"masks": args.mask, "content_mask": args.content_mask}
    start = time.perf_counter()
    painted = paint(
        painter, read_image(args.content), depth, output, {**files, **masks}, args.preview
    )
    seconds = time.perf_counter() - start
    done = "" if painted.interrupted is None else f"interrupted after {painted.interrupted}, "
    height, width = painted.image.shape[:2]
    print(f"{painter.device}: {done}{seconds:.1f} s, wrote {output} ({width}x{height})")
    if painted.losses is not None and args.losses is not None:
        from depthstyle.plots import loss_curves

        loss_curves(painted.losses, args.losses)
        print(f"wrote {args.losses}")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, under the names that the methods know."""
    from depthstyle.images import read_image

    settings = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.learning_rate is not None:
        settings["schedule"] = ((0, args.learning_rate),)
    if args.start is not None:
        settings["start"] = read_image(args.start)
    if args.mask is not None:
        masks = [None if mask == "all" else mask for mask in args.mask]
        settings["style_masks"] = masks[0] if len(masks) == 1 else masks
    return settings


def paint(
    painter: Painter,
    content: Any,
    depth: Any,
    output: Path,
    made_from: dict[str, Any],
    preview: int | None = None,
) -> Painted:
    """Paint a photograph and write the picture, also after Ctrl-C or an error.

    Parameters
    ----------
    painter : Painter
        What paints.
    content : array (H, W, 3)
        The photograph.
    depth : array (h, w), or None
        Its depth.
    output : path
        The picture to write.
    made_from : dict
        What goes into the picture's recipe besides the painter's own.
    preview : int, optional
        Write OUT_preview.png every so many iterations.

    Returns
    -------
    Painted

    Raises
    ------
    NumericalError
        A value stopped being finite; the last good picture is written first.
    """
    from depthstyle.errors import NumericalError
    from depthstyle.images import write_image

    preview_path = output.with_name(f"{output.stem}_preview{output.suffix}")

    def show(state: Any) -> None:
        if preview and state.iteration % preview == 0:
            write_image(preview_path, state.image, recipe={**made_from, **state.recipe})

    def write(painted: Painted) -> Painted:
        write_image(output, painted.image, recipe={**made_from, **painted.recipe})
        return painted

    try:
        return write(painter.paint(content, depth, progress=output.name, on_step=show))
    except NumericalError as error:
        if error.painted is not None:
            write(error.painted)
        raise


def _numbers(text: str) -> float | list[float]:
    numbers = [float(number) for number in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _layers(text: str) -> dict[str, float]:
    layers = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        layers[name] = float(weight or 1)
    return layers
