"""``depthstyle demo``: what depth does to a style, on a photograph with measured depth."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from depthstyle.depth import DepthMap

_NEAR, _FAR = "complement:k=30,t=0.55", "sigmoid:k=30,t=0.55"
_HISTORY = 30  # of L-BFGS: with this small encoder a full history takes most of the time
_STYLES = ("swirls", "dabs")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "demo",
        description="Stylise a photograph of a motorcycle in six ways: plainly, the background "
        "only, near and far in two styles, with a Laplacian loss, by AdaIN, and by AdaIN that "
        "keeps what is near. Needs no network.",
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", default="depthstyle-demo", help="where to write"
    )
    parser.add_argument(
        "--size", type=int, default=400, metavar="N", help="longer side in pixels (default: 400)"
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="iterations at each of two scales"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads")
    parser.add_argument(
        "--device",
        default="auto",
        help="what computes: auto (the default), cpu, cuda, or cuda:1 for another GPU",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Make all pictures and write them into a folder."""
    from depthstyle.depth import depth_picture, write_depth
    from depthstyle.images import resize, scaled_size, write_image
    from depthstyle.methods import make_painter
    from depthstyle.plots import contact_sheet, loss_curves
    from depthstyle.presets import check_count
    from depthstyle.styles import make_style

    check_count("--size", args.size)
    start = time.perf_counter()
    photograph, depth_map = read_motorcycle()
    size = scaled_size(*photograph.shape[:2], longest=args.size)
    content, depth = resize(photograph, size), resize(depth_map.depth, size, "bilinear")
    first, second = (make_style(name) for name in _STYLES)
    computes: dict[str, Any] = {"threads": args.threads, "device": args.device}
    settings = {**computes, "history": _HISTORY}
    if args.iterations is not None:
        settings["iterations"] = args.iterations
    variants: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "gatys": ("gatys", [first], settings),
        "background": ("gatys", [first], {"style_masks": _FAR, **settings}),
        "two_styles": ("gatys", [first, second], {"style_masks": [_FAR, _NEAR], **settings}),
        "lapstyle": ("lapstyle", [first], settings),
        "adain": ("adain", [first], computes),
        "da_adain": ("da-adain", [first], computes),
    }
    painters = {
        name: make_painter(method, styles, **options)
        for name, (method, styles, options) in variants.items()
    }

    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    shown = {
        "content": content,
        "depth": depth_picture(depth),
        f"style_{_STYLES[0]}": first,
        f"style_{_STYLES[1]}": second,
    }
    for name, picture in shown.items():
        write_image(folder / f"{name}.png", picture)
    write_depth(folder / "depth_map.png", depth_map)
    losses = {}
    for name, painter in painters.items():
        painted = painter.paint(content, depth, progress=name)
        if painted.interrupted is not None:
            raise KeyboardInterrupt
        shown[name] = painted.image
        write_image(folder / f"{name}.png", painted.image, recipe=painted.recipe)
        if painted.losses:
            losses[name] = painted.losses["total"]
    labels = [name.replace("da_adain", "da-adain").replace("_", " ") for name in shown]
    write_image(
        folder / "contact_sheet.png", contact_sheet(list(shown.values()), labels, columns=5)
    )
    loss_curves(losses, folder / "losses.png", title="total loss")
    seconds = time.perf_counter() - start
    print(f"{painters['gatys'].device}: {seconds:.1f} s, wrote {folder}")


def read_motorcycle() -> tuple[NDArray[np.float32], DepthMap]:
    """Return the motorcycle of the Middlebury stereo data and its measured depth.

    Both are files of the scikit-image package itself, read without its downloader.

    Returns
    -------
    float32 (500, 741, 3), DepthMap (500, 741)

    Raises
    ------
    ImageError
        The installed scikit-image does not carry them.
    """
    from importlib.resources import files

    from depthstyle.depth import read_depth_map
    from depthstyle.errors import ImageError
    from depthstyle.images import read_image

    data = Path(str(files("skimage") / "data"))
    picture, disparity = data / "motorcycle_left.png", data / "motorcycle_disp.npz"
    for path in (picture, disparity):
        if not path.is_file():
            raise ImageError(f"{path}: missing; install scikit-image from its wheel")
    return read_image(picture), read_depth_map(disparity, kind="disparity")
