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


@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_arrays_of_pytorch_go_in_and_out_in_the_order_of_its_stream(layout):
    torch = pytest.importorskip("torch", reason="no PyTorch beside depthstyle")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    shape = (1, 3, 512, 640)
    graph = _core.Graph()
    x = graph.input("x", shape, kind="map")
    plan = graph.compile([graph.affine(x, scale=2, shift=1)], backend="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        array = torch.zeros(shape, device="cuda").to(memory_format=getattr(torch, layout))
        torch.cuda._sleep(10**8)  # who does not wait for the stream reads zeros
        array.normal_()
        (out,) = plan.run({"x": array}, output="device")
        expected = 2 * array + 1
        assert torch.equal(torch.from_dlpack(out), expected)
        assert torch.equal(torch.as_tensor(out, device="cuda"), expected)
