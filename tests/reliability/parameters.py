"""Every parameter of every method with values that nobody should give.

    python tests/reliability/parameters.py

A value is either used, and then the result is finite, or refused by a ValueError that names the
parameter, or it asks for more memory than there is.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import johnson_files
import seeded
from campaign import main, report

from depthstyle.adain import AdainPainter, DepthAdainPainter
from depthstyle.errors import NumericalError
from depthstyle.feedforward import FastPainter
from depthstyle.methods import make_painter
from depthstyle.presets import Preset
from depthstyle.session import Session

CONTENT, STYLE, DEPTH = seeded.picture(1, 28, 33), seeded.picture(2, 30, 32), seeded.depth(28, 33)
FAST = johnson_files.weights("pytorch-examples")
VALUES = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "-infinity": float("-inf"),
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "half": 0.5,
    "true": True,
    "word": "sideways",
    "empty": "",
    "list": [],
    "list of NaN": [float("nan")],
    "list of words": ["sideways", None],
    "mapping": {"sideways": 1},
    "mapping of NaN": {"relu1_1": float("nan")},
    "object": object(),
    "bytes": b"1",
    "array of NaN": np.full((28, 33), np.nan),
    "1e300": 1e300,
    "huge": 10**9,
}
NOT_GIVEN = {"self", "content", "styles", "options", "settings", "extra"}
ENDLESS = {"iterations", "scales"}


def parameters() -> Iterator[tuple[str, str]]:
    """Yield every method and parameter."""
    family = {*inspect.signature(Session).parameters, *(f.name for f in dataclasses.fields(Preset))}
    family -= {"name", "network"}
    of_method = {
        "gatys": family,
        "lapstyle": family,
        "adain": set(inspect.signature(AdainPainter).parameters),
        "da-adain": {
            *inspect.signature(AdainPainter).parameters,
            *inspect.signature(DepthAdainPainter).parameters,
        },
        "fast": set(inspect.signature(FastPainter).parameters),
    }
    for method, names in of_method.items():
        for name in sorted(names - NOT_GIVEN):
            yield method, name


def attempt(method: str, parameter: str, name: str, value: object) -> str | None:
    """Paint with a value; return what is wrong with what happened."""
    settings = {"iterations": 1, "scales": 1} if method in ("gatys", "lapstyle") else {}
    settings |= {"weights": FAST} if method == "fast" else {}
    depth = DEPTH if method not in ("adain", "fast") else None
    if parameter == "depth":
        depth = value
    else:
        settings[parameter] = value
    try:
        painter = make_painter(method, [] if method == "fast" else [STYLE], **settings)
        image = painter.paint(CONTENT, depth).image
    except (ValueError, ArithmeticError) as error:
        words = [parameter, parameter.replace("style_masks", "mask"), str(value)]
        words += ["layer"] if "layers" in parameter else []
        words += ["above the limit of"] if name == "huge" else []
        # a weight that is too large for the precision shows in the loss
        words += ["the weights"] if isinstance(error, NumericalError) else []
        if not any(word in str(error) for word in words):
            return f"does not name it: {type(error).__name__}: {error}"
        return None
    except MemoryError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if np.isfinite(image).all() else "the result is not finite"


def cases(count: int) -> Iterator[str | None]:
    """Try one in so many pairs of parameter and value."""
    pairs = itertools.product(parameters(), VALUES.items())
    for number, ((method, parameter), (name, value)) in enumerate(pairs):
        if number % count == 0 and not (name == "huge" and parameter in ENDLESS):
            wrong = attempt(method, parameter, name, value)
            yield None if wrong is None else f"{method} {parameter}={name}: {wrong}"


def every_parameter(count: int, folder: Path) -> str:
    """Try one in so many pairs of parameter and value."""
    return report(cases(count))


if __name__ == "__main__":
    main({every_parameter: 1})
