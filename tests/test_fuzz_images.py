"""A short run of the campaign in tests/fuzz/fuzz_images.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import fuzz_images


@pytest.mark.parametrize("kind", fuzz_images.KINDS)
def test_damaged_pictures_are_read_or_refused(kind):
    accepted, failures = fuzz_images.campaign(kind, 250)
    assert not failures
    assert (accepted == 250) if kind in ("exif", "icc") else (0 < accepted < 250)
