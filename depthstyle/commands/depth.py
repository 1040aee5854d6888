"""``depthstyle depth``: the depth of a photograph, or a depth file of any kind, and its picture.

A coloured picture is a photograph, whose depth a network estimates; any other file is a depth
file, which is read. ``--model`` makes a photograph of a grey picture too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from depthstyle.depth import DepthMap


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "depth",
        description="Write a depth map as a 16-bit PNG (0 nearest, 65535 farthest, holes filled) "
        "and as a coloured picture (near bright, filled parts hatched). The depth of a coloured "
        "picture is estimated by a network; any other file is read as depth or disparity.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a photograph; or depth or disparity: PNG, TIFF, PGM, NPY, NPZ, PFM or NYU .mat",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT.png", required=True, help="the 16-bit depth map to write"
    )
    parser.add_argument(
        "--preview",
        metavar="PICTURE",
        help="the coloured picture to write; by default OUT_preview.png",
    )
    group = parser.add_argument_group("estimating depth")
    group.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        help="take FILE as a photograph, and this network: a name of depthstyle weights list, or "
        "the file or files of its weights (default: the best network in the cache)",
    )
    group.add_argument("--raw", metavar="OUT.npy", help="also write the network's own output")
    group.add_argument("--threads", type=int, metavar="N", help="number of threads")
    group.add_argument(
        "--device", help="what computes: auto (the default), cpu, cuda, or cuda:1 for another GPU"
    )
    group.add_argument(
        "--precision",
        metavar="NAME",
        help="how precisely: fp32, bf16, mixed or auto (default: auto)",
    )
    parser.set_defaults(run=run)
    _add_reading_options(parser.add_argument_group("reading a depth file"))


def _add_reading_options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="how a data set stores depth, which sets the options below: mm, tum, kitti, "
        "kitti-disparity, middlebury, nyu, nyu-raw, kinect, sunrgbd, gdepth:NEAR..FAR",
    )
    parser.add_argument(
        "--kind",
        choices=("depth", "disparity"),
        help="whether values grow with distance or with nearness (default: depth)",
    )
    parser.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="unit of a stored value, as 0.001 for millimetres read as metres (default: 1)",
    )
    parser.add_argument("--near", type=float, help="reading that becomes 0")
    parser.add_argument("--far", type=float, help="reading that becomes 1")
    parser.add_argument(
        "--invalid",
        type=_parse_numbers,
        metavar="VALUES",
        help='stored values that mean "no reading", as 0,65535; or none',
    )
    parser.add_argument(
        "--calibration", metavar="calib.txt", help="Middlebury cameras: disparity becomes metres"
    )
    parser.add_argument("--index", type=int, metavar="N", help="which map of a .mat file, from 0")
    parser.add_argument("--photo", metavar="PICTURE", help="write the photograph of a .mat file")


_READING = ("encoding", "kind", "scale", "near", "far", "invalid", "calibration", "index")
"""Options that only a depth file has."""


def run(args: argparse.Namespace) -> None:
    """Read or estimate, write the map and the picture, and state the range."""
    from depthstyle.depth import depth_picture, write_depth
    from depthstyle.errors import ImageError
    from depthstyle.images import check_output, write_image
    from depthstyle.nyu import NyuDepth

    output = Path(args.output)
    preview = Path(args.preview or output.with_name(f"{output.stem}_preview.png"))
    if output.suffix.lower() != ".png":
        raise ImageError(f"{output}: a depth map is written as .png")
    check_output(output, bits=16)
    check_output(preview)
    if args.photo is not None:
        check_output(args.photo)
    wrote = [output, preview, *(path for path in (args.photo, args.raw) if path is not None)]
    reading = {name: getattr(args, name) for name in _READING if getattr(args, name) is not None}
    find = _estimate if _is_photograph(args, reading) else _read
    depth, what = find(args, reading)
    picture = depth_picture(depth.depth, depth.valid)
    write_depth(output, depth)
    write_image(preview, picture)
    if args.photo is not None:
        with NyuDepth(args.file) as rooms:
            write_image(args.photo, rooms.image(args.index or 0))
    height, width = depth.depth.shape
    print(f"{width}x{height} {depth.kind}{what}")
    print(f"wrote {', '.join(map(str, wrote[:-1]))} and {wrote[-1]}")


def _is_photograph(args: argparse.Namespace, reading: dict[str, Any]) -> bool:
    from depthstyle.depth_files import is_coloured

    return args.model is not None or (not reading and is_coloured(args.file))


def _read(args: argparse.Namespace, reading: dict[str, Any]) -> tuple[DepthMap, str]:
    from depthstyle.depth import read_depth_map

    for option in ("raw", "threads", "device", "precision"):
        if getattr(args, option) is not None:
            raise ValueError(
                f"--{option}: is for a photograph, {args.file} is a depth file; give --model to "
                "have its depth estimated"
            )
    depth = read_depth_map(args.file, **reading)
    filled = 1 - depth.valid.mean()
    return depth, f": near {depth.near:g}, far {depth.far:g}, {filled:.1%} filled"


def _estimate(args: argparse.Namespace, reading: dict[str, Any]) -> tuple[DepthMap, str]:
    from depthstyle.depth_estimation import AUTO, DepthEstimator
    from depthstyle.images import read_image

    if reading or args.photo is not None:
        option = next(iter(reading), "photo")
        raise ValueError(f"--{option}: is for a depth file, and --model for a photograph; give one")
    if args.raw is not None:
        _check_raw(Path(args.raw))
    model = args.model or [AUTO]
    estimator = DepthEstimator(
        model[0] if len(model) == 1 else model,
        threads=args.threads,
        device=args.device or "auto",
        precision=args.precision or "auto",
    )
    raw = estimator.raw(read_image(args.file))
    depth = estimator.to_map(raw)
    if args.raw is not None:
        _write_raw(Path(args.raw), raw)
    return depth, f" by {estimator.name}: near {depth.near:g}, far {depth.far:g}, scale unknown"


def _check_raw(path: Path) -> None:
    if path.suffix.lower() != ".npy":
        raise ValueError(f"--raw {path}: is written as .npy")
    if not path.parent.is_dir():
        raise ValueError(f"--raw {path}: its folder does not exist; create it first")


def _write_raw(path: Path, raw: NDArray[np.float32]) -> None:
    import io

    import numpy as np

    from depthstyle.files import write_atomically

    data = io.BytesIO()
    np.save(data, raw)
    write_atomically(path, data.getvalue())


def _parse_numbers(text: str) -> tuple[float, ...]:
    try:
        return () if text == "none" else tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers with commas between, or none"
        ) from None
