"""``depthstyle stylize``: paint a photograph in the style of other pictures."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthstyle.errors import ImageError

if TYPE_CHECKING:
    from depthstyle.batch import Batch
    from depthstyle.checkpoint import Checkpoints
    from depthstyle.job import Setup

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_SETTINGS = (
    "content_layers",
    "style_layers",
    "normalisation",
    "content_weight",
    "style_weight",
    "tv_weight",
    "laplacian_weight",
    "laplacian_pools",
    "depth_loss",
    "depth_weight",
    "depth_network",
    "depth_layers",
    "optimizer",
    "history",
    "iterations",
    "scales",
    "init",
    "pooling",
    "preset",
    "content_mask",
    "size",
    "style_scale",
    "seed",
    "preserve_colour",
    "threads",
    "device",
    "precision",
    "strength",
    "beta",
    "epsilon",
    "style_size",
    "short_side",
    "tile",
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
    parser.add_argument(
        "content",
        metavar="CONTENT",
        help="the photograph; a folder, or a pattern in quotes, is each of its pictures in turn",
    )
    parser.add_argument(
        "style",
        metavar="STYLE",
        nargs="*",
        help="one or several style pictures; a folder or pattern is each of its pictures in turn",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT.png",
        required=True,
        help="what to write; a folder where CONTENT or STYLE is one",
    )
    parser.add_argument(
        "--method",
        default="gatys",
        help="gatys, lapstyle with a Laplacian loss, adain in one run of two networks, da-adain "
        "that keeps what is near, fast with a network of one style (default: gatys)",
    )
    parser.add_argument(
        "--preset",
        help="settings by name: size-invariant, lapstyle, 000, 001-squeezenet, 001-vgg16, "
        "001-depth, 003, 004-gatys, 004-lapstyle, 004-depth (default: the method's own)",
    )
    _add_depth_options(parser)
    _add_file_options(parser)
    _add_run_options(parser)
    _add_settings(parser)
    _add_adain_options(parser)
    parser.set_defaults(run=run)


def _add_depth_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("depth")
    group.add_argument(
        "--depth",
        metavar="FILE|MODEL",
        help="depth or disparity of the photograph; for a folder of photographs a folder of files "
        "with the same names; or a depth network: auto, its name or its file of weights",
    )
    group.add_argument(
        "--depth-kind",
        choices=("depth", "disparity"),
        help="whether its values grow with distance or with nearness (default: depth)",
    )
    group.add_argument(
        "--depth-encoding",
        metavar="NAME",
        help="how a data set stores it: mm, tum, kitti and others of depthstyle depth --encoding",
    )
    group.add_argument(
        "--mask",
        metavar="SPEC",
        action="append",
        help="where a style counts, once for each style: linear:LO..HI, sigmoid:k=K,t=T (far), "
        "complement:k=K,t=T (near), window:LO..HI, or all",
    )
    group.add_argument("--content-mask", metavar="SPEC", help="where the content counts")


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--alpha",
        type=_alpha,
        default="keep",
        metavar="keep|flatten[=COLOUR]",
        help="give the result the photograph's transparency, or lay the photograph over a colour, "
        "white or as in flatten=#ff8000 (default: keep)",
    )
    group.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=8,
        help="bits for each colour; 16 for .png and .tif (default: 8)",
    )
    group.add_argument(
        "--keep-paths", action="store_true", help="write the paths of the inputs into the recipe"
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--weights",
        metavar="FILE",
        action="append",
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
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="where a long run saves its state (default: OUT.png.checkpoint, removed at the end)",
    )
    group.add_argument(
        "--checkpoint-every",
        type=float,
        metavar="SECONDS",
        help="how often, 0 for every iteration (default: 30, and at most 1 %% of the time)",
    )
    group.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of a run that was ended"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print time and memory that it would take, and end"
    )
    group.add_argument("--threads", type=int, metavar="N", help="number of threads")
    group.add_argument(
        "--device", help="what computes: auto (the default), cpu, cuda, or cuda:1 for another GPU"
    )
    group.add_argument(
        "--precision",
        metavar="NAME",
        help="how precisely: fp32, bf16, mixed, tf32 on a GPU, or auto, which is fp32 unless the "
        "hardware multiplies bf16 faster (default: auto)",
    )


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
    group.add_argument(
        "--depth-loss",
        help="output or features: what a depth network must see alike in result and photograph",
    )
    group.add_argument("--depth-weight", type=float, metavar="X", help="of the depth loss")
    group.add_argument("--depth-network", metavar="NAME", help="as for depthstyle depth --model")
    group.add_argument(
        "--depth-network-weights", metavar="FILE", help="its weights (default: in the cache)"
    )
    group.add_argument("--depth-layers", type=_layers, metavar="LAYER[=X],...")
    group.add_argument("--content-layers", type=_layers, metavar="LAYER[=X],...")
    group.add_argument("--style-layers", type=_layers, metavar="LAYER[=X],...")
    group.add_argument("--normalisation", help="gatys, johnson, sum or size-invariant")
    group.add_argument("--pooling", help="max or average")


def _add_adain_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("methods adain, da-adain and fast")
    group.add_argument("--strength", type=float, metavar="X", help="share of the style, 0 to 1")
    group.add_argument("--beta", type=float, metavar="X", help="prominence of what is near")
    group.add_argument(
        "--epsilon", type=float, metavar="X", help="style that even the nearest takes, 0 to 1"
    )
    group.add_argument(
        "--style-size", type=int, metavar="N", help="shorter side of the styles in pixels"
    )
    group.add_argument(
        "--short-side", type=int, metavar="N", help="shorter side of the result in pixels"
    )
    group.add_argument(
        "--tile", type=int, metavar="N", help="compute in tiles of N pixels, to save memory"
    )
    group.add_argument(
        "--decoder", metavar="FILE", help="weights of the decoder; --weights are the encoder's"
    )


def run(args: argparse.Namespace) -> int | None:
    """Paint one photograph, or those of a folder or pattern, and say what was done."""
    from depthstyle.batch import is_many

    if args.losses is not None and Path(args.losses).suffix not in _FIGURES:
        raise ValueError(f"--losses {args.losses}: use one of the suffixes {', '.join(_FIGURES)}")
    if args.losses is not None and not Path(args.losses).parent.is_dir():
        raise ValueError(f"--losses {args.losses}: its folder does not exist; create it first")
    if args.preview is not None and args.preview < 1:
        raise ValueError(f"--preview {args.preview}: must be at least 1")
    weights = args.weights or []
    if len(weights) > 1 or any(map(is_many, (args.content, *args.style, *weights))):
        return _run_many(args)
    return _run_one(args)


def _run_one(args: argparse.Namespace) -> None:
    from depthstyle.job import Job, paint, read, write, write_picture

    (setup, _), *_ = _setups(args)
    depth, model = _depth(args)
    output = Path(args.output)
    job = Job(setup, Path(args.content), output, depth, model, **_manner(args))
    job.check()
    painter = setup.painter()
    for option in ("losses", "preview"):
        if getattr(args, option) is not None and not painter.iterates:
            raise ValueError(f"--{option}: method {args.method} does not iterate; leave it out")
    photograph = read(job)
    found = photograph.depth
    if found is not None:
        print(f"depth: {found.kind} from near {found.near:g} to far {found.far:g}")
    preview = output.with_name(f"{output.stem}_preview{output.suffix}")

    def show(state: Any) -> None:
        if state.iteration % args.preview == 0:
            made_by = {**state.recipe, **photograph.plan}
            write_picture(preview, job, photograph, state.image, made_by)

    if args.dry_run:
        from depthstyle.estimates import estimate_painter
        from depthstyle.memory import largest_memory

        work = painter, photograph.content, found and found.depth
        print(f"{output} would take {estimate_painter(*work, before=largest_memory())}")
        return
    checkpoints = _checkpoints(args, painter.iterates)
    start = time.perf_counter()
    hooks: dict[str, Any] = {"progress": output.name, "on_step": show if args.preview else None}
    painted = paint(job, painter, photograph, **hooks, checkpoints=checkpoints)
    write(job, photograph, painted)
    if checkpoints is not None and painted.interrupted is None:
        checkpoints.remove()
    seconds = time.perf_counter() - start
    done = "" if painted.interrupted is None else f"interrupted after {painted.interrupted}, "
    height, width = painted.image.shape[:2]
    print(f"{painter.device}: {done}{seconds:.1f} s, wrote {output} ({width}x{height})")
    if painted.losses is not None and args.losses is not None:
        from depthstyle.plots import loss_curves

        loss_curves(painted.losses, args.losses)
        print(f"wrote {args.losses}")


def _checkpoints(args: argparse.Namespace, iterates: bool) -> Checkpoints | None:
    """Return where the run saves its state, for a method that has one."""
    if not iterates:
        if args.resume or args.checkpoint is not None or args.checkpoint_every is not None:
            raise ValueError(
                f"--resume, --checkpoint: method {args.method} does not iterate; leave them out"
            )
        return None
    from depthstyle import checkpoint

    path = args.checkpoint or f"{args.output}.checkpoint"
    if args.resume and not checkpoint.exists(path):
        print(f"{path}: no checkpoint; starting from the beginning")
    return checkpoint.Checkpoints(path, resume=args.resume, seconds=args.checkpoint_every)


def _run_many(args: argparse.Namespace) -> int:
    from depthstyle.batch import Batch, depth_of, expand, outputs
    from depthstyle.job import Job

    for option in ("losses", "preview", "checkpoint", "checkpoint_every", "resume", "dry_run"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise ValueError(f"--{name}: is for a single picture; leave it out")
    folder = Path(args.output)
    if folder.suffix and not folder.is_dir():
        raise ValueError(f"-o {folder}: several pictures are made; name a folder")
    contents, setups = expand(args.content), _setups(args)
    place, model = _depth(args)
    if place is not None and len(contents) > 1 and not place.is_dir():
        raise ValueError(
            f"--depth {args.depth}: is for one photograph, there are {len(contents)}; give a "
            "folder with a depth file of the same name for each"
        )
    jobs, failures = [], []
    labels = [label for _, label in setups]
    for content, number, output in outputs(contents, labels, folder):
        try:
            depth = None if place is None else depth_of(content, place)
            jobs.append(Job(setups[number][0], content, output, depth, model, **_manner(args)))
        except ImageError as error:
            failures.append(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    return _report(Batch(jobs, failures), folder)


def _report(batch: Batch, folder: Path) -> int:
    """Run a batch, say what became of it, and return the exit code."""
    start = time.perf_counter()
    complete = batch.run()
    seconds = time.perf_counter() - start
    present = f", {batch.present} were there" if batch.present else ""
    device = f"{batch.device}: " if batch.device else ""
    print(f"{device}{seconds:.1f} s, wrote {batch.written} pictures to {folder}{present}")
    for failure in batch.failures:
        print(f"depthstyle: failed: {' '.join(failure.split())}", file=sys.stderr)
    if not complete:
        print("depthstyle: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if batch.failures else 0


def _setups(args: argparse.Namespace) -> list[tuple[Setup, str]]:
    """Return each combination of styles and weights, and what names it among the others."""
    from depthstyle.batch import WEIGHTS_SUFFIXES, expand
    from depthstyle.job import Setup

    style_sets = list(itertools.product(*(expand(style) for style in args.style)))
    named = [path for name in args.weights or () for path in expand(name, WEIGHTS_SUFFIXES)]
    networks: list[Path | None] = [*named] or [None]
    settings = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.learning_rate is not None:
        settings["schedule"] = [[0, args.learning_rate]]
    if args.mask is not None:
        masks = [None if mask == "all" else mask for mask in args.mask]
        settings["style_masks"] = masks[0] if len(masks) == 1 else masks
    pictures = {} if args.start is None else {"start": Path(args.start)}
    setups = []
    for styles, network in itertools.product(style_sets, networks):
        weights = {} if network is None else {"weights": network}
        for name in ("decoder", "depth_network_weights"):
            if (file := getattr(args, name)) is not None:
                weights[name] = Path(file)
        names = [style.stem for style in styles] if len(style_sets) > 1 else []
        names += [network.stem] if network is not None and len(networks) > 1 else []
        setups.append((Setup(args.method, styles, settings, weights, pictures), "_".join(names)))
    return setups


def _depth(args: argparse.Namespace) -> tuple[Path | None, tuple[str, ...]]:
    """Return the file or folder of depths, or the depth network in its place."""
    from depthstyle.depth_estimation import WEIGHTS_SUFFIXES
    from depthstyle.weights.depth_choice import is_model

    if args.depth is None:
        return None, ()
    path = Path(args.depth)
    if is_model(args.depth) or path.suffix.lower() in WEIGHTS_SUFFIXES:
        return None, (args.depth,)
    return path, ()


def _manner(args: argparse.Namespace) -> dict[str, Any]:
    """Return how the files are read and written, as `Job` takes it."""
    names = ("depth_kind", "depth_encoding", "bits", "alpha", "keep_paths")
    precision = args.precision or "auto"
    return {"depth_precision": precision, **{name: getattr(args, name) for name in names}}


def _alpha(text: str) -> str:
    from depthstyle.job import KEEP, colour

    word, _, paper = text.partition("=")
    if text == KEEP:
        return text
    if word != "flatten":
        raise argparse.ArgumentTypeError(f"{text!r} must be keep, flatten or flatten=COLOUR")
    try:
        colour(paper or "white")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return paper or "white"


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
