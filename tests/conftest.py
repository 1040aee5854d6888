"""What several test files need."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared():
    """The folder of real material beside the checkout; a test that needs it is skipped without."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("DEPTHSTYLE_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder
