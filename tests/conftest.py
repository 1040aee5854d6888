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


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory):
    """The CUDA backend, built for the emulator of cuda_emulator/."""
    from cuda_emulator.build import ROOT, build, find_compiler

    if not (ROOT / "csrc" / "cuda").is_dir():
        pytest.skip("the sources of the engine are not beside the tests")
    if find_compiler() is None:
        pytest.skip("no g++ to build the emulated backend with")
    return build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(autouse=True, scope="session")
def no_gpu():
    """What takes the device that there is takes the CPU; tests of a GPU ask for it."""
    from depthstyle import devices

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_has_gpu", lambda: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def empty_cache(tmp_path_factory):
    """No test depends on what the user has downloaded, or downloads anything itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTHSTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DEPTHSTYLE_OFFLINE", "1")
        yield
