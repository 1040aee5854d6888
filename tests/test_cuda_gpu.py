"""The CUDA backend on an NVIDIA GPU: all tests that the emulator runs, on the built library."""

import cuda_cases
import pytest
from cuda_cases import *  # noqa: F403
from repeat_cases import *  # noqa: F403

import depthstyle as ds
from depthstyle import _core, devices

try:
    devices.find_driver()
except ds.BackendUnavailable as error:
    pytest.skip(f"no NVIDIA GPU: {error}", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    """Load the library that was built; other tests of this process may have loaded the emulator."""
    devices.load_cudnn()
    _core.load_cuda(devices.LIBRARY, tmp_path_factory.mktemp("plans"))


@pytest.fixture
def place():
    return {"backend": "cuda"}


def test_fifty_steps_repeat_bit_for_bit():
    """Plans made anew choose the same kernels, and those sum in the same order."""
    assert len(cuda_cases.repeated_steps(plans=5, runs=10)) == 1


def test_too_little_memory_is_said_before_the_first_run():
    graph = _core.Graph()
    x = graph.input("x", (1, 1 << 10, 1 << 15, 1 << 15), kind="map")
    with pytest.raises(MemoryError, match="the device has not the"):
        graph.compile([graph.sum_to(graph.activation(x))], backend="cuda")
