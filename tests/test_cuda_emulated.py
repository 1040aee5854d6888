"""The CUDA backend on a machine without a GPU: its kernels run in an emulator (cuda_emulator/).

Every op against float64, in fp32 and in bf16; recording and replay; device memory; and bugs that
are planted in a copy of the sources, which the emulator must find.
"""

import os
import shutil
import subprocess
import sys

import pytest
from cuda_cases import (  # noqa: F401
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
from cuda_emulator.build import ROOT, build, find_compiler
from repeat_cases import (  # noqa: F401
    test_poll_ends_a_repeated_run_before_it_starts,
    test_repeat_goes_on_where_other_runs_ended,
    test_repeat_holds_still_from_the_first_loss_that_is_not_finite,
    test_repeat_is_as_many_single_runs,
    test_repeat_names_bad_arguments,
)

import depthstyle as ds
from depthstyle import _core

if not (ROOT / "csrc" / "cuda").is_dir():
    pytest.skip("the sources of the engine are not beside the tests", allow_module_level=True)
if find_compiler() is None:
    pytest.skip("no g++ to build the emulated backend with", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    """Build the emulated backend and load it."""
    path = build(tmp_path_factory.mktemp("cuda"))
    _core.load_cuda(path)
    return path


@pytest.fixture
def place():
    return {"backend": "cuda"}


def test_a_step_repeats_bit_for_bit():
    assert len(repeated_steps(plans=2, runs=3)) == 1


SCARCE = """
import sys
sys.path[:0] = {paths!r}
import cuda_cases
from depthstyle import _core
_core.load_cuda({library!r})
try:
    cuda_cases.make_iteration(backend="cuda")
except MemoryError as error:
    print("refused:", error)
"""


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_too_little_device_memory_is_said_before_the_first_run(library):
    script = SCARCE.format(paths=[str(ROOT / "tests")], library=str(library))
    done = run_script(script, DEPTHSTYLE_EMULATED_BYTES="100000")
    assert done.returncode == 0, done.stderr
    assert "refused: the device has not the" in done.stdout


def test_a_library_of_another_kind_is_refused(tmp_path):
    text = tmp_path / "library.so"
    text.write_text("no library")
    with pytest.raises(ds.BackendUnavailable, match="cuda: "):
        _core.load_cuda(text)


PLANTED = {
    "barrier": (
        "device.h",
        "    shared[threadIdx.x] = value;\n    __syncthreads();",
        "    shared[threadIdx.x] = value;",
        "sum_to",
    ),
    "index": (
        "device.h",
        "tree[(row * DS_MAP_LANES + lane) * K + j] = sums[j];",
        "tree[(row * DS_MAP_LANES + lane) * K + j + 1] = sums[j];",
        "moments",
    ),
    "tail": ("device.h", "i < count; i += step", "i < count - 1; i += step", "affine"),
    "overrun": ("device.h", "i < count; i += step", "i < count + 1; i += step", "affine"),
}
FOUND_BY = ("AssertionError", "cuda emulator: ", "wrote behind its output")
USES_BUG = """
import sys
sys.path[:0] = {paths!r}
import numpy as np
import test_ops as test
from depthstyle import _core
_core.load_cuda({library!r})
for case in [case for case in test.CASES if case.op == {op!r}]:
    inputs = case.inputs()
    expected = test.reference(case, inputs)
    bound = case.bound(inputs, lambda absolute: test.reference(case, absolute))
    (found,) = test.Program(case, inputs, backend="cuda")(inputs)
    assert (np.abs(found - expected) - bound).max() <= 0
print("nothing found")
"""


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_found(bug, tmp_path):
    file, right, wrong, op = PLANTED[bug]
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    changed = tmp_path / "csrc" / "cuda" / file
    text = changed.read_text()
    assert text.count(right) == 1
    changed.write_text(text.replace(right, wrong))
    keep = {"arithmetic.cu", "moments.cu", "backend.cu", "conv2d.cu"}
    table = changed.with_name("kernels.def")
    for path in table.parent.glob("*.cu"):
        if path.name not in keep:
            path.unlink()
    ops = ("add", "multiply", "affine", "sum_to", "broadcast", "moments", "conv2d")
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if line.split(",")[0][7:].startswith(ops)))
    library = build(tmp_path, tmp_path / "csrc")
    paths = [str(ROOT / "tests")]
    done = run_script(USES_BUG.format(paths=paths, library=str(library), op=op))
    assert done.returncode != 0, done.stdout
    assert any(said in done.stderr for said in FOUND_BY), done.stderr
