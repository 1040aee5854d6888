"""Devices that are chosen, short of memory or lost, on the emulated GPU."""

import ctypes

import cuda_cases
import numpy as np
import pytest
import seeded
import stub_cuda

import depthstyle as ds
from depthstyle import _core, checkpoint, gatys

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
from depthstyle.objective import Engine
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
