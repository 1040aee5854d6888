"""Devices that are chosen, short of memory or lost, on the emulated GPU."""

import ctypes
import re

import cuda_cases
import numpy as np
import pytest
import seeded
import stub_cuda

import depthstyle as ds
from depthstyle import _core, checkpoint, gatys, networks

CONTENT, STYLE = seeded.picture(1, 24, 28), seeded.picture(2, 24, 24)
SHORT = {"iterations": 4, "scales": 1, "size": 28, "optimizer": "adam", "precision": "fp32"}


@pytest.fixture(scope="module", autouse=True)
def library(emulated_library):
    """Load the emulated backend."""
    _core.load_cuda(emulated_library)
    return emulated_library


@pytest.fixture
def lose_device(library):
    """A function after which every call of CUDA fails, as after a kernel's illegal access."""
    lose = ctypes.CDLL(str(library)).emulator_lose_device
    yield lambda: lose(1)
    lose(0)


def test_a_gpu_is_taken_where_everything_is_there(tmp_path, library):
    stub_cuda.compile_driver(tmp_path)
    stub_cuda.compile_cudnn(tmp_path)
    script = f"""
import sys
from pathlib import Path
sys.modules["cuda"] = None
from depthstyle import cli, devices
from depthstyle.engine import Engine
devices.LIBRARY = Path({str(library)!r})
for device in ("auto", "cuda", "cpu"):
    print(device, "is", Engine(device).device, "and", Engine(device).recipe["device"])
cli.main(["doctor"])
"""
    done = stub_cuda.run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "auto is cuda:0 and Stub 0" in done.stdout
    assert "cuda is cuda:0 and Stub 0" in done.stdout
    assert "cpu is cpu and cpu " in done.stdout
    assert "convolution  a small one on cuda:0 is right" in done.stdout
    assert "verdict: the GPU cuda:0 is used" in done.stdout


def test_a_loaded_network_on_a_gpu():
    x = np.float32(CONTENT.transpose(2, 0, 1)[None])
    cpu, gpu = (
        networks.load("encoder", seeded.encoder_weights(), device=device)
        for device in ("cpu", "cuda")
    )
    y = cpu(x)
    assert "cuda:0, fp32" in gpu.device
    np.testing.assert_allclose(gpu(x), y, rtol=0, atol=1e-5 * np.abs(y).max())
    dx = cpu.gradient(x, y)
    np.testing.assert_allclose(gpu.gradient(x, y), dx, rtol=0, atol=1e-5 * np.abs(dx).max())


def test_a_gpu_that_is_not_there():
    with pytest.raises(ds.BackendUnavailable, match="choosing the GPU failed: invalid device ord"):
        ds.Session(CONTENT, STYLE, device="cuda:1")


def test_a_lost_device_is_told_by_every_call(lose_device):
    plan = cuda_cases.make_iteration(backend="cuda")
    image = plan.run(cuda_cases.RATE)[1]
    lose_device()
    calls = [
        lambda: plan.run(cuda_cases.RATE),
        lambda: plan.get("image"),
        lambda: plan.set("image", image),
        lambda: cuda_cases.make_iteration(backend="cuda"),
    ]
    for call in [*calls, *calls]:
        with pytest.raises(ds.DeviceLost, match=r"illegal memory access .* go on from that"):
            call()


def test_a_lost_device_leaves_the_last_checkpoint(lose_device, tmp_path):
    path = tmp_path / "run.checkpoint"
    session = ds.Session(CONTENT, STYLE, device="cuda", **SHORT)

    def lose_at_two(session):
        if session.iteration == 2:
            lose_device()

    saved = checkpoint.Checkpoints(path, seconds=0)
    with pytest.raises(ds.DeviceLost):
        gatys.run(session, checkpoints=saved, on_step=lose_at_two)
    again = ds.Session(CONTENT, STYLE, device="cpu", **SHORT)
    with pytest.warns(ds.ReproducibilityWarning, match="made with device"):
        again.resume(path)
    assert again.iteration == 2
    assert np.isfinite(again.step(2)).all()


