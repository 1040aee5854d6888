"""What holds for every method of stylize."""

import johnson_files
import numpy as np
import pytest

from depthstyle.methods import make_painter

FAST = johnson_files.weights("pytorch-examples")
COLOURS = {"black": (0, 0, 0), "white": (1, 1, 1), "blue": (0, 0, 1)}


@pytest.mark.filterwarnings("ignore:depth. is constant")
@pytest.mark.parametrize("method", ["gatys", "lapstyle", "adain", "da-adain", "fast"])
@pytest.mark.parametrize("content", COLOURS)
def test_pictures_of_one_colour(method, content):
    """Features without variance: finite results, and where there are losses finite losses."""
    flat = {name: np.full((24, 27, 3), colour, np.float32) for name, colour in COLOURS.items()}
    short = {"iterations": 3, "scales": 1, "tv_weight": 1.0}
    settings = {"gatys": short, "lapstyle": short, "fast": {"weights": FAST}}
    depth = np.full((24, 27), 0.5) if method == "da-adain" else None
    for style in [None] if method == "fast" else flat.values():
        styles = [] if style is None else [style]
        painter = make_painter(method, styles, **settings.get(method, {}))
        painted = painter.paint(flat[content], depth)
        assert np.isfinite(painted.image).all()
        assert painted.image.min() >= 0 and painted.image.max() <= 1
        for losses in (painted.losses or {}).values():
            assert np.isfinite(losses).all()
