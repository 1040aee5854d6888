"""cuDNN takes the convolutions that the CUDA backend builds, asked without a GPU.

bench/cudnn_support.py says how, and writes the whole table; here is a convolution of each kind.
"""

import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bench" / "cudnn_support.py"
PACKAGES = Path(sysconfig.get_paths()["purelib"])
INSTALLED = PACKAGES / "depthstyle" / "libdepthstyle_cuda.so"

if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
if not INSTALLED.is_file():
    pytest.skip("depthstyle is installed without its CUDA backend", allow_module_level=True)
if shutil.which("nvcc") is None or not (PACKAGES / "nvidia" / "cudnn").is_dir():
    pytest.skip("no nvcc or no nvidia-cudnn-cu13", allow_module_level=True)

spec = importlib.util.spec_from_file_location("cudnn_support", SCRIPT)
support = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = support
spec.loader.exec_module(support)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The backend's library beside a driver that does nothing."""
    support.LIBRARY = INSTALLED
    return support.load(tmp_path_factory.mktemp("driver"), PACKAGES)


@pytest.fixture(scope="module")
def h200():
    return (ROOT / "bench" / "devices" / "h200.json").read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "tf32", "fp32"])
@pytest.mark.parametrize("end", ["bias, ReLU", "back, gate", "back, addend, gate"])
def test_every_end_of_a_gatys_iteration_has_an_engine(library, h200, end, precision):
    """Without tensor cores the end may be a pass of its own."""
    name = f"64 to 128, 3x3, 256: {end}"
    problem = dict(support.problems("vgg19", precision))[name]
    allowed = {"fused"} if precision == "bf16" else {"fused", "end apart"}
    assert support.choice(library, problem, h200) in allowed


@pytest.mark.parametrize("network", ["johnson", "adain", "midas_small"])
def test_the_first_and_last_convolution_of_a_network(library, h200, network):
    every = list(support.problems(network, "bf16"))
    for _, problem in (every[0], every[-1]):
        assert support.choice(library, problem, h200) in ("fused", "end apart")


def test_a_device_that_is_described_wrongly_is_told_apart(library):
    problem = next(support.problems("vgg19", "bf16"))[1]
    assert support.count(library, problem, b"{}") == -1
