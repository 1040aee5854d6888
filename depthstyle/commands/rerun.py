"""``depthstyle rerun``: make a picture again from the recipe that it carries."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXIT_OTHER_PIXELS = 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "rerun",
        description="Make a picture of depthstyle stylize again from its recipe, and compare. The "
        "inputs are recognised by their SHA-256, whatever they are called.",
    )
    parser.add_argument("picture", metavar="OUT.png", help="the picture to make again")
    parser.add_argument(
        "--inputs",
        metavar="PLACE",
        nargs="+",
        default=[],
        help="the inputs, or folders to look for them in (always: the picture's own folder, paths "
        "that the recipe keeps, the cache of weights)",
    )
    parser.add_argument("-o", "--output", metavar="AGAIN.png", required=True, help="what to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find the inputs, paint, write, compare."""
    from depthstyle.errors import ImageError
    from depthstyle.images import read_recipe
    from depthstyle.job import paint, read, restore, write
    from depthstyle.recipe import Finder

    picture, output = Path(args.picture), Path(args.output)
    made_by = read_recipe(picture)
    if made_by is None:
        raise ImageError(f"{picture}: carries no recipe; give a picture of depthstyle stylize")
    if "failed" in made_by:
        raise ImageError(f"{picture}: was written after an error ({made_by['failed']})")
    beside = [path for path in picture.absolute().parent.iterdir() if path.is_file()]
    finder = Finder([*args.inputs, *beside])
    job = restore(made_by, output, finder, str(picture))
    job.check()
    photograph = read(job)
    last = made_by.get("iteration") if "interrupted" in made_by else None

    def stop(state: Any) -> None:
        # The picture was written after Ctrl-C here.
        if state.iteration == last:
            raise KeyboardInterrupt

    hooks: dict[str, Any] = {"progress": output.name, "on_step": stop if last else None}
    painted = paint(job, job.setup.painter(), photograph, **hooks)
    write(job, photograph, painted)
    return _compare(picture, output, made_by)


def _compare(picture: Path, output: Path, made_by: Mapping[str, Any]) -> int:
    import numpy as np

    from depthstyle.images import read_picture, read_recipe

    before, after = read_picture(picture), read_picture(output)
    if before.rgb.shape == after.rgb.shape and np.array_equal(before.rgb, after.rgb):
        print(f"wrote {output}, the same pixels as {picture}")
        return 0
    again = read_recipe(output) or {}
    print(
        f"wrote {output}, not the pixels of {picture}: that was made by {_maker(made_by)}, this by "
        f"{_maker(again)}; or a format lost some"
    )
    return EXIT_OTHER_PIXELS


def _maker(recipe: Mapping[str, Any]) -> str:
    """Say what the last bits of a picture depend on."""
    device, precision = recipe.get("device", "an unknown processor"), recipe.get("precision")
    return f"depthstyle {recipe.get('depthstyle')} on {device} in {precision or 'fp32'}"
