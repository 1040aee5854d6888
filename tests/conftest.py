"""What several test files need."""

import os
import signal
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


@pytest.fixture(scope="session")
def amx_module(tmp_path_factory):
    """The path of the engine built with the tiles of amx_emulator/."""
    from amx_emulator.build import CSRC, build, find_compiler

    from depthstyle import _core

    if not CSRC.is_dir():
        pytest.skip("the sources of the engine are not beside the tests")
    if find_compiler() is None:
        pytest.skip("no gcc to build the emulated tiles with")
    if "avx512_bf16" not in _core.cpu_levels():
        pytest.skip("what surrounds the tiles needs AVX512-BF16")
    return build(tmp_path_factory.mktemp("amx"))


@pytest.fixture(scope="session")
def amx_core(amx_module):
    """That engine."""
    from amx_emulator.build import load

    return load(amx_module)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Ctrl-C interrupts, also where a shell started us in the background and has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
