"""The CUDA backend on an NVIDIA GPU: the tests of cuda_cases.py on the library that was built."""

import pytest
from cuda_cases import (  # noqa: F401
    RATE,
    make_iteration,
    repeated_steps,
    test_a_recorded_step_is_the_direct_one,
    test_a_session_paints_as_on_the_cpu,
    test_arrays_come_back_whole,
    test_convolution_of_integers_is_exact,
    test_iterations_follow_the_reference,
    test_updates_hold_still_where_a_loss_is_not_finite,
    test_value_in_bf16,
    test_value_in_fp32,
    test_value_in_tf32,
)
from repeat_cases import (  # noqa: F401
    test_poll_ends_a_repeated_run_before_it_starts,
    test_repeat_goes_on_where_other_runs_ended,
    test_repeat_holds_still_from_the_first_loss_that_is_not_finite,
    test_repeat_is_as_many_single_runs,
    test_repeat_names_bad_arguments,
)

import depthstyle as ds
from depthstyle import _core, devices

try:
    GPU = devices.find_driver().gpus[0]
except ds.BackendUnavailable as error:
    pytest.skip(f"no NVIDIA GPU: {error}", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def library():
    """Load the library that was built; other tests of this process may have loaded the emulator."""
    devices.load_cudnn()
    _core.load_cuda(devices.LIBRARY)


@pytest.fixture
def place():
    return {"backend": "cuda"}


def test_fifty_steps_repeat_bit_for_bit():
    """Plans made anew choose the same kernels, and those sum in the same order."""
    assert len(repeated_steps(plans=5, runs=10)) == 1


def test_too_little_memory_is_said_before_the_first_run():
    graph = _core.Graph()
    x = graph.input("x", (1, 1 << 10, 1 << 15, 1 << 15), kind="map")
    with pytest.raises(MemoryError, match="the device has not the"):
        graph.compile([graph.sum_to(graph.activation(x))], backend="cuda")
