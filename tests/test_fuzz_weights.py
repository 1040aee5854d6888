"""A short run of the campaign in tests/fuzz/fuzz_weights.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import fuzz_weights

COUNT = 500


@pytest.mark.parametrize("name", fuzz_weights.READERS)
def test_damaged_files_are_read_or_refused(name):
    accepted, failures = fuzz_weights.campaign(name, COUNT)
    assert not failures
    assert accepted < COUNT


def test_right_files_are_accepted(tmp_path):
    for variable, numbers in (("x", 2), ("y", 3)):
        (tmp_path / variable).write_bytes(bytes(4 * numbers))
    for name, (reader, seeds) in fuzz_weights.READERS.items():
        for data in seeds():
            assert reader is None or fuzz_weights.check(name, data, tmp_path)
