"""The CUDA backend on a machine without a GPU: its kernels run in an emulator (cuda_emulator/).

Every op against float64, in fp32 and in bf16; recording and replay; device memory; and bugs that
are planted in a copy of the sources, which the emulator must find.
"""

import importlib
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
    test_images_count_with_16_bits,
    test_iterations_follow_the_reference,
    test_lbfgs_goes_on_from_its_state_on_and_off_the_gpu,
    test_lbfgs_steps_as_on_the_host,
    test_several_iterations_in_one_go_are_single_ones,
    test_updates_hold_still_where_a_loss_is_not_finite,
    test_value_in_bf16,
    test_value_in_fp32,
    test_value_in_tf32,
)
from cuda_emulator.build import ROOT, rebuild
from repeat_cases import (  # noqa: F401
    test_poll_ends_a_repeated_run_before_it_starts,
    test_repeat_goes_on_where_other_runs_ended,
    test_repeat_holds_still_from_the_first_loss_that_is_not_finite,
    test_repeat_is_as_many_single_runs,
    test_repeat_names_bad_arguments,
)

import depthstyle as ds
from depthstyle import _core

MOST_LAUNCHES = 80


@pytest.fixture(scope="module", autouse=True)
def library(emulated_library):
    """Load the emulated backend."""
    _core.load_cuda(emulated_library)
    return emulated_library


@pytest.fixture
def place():
    return {"backend": "cuda"}


def test_a_step_repeats_bit_for_bit():
    assert len(repeated_steps(plans=2, runs=3)) == 1


def test_an_iteration_of_gatys_is_one_graph_of_few_launches(library):
    """Convolutions and pools are 34 of them, each style layer adds six."""
    assert load_bench("cuda_kernels").count_launches(library) <= MOST_LAUNCHES


def load_bench(name):
    """Import a script of bench/ that runs in its own folder."""
    folder = ROOT / "bench"
    if not folder.is_dir():
        pytest.skip("the benchmarks are not beside the tests")
    sys.path.append(str(folder))
    return importlib.import_module(name)


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


# The file that gets the bug, what is changed in it, the file of the kernels run, and their op.
PLANTED = {
    "barrier": (
        "device.h",
        "    shared[threadIdx.x] = value;\n    __syncthreads();",
        "    shared[threadIdx.x] = value;",
        "arithmetic.cu",
        "sum_to",
    ),
    "index": (
        "device.h",
        "tree[(row * DS_MAP_LANES + lane) * K + j] = sums[j];",
        "tree[(row * DS_MAP_LANES + lane) * K + j + 1] = sums[j];",
        "moments.cu",
        "moments",
    ),
    "tail": (
        "device.h",
        "i < count; i += step",
        "i < count - 1; i += step",
        "arithmetic.cu",
        "affine",
    ),
    "overrun": (
        "device.h",
        "i < count; i += step",
        "i < count + 1; i += step",
        "arithmetic.cu",
        "affine",
    ),
    "barrier of a stage": (
        "gram.cu",
        "        ds_copy_wait<GRAM_STAGES - 2>();\n        __syncthreads();\n",
        "        ds_copy_wait<GRAM_STAGES - 2>();\n",
        "gram.cu",
        "gram",
    ),
    "wait for a stage": (
        "gram.cu",
        "ds_copy_wait<GRAM_STAGES - 2>();",
        "ds_copy_wait<GRAM_STAGES - 1>();",
        "gram.cu",
        "gram",
    ),
    "wait for the last copies": (
        "gram.cu",
        "    ds_copy_wait<0>(); /* of zeros behind the last stage */\n",
        "",
        "gram.cu",
        "gram_backward",
    ),
    "index in a tile": (
        "tile.h",
        "return at(row + (down ? second : third) + lane % 8,",
        "return at(row + (down ? second : third) + lane % 8 + 1,",
        "gram.cu",
        "gram",
    ),
    "diagonal": ("gram.cu", "i < size && c <= r;", "i < size && c < r;", "gram.cu", "gram"),
}
FOUND_BY = ("AssertionError", "cuda emulator: ", "wrote behind its output")
USES_BUG = """
import sys
sys.path[:0] = {paths!r}
import cuda_cases as test
from depthstyle import _core
_core.load_cuda({library!r})
for case in [case for case in test.CASES if case.op == {op!r}]:
    test.test_value_in_fp32(case)
    test.test_value_in_bf16(case)
print("nothing found")
"""


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_found(bug, emulated_library, tmp_path):
    file, right, wrong, kernels, op = PLANTED[bug]
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    changed = tmp_path / "csrc" / "cuda" / file
    text = changed.read_text()
    assert text.count(right) == 1
    changed.write_text(text.replace(right, wrong))
    library = rebuild(tmp_path, tmp_path / "csrc", kernels, emulated_library.parent)
    paths = [str(ROOT / "tests")]
    done = run_script(USES_BUG.format(paths=paths, library=str(library), op=op))
    assert done.returncode != 0, done.stdout
    assert any(said in done.stderr for said in FOUND_BY), done.stderr
