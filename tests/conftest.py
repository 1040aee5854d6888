"""What several test files need."""

import os
from pathlib import Path

import pytest

pytest.register_assert_rewrite("cuda_cases")


@pytest.fixture(scope="session")
def shared():
    """The folder of real material beside the checkout; a test that needs it is skipped without."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("DEPTHSTYLE_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder


@pytest.fixture(autouse=True, scope="session")
def empty_cache(tmp_path_factory):
    """No test depends on what the user has downloaded, or downloads anything itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTHSTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DEPTHSTYLE_OFFLINE", "1")
        yield
