"""Short runs of campaigns on what users give: damaged pictures, odd arrays, bad parameters."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent / "reliability"))

import bombs
import fuzz_images
import parameters
import pictures


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
        (lambda: pictures.sizes(step=200), 90),
    ],
    ids=["cuts", "modes", "arrays", "sizes"],
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
