"""The CUDA backend on a machine without a GPU: its kernels run in an emulator (cuda_emulator/).

Every op against float64, in fp32 and in bf16; recording and replay; device memory; and bugs that
are planted in a copy of the sources, which the emulator must find.
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import op_cases
import pytest
from cuda_emulator.build import ROOT, build, find_compiler
from method_cases import METHODS
from op_cases import EPS
from test_ops import Program, cases, reference

import depthstyle as ds
from depthstyle import _core

CASES = [*op_cases.CASES, *METHODS]
# Of the size sum|t| of an element: weights, a passing value and the result are rounded to bf16, by
# at most 2^-8 each (8 significant bits).
BF16_ERROR = 3 * 2.0**-8
IMAGE_CHANNELS = 4  # maps of up to so many stay in fp32

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


def narrow(array: np.ndarray) -> np.ndarray:
    """Round to bf16."""
    bits = array.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(array.dtype)


def is_half(shape: tuple[int, ...], kind: str) -> bool:
    """Return whether a tensor is stored as bf16 in that precision."""
    return kind == "map" and shape[1] > IMAGE_CHANNELS


@cases(CASES)
def test_value_in_fp32(case):
    inputs = case.inputs()
    expected = reference(case, inputs)
    (found,) = Program(case, inputs, backend="cuda")(inputs)
    bound = case.bound(inputs, lambda absolute: reference(case, absolute))
    assert found.shape == expected.shape
    assert (np.abs(found - expected) - bound).max() <= 0


@cases(CASES)
def test_value_in_bf16(case):
    inputs = [
        narrow(array) if is_half(operand.shape, operand.kind) else array
        for operand, array in zip(case.operands, case.inputs(), strict=True)
    ]
    expected = reference(case, inputs)
    program = Program(case, inputs, backend="cuda", precision="bf16")
    (found,) = program(inputs)
    if case.terms == 0 and is_half(expected.shape, program.node.kind):
        expected = narrow(expected)
    bound = case.bound(inputs, lambda absolute: reference(case, absolute))
    size = bound / ((4 * np.sqrt(case.terms) + 8) * EPS)
    assert (np.abs(found - expected) - bound - BF16_ERROR * size).max() <= 0


def make_iteration(**options):
    """Return a step of Adam on style, content and variation of a picture, ready to run."""
    rng = np.random.default_rng(5)
    graph = _core.Graph()
    image = graph.variable("image", rng.standard_normal((1, 3, 24, 20)).astype(np.float32))
    x, maps = image, []
    for channels, previous in ((16, 3), (32, 16)):
        weight = rng.standard_normal((channels, previous, 3, 3)) / np.sqrt(9 * previous)
        bias = rng.standard_normal((1, channels, 1, 1)) / 10
        x = graph.conv2d(x, graph.constant(weight), graph.constant(bias), pad=1)
        x = graph.activation(x)
        maps.append(x)
        x = graph.max_pool(x)
    loss = graph.total_variation(image, scale=1e-3)
    for y in maps:
        gram = graph.gram(y, scale=1 / (y.shape[2] * y.shape[3]))
        target = graph.constant(rng.standard_normal(gram.shape).astype(np.float32))
        loss = graph.add(loss, graph.feature_loss(gram, target, scale=1 / gram.shape[3]))
    (gradient,) = graph.gradient(loss, [image])
    state = [graph.variable(name, np.zeros(image.shape, np.float32)) for name in ("m", "v")]
    steps = graph.variable("steps", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
    rate = graph.input("rate", (1, 1, 1, 1), kind="plain")
    updated = graph.adam_update(image, *state, steps, gradient, rate)
    return graph.compile([loss, updated], check=[loss], **options)


RATE = {"rate": np.full((1, 1, 1, 1), 0.05, np.float32)}


@pytest.mark.parametrize("precision, limit", [("fp32", 1e-4), ("bf16", 0.02)])
def test_iterations_follow_the_reference(precision, limit):
    """Adam divides by the gradient's size, so that small differences grow from step to step."""
    found = make_iteration(backend="cuda", precision=precision)
    expected = make_iteration(backend="ref")
    for _ in range(5):
        loss, wanted = found.run(RATE)[0].item(), expected.run(RATE)[0].item()
        assert abs(loss - wanted) <= limit * abs(wanted)
    assert found.get("steps").item() == 5


def test_a_step_repeats_bit_for_bit():
    runs = []
    for _ in range(2):
        plan = make_iteration(backend="cuda", precision="bf16")
        runs.append([plan.run(RATE)[1].tobytes() for _ in range(3)])
    assert runs[0] == runs[1]


def test_updates_hold_still_where_a_loss_is_not_finite():
    plan = make_iteration(backend="cuda")
    good = plan.run(RATE)[1]
    bad = good.copy()
    bad[0, 1, 2, 3] = np.nan
    plan.set("image", bad)
    with pytest.raises(ds.NumericalError, match="image"):
        plan.run(RATE)
    assert plan.get("steps").item() == 1
    np.testing.assert_array_equal(plan.get("image"), bad)
    plan.set("image", good)
    assert np.isfinite(plan.run(RATE)[0]).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_session_paints_as_on_the_cpu(optimizer):
    """Three steps on pictures: all ops of the Gatys family, with a mask and a Laplacian loss."""
    rng = np.random.default_rng(2)
    content, style = rng.random((2, 40, 36, 3), np.float32)
    depth = np.linspace(0, 1, 40 * 36, dtype=np.float32).reshape(40, 36)
    settings = {"depth": depth, "style_masks": "sigmoid", "laplacian_weight": 1.0, "scales": 1}
    painted = {}
    for device in ("cuda", "cpu"):
        session = ds.Session(content, style, optimizer=optimizer, device=device, **settings)
        session.step(3)
        painted[device] = session.losses["total"], session.image
    # Flipped decisions of ReLU and max-pool move the gradient by about 1e-3.
    np.testing.assert_allclose(painted["cuda"][0], painted["cpu"][0], rtol=1e-3)
    assert np.abs(painted["cuda"][1] - painted["cpu"][1]).mean() < 1 / 255


SCARCE = """
import sys
sys.path[:0] = {paths!r}
import test_cuda_emulated as test
from depthstyle import _core
_core.load_cuda({library!r})
try:
    test.make_iteration(backend="cuda")
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
