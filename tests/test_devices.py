"""Devices by name, and what is said where a GPU cannot be used: driver and cuDNN are stand-ins."""

import re
import shutil

import pytest
import stub_cuda

from depthstyle import devices

if shutil.which("gcc") is None:
    pytest.skip("no gcc to build the stand-ins with", allow_module_level=True)

SCRIPT = """
import ctypes, sys, types
from pathlib import Path
sys.modules["cuda"] = None  # cuda-pathfinder would look elsewhere
from depthstyle import cli, devices
devices.LIBRARY = Path({library!r})
{before}
try:
    devices.choose("cuda")
except Exception as error:
    print(type(error).__name__, error)
print("auto is", devices.choose("auto"))
print("exit code", cli.main(["doctor"]))
"""
ADVICE = "run pip install nvidia-cudnn-cu13 cuda-pathfinder"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The backend's library as far as it can be read but not opened."""
    path = tmp_path_factory.mktemp("library") / "libdepthstyle_cuda.so"
    return stub_cuda.compile_stub(stub_cuda.LIBRARY, path)


def look(folder, library, before=""):
    """Ask for a GPU, for any device, and for the doctor's view."""
    done = stub_cuda.run(SCRIPT.format(library=str(library), before=before), folder)
    assert done.returncode == 0, done.stderr
    assert "exit code 0" in done.stdout and "verdict: the CPU is used" in done.stdout
    assert "auto is cpu" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ({"init": 999}, "the NVIDIA driver gives error 999 (STUB_ERROR); see nvidia-smi"),
        ({"gpus": 0}, "the NVIDIA driver finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ({"version": 12040}, "runs CUDA up to 12.4, this copy of depthstyle was built for 13.0"),
    ],
)
def test_a_driver_that_does_not_do(tmp_path, library, driver, said):
    stub_cuda.compile_driver(tmp_path, **driver)
    stub_cuda.compile_cudnn(tmp_path)
    out = look(tmp_path, library)
    assert "BackendUnavailable cuda: " in out and said in out


def test_no_driver(tmp_path, library):
    out = look(tmp_path, library, "devices._DRIVER = 'libnone.so.1'")
    assert "no NVIDIA driver (libnone.so.1) on this machine; use device='cpu'" in out


@pytest.mark.parametrize(
    ("cudnn", "said"),
    [
        (None, rf"cuDNN 9 is missing \(libnone.so.9: cannot open .*\); {ADVICE}"),
        ({"version": 90300}, rf"libcudnn.so.9 is cuDNN 9.3.0, at least 9.8.0 is needed; {ADVICE}"),
        ({"source": stub_cuda.ANYTHING}, f"undefined symbol: cudnnGetVersion; {ADVICE}"),
        ({}, rf"cuda: .*undefined symbol: cudnnCreate; {ADVICE}"),
    ],
)
def test_a_cudnn_that_does_not_do(tmp_path, library, cudnn, said):
    stub_cuda.compile_driver(tmp_path)
    if cudnn is not None:
        stub_cuda.compile_cudnn(tmp_path, **cudnn)
    out = look(tmp_path, library, "" if cudnn is not None else "devices._CUDNN = 'libnone.so.9'")
    line = next(line for line in out.splitlines() if line.startswith("BackendUnavailable"))
    assert re.search(said, line), line


def test_a_copy_that_is_loaded_already_is_taken(tmp_path, library):
    stub_cuda.compile_driver(tmp_path)
    stub_cuda.compile_cudnn(tmp_path, version=90900)
    (tmp_path / "loaded").mkdir()
    loaded = stub_cuda.compile_cudnn(tmp_path / "loaded")
    out = look(tmp_path, library, f"ctypes.CDLL({str(loaded)!r})")
    assert f"9.28.0 ({loaded})" in out


PATHFINDER = """
class DynamicLibNotFoundError(RuntimeError):
    pass
def load(name):
    {load}
sys.modules["cuda"] = types.ModuleType("cuda")
sys.modules["cuda"].pathfinder = types.SimpleNamespace(
    DynamicLibNotFoundError=DynamicLibNotFoundError, load_nvidia_dynamic_lib=load)
"""


def test_the_copy_of_an_installed_package_comes_before_the_systems(tmp_path, library):
    stub_cuda.compile_driver(tmp_path)
    stub_cuda.compile_cudnn(tmp_path, version=90900)
    (tmp_path / "package").mkdir()
    package = stub_cuda.compile_cudnn(tmp_path / "package")
    load = f"assert name == 'cudnn'; ctypes.CDLL({str(package)!r})"
    out = look(tmp_path, library, PATHFINDER.format(load=load))
    assert f"9.28.0 ({package})" in out


def test_what_cuda_pathfinder_says_is_passed_on(tmp_path, library):
    stub_cuda.compile_driver(tmp_path)
    load = "raise DynamicLibNotFoundError('no such file: libcudnn.so\\nsearched everywhere')"
    out = look(tmp_path, library, PATHFINDER.format(load=load))
    assert f"cuDNN 9 is missing (no such file: libcudnn.so); {ADVICE}" in out


def test_doctor_says_for_which_gpu_there_is_no_code(tmp_path, library):
    stub_cuda.compile_driver(tmp_path, capability=75)
    stub_cuda.compile_cudnn(tmp_path)
    out = look(tmp_path, library)
    assert "built for CUDA 13.0, compute capability 8.0, 9.0, 10.0 and later" in out
    gpu = "cuda:1       Stub 1, 80 GiB, compute capability 7.5"
    assert f"{gpu}, for which the library has no code" in out


@pytest.mark.parametrize(
    ("capability", "fits"),
    [(75, False), (80, True), (89, True), (90, True), (103, True), (120, True)],
)
def test_code_fits_later_gpus_of_a_generation_and_generations_after_the_last(capability, fits):
    assert devices.Build(13000, (80, 90, 100)).fits(devices.Gpu("", 0, capability)) is fits


def test_without_the_library_no_driver_is_asked(tmp_path):
    stub_cuda.compile_driver(tmp_path)
    script = """
from pathlib import Path
from depthstyle import devices
devices.LIBRARY = Path("nowhere.so")
print(devices.choose("auto"))
try:
    devices.choose("cuda")
except devices.BackendUnavailable as error:
    print(error)
"""
    done = stub_cuda.run(script, tmp_path)
    assert done.stdout.startswith("cpu\ncuda: this copy of depthstyle was built without it; with")
    assert "DEPTHSTYLE_CUDA=1 pip install ." in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:", "cuda:-1", "cuda:x", "cpu:1", 1, None])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match=r"device=.*: choose from auto, cpu, cuda, cuda:1"):
        devices.choose(name)
