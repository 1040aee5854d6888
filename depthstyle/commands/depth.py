"""``depthstyle depth``: turn a depth file of any kind into depthstyle's own, and show it."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "depth",
        description="Write a depth map as a 16-bit PNG (0 nearest, 65535 farthest, holes filled) "
        "and as a coloured picture (near bright, filled parts hatched).",
    )
    parser.add_argument(
        "file", metavar="FILE", help="depth or disparity: PNG, TIFF, PGM, NPY, NPZ, PFM or NYU .mat"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT.png", required=True, help="the 16-bit depth map to write"
    )
    parser.add_argument(
        "--preview",
        metavar="PICTURE",
        help="the coloured picture to write; by default OUT_preview.png",
    )
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, write the map and the picture, and state the range."""
    from depthstyle.depth import depth_picture, read_depth_map, write_depth
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
    depth = read_depth_map(
        args.file,
        encoding=args.encoding,
        kind=args.kind,
        scale=args.scale,
        near=args.near,
        far=args.far,
        invalid=args.invalid,
        calibration=args.calibration,
        index=args.index,
    )
    picture = depth_picture(depth.depth, depth.valid)
    write_depth(output, depth)
    write_image(preview, picture)
    if args.photo is not None:
        with NyuDepth(args.file) as rooms:
            write_image(args.photo, rooms.image(args.index or 0))
    height, width = depth.depth.shape
    print(
        f"{width}x{height} {depth.kind}: near {depth.near:g}, far {depth.far:g}, "
        f"{1 - depth.valid.mean():.1%} filled"
    )
    wrote = [output, preview, *([args.photo] if args.photo else [])]
    print(f"wrote {', '.join(map(str, wrote[:-1]))} and {wrote[-1]}")


def _parse_numbers(text: str) -> tuple[float, ...]:
    try:
        return () if text == "none" else tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers with commas between, or none"
        ) from None
