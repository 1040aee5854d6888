"""Short runs of campaigns on what users give: damaged pictures, odd arrays, bad parameters."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent / "reliability"))

import bombs
import fuzz_images
import parameters
import pictures

from depthstyle.methods import make_painter


@pytest.mark.parametrize("kind", fuzz_images.KINDS)
def test_damaged_pictures_are_read_or_refused(kind):
    accepted, failures = fuzz_images.campaign(kind, 250)
    assert not failures
    assert (accepted == 250) if kind in ("exif", "icc") else (0 < accepted < 250)


def test_bombs_are_refused_without_memory():
    rows = bombs.measure()
    assert len(rows) >= 20
    small = {"png pixels": "read (17, 13, 3)"}
    for name, _, mebibytes, result in rows:
        assert mebibytes < bombs.MEBIBYTES, name
        assert result == small.get(name) or result.startswith("ImageError"), name


@pytest.mark.parametrize(
    ("part", "least"),
    [
        (lambda: pictures.cuts(count=9), 400),
        (pictures.modes, 90),
        (lambda: pictures.arrays(count=1500), 1500),
        (lambda: pictures.depths(count=600), 600),
        (lambda: pictures.sizes(step=200), 90),
    ],
    ids=["cuts", "modes", "arrays", "depths", "sizes"],
)
def test_parts(part, least):
    tried, failures = pictures.failures(part())
    assert not failures
    assert tried >= least


@pytest.mark.parametrize("method", ["gatys", "da-adain", "fast"])
def test_every_parameter_is_used_or_refused_by_name(method):
    tried, failures = pictures.failures(parameters.cases((method,)))
    assert not failures
    assert tried > 100


COLOURS = {"black": (0, 0, 0), "white": (1, 1, 1), "blue": (0, 0, 1)}


@pytest.mark.parametrize("method", ["gatys", "lapstyle", "adain", "da-adain", "fast"])
@pytest.mark.parametrize("content", COLOURS)
def test_pictures_of_one_colour(method, content):
    """Features without variance: finite results, and where there are losses finite losses."""
    flat = {name: np.full((24, 27, 3), colour, np.float32) for name, colour in COLOURS.items()}
    short = {"iterations": 3, "scales": 1, "tv_weight": 1.0}
    settings = {"gatys": short, "lapstyle": short, "fast": {"weights": parameters.FAST}}
    depth = np.full((24, 27), 0.5) if method == "da-adain" else None
    for style in [None] if method == "fast" else flat.values():
        styles = [] if style is None else [style]
        painter = make_painter(method, styles, **settings.get(method, {}))
        painted = painter.paint(flat[content], depth)
        assert np.isfinite(painted.image).all()
        assert painted.image.min() >= 0 and painted.image.max() <= 1
        for losses in (painted.losses or {}).values():
            assert np.isfinite(losses).all()