SCARCE = """
import sys
sys.path[:0] = {paths!r}
import depthstyle as ds
import seeded
from depthstyle import _core
_core.load_cuda({library!r})
content, style = seeded.picture(1, 160, 120), seeded.picture(2, 40, 40)
def session(**size):
    settings = {{"depth": seeded.depth(160, 120), **{settings!r}, **size}}
    return ds.Session(content, style, device="cuda", **settings)
{script}
"""


def run_scarce(library, megabytes, script, **settings):
    """Run a script on a device with so much memory; `session` makes a session of 160x120 pixels."""
    paths = [str(stub_cuda.HERE)]
    settings = {"iterations": 2, "scales": 2, "precision": "fp32", **settings}
    text = SCARCE.format(paths=paths, library=str(library), settings=settings, script=script)
    limit = str(int(megabytes * 2**20))
    done = stub_cuda.run(text, stub_cuda.HERE, DEPTHSTYLE_EMULATED_BYTES=limit)
    assert done.returncode == 0, done.stderr
    return done.stdout


ASK = """
from depthstyle import estimates
try:
    session().step()
except ds.DeviceOutOfMemory as error:
    print(error)
    fitting = int(str(error).partition("use a size of ")[2].split()[0])
    for size in (fitting, int(fitting * 1.05)):
        needed = estimates.memory_of(session(size=size))[1]
        print(size, needed <= _core.cuda_memory(0)[0])
"""


@pytest.mark.parametrize("settings", [{}, {"style_masks": "sigmoid"}])
def test_a_run_that_does_not_fit_names_the_largest_size_that_does(library, settings):
    """It is the last of two scales that does not fit, and nothing was computed before."""
    out = run_scarce(library, 43, ASK, **settings)
    said, fits, too_large = out.splitlines()
    pattern = r"needs \d+ MiB of the GPU's memory, of which \d+ MiB are free; use a size of \d+ or "
    assert re.search(f"{pattern}less, or device='cpu'$", said)
    assert fits.endswith("True") and too_large.endswith("False")


def test_memory_that_other_programs_have(library):
    script = "try:\n    session().step()\nexcept MemoryError as error:\n    print(error)"
    out = run_scarce(library, 33, script)
    assert "MiB are free; end other programs that use it, or device='cpu'" in out


TILES = """
from depthstyle import methods
painter = methods.make_painter("adain", [style], style_size=None, device="cuda", precision="fp32")
for size in ((96, 96), (600, 400)):
    print(painter._autoencoder._choose_tile(size))
"""
STRIPS = """
import johnson_files
from depthstyle import methods
weights = johnson_files.weights("pytorch-examples")
painter = methods.make_painter("fast", [], weights=weights, device="cuda", precision="fp32")
print(painter._compile((96, 96)), painter._compile((800, 800)))
try:
    painter.paint(seeded.picture(1, 900, 900))
except ds.DeviceOutOfMemory as error:
    print(error)
"""


def test_a_network_takes_parts_of_a_picture_that_does_not_fit(library):
    assert run_scarce(library, 16, TILES) == "96\n256\n"
    fits, said = run_scarce(library, 28, STRIPS).splitlines()
    assert fits == "True False"
    assert said.startswith("content: 900x900 pixels need ") and "MiB more; use a size of" in said


def test_a_dry_plan_has_a_size_and_no_memory(library):
    before, _ = _core.cuda_memory(0)
    graph = _core.Graph()
    x = graph.input("x", (1, 64, 1024, 1024), kind="map")
    plan = graph.compile([graph.activation(x)], backend="cuda", dry=True)
    after, total = _core.cuda_memory(0)
    assert plan.bytes >= 256 << 20 > before - after
    assert after < total
    with pytest.raises(ValueError, match="was compiled dry"):
        plan.run()
