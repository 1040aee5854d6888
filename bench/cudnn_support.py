"""Which convolutions cuDNN takes with their ends, asked without a GPU.

cuDNN plans for a description of a device (`devices/*.json`), so that its answers can be had on any
machine: for each convolution of a network, with the end that a method hangs on it, the number of
engines that are deterministic and fit. Where it has none, the backend asks for the convolution
alone and computes the end in a pass of its own; that is the second choice in the table.

    python bench/cudnn_support.py vgg19 adain johnson midas_small --device h200

Needs nvcc, a build with DEPTHSTYLE_CUDA=1, nvidia-cudnn-cu13 and nvidia-cuda-nvrtc. A library that
stands in for the driver is made from the names in cuda.h; it does nothing, and cuDNN only compiles.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "depthstyle" / "libdepthstyle_cuda.so"
FORWARD, BACKWARD_INPUT = 0, 1
IMAGE_CHANNELS = 4
SUCCEEDS = (
    *("cuLibraryLoadData", "cuLibraryGetKernel", "cuLibraryGetModule", "cuLibraryUnload"),
    *("cuKernelGetFunction", "cuKernelSetAttribute", "cuKernelGetAttribute"),
    *("cuFuncSetAttribute", "cuFuncGetAttribute", "cuModuleLoadData", "cuModuleLoadDataEx"),
    *("cuModuleGetFunction", "cuModuleUnload"),
)
"""What must not fail for a compiled kernel to count as loaded."""


class Shape(ctypes.Structure):
    """ds_shape."""

    _fields_ = [(name, ctypes.c_int64) for name in "nchw"]


class Problem(ctypes.Structure):
    """ds_conv_problem."""

    _fields_ = [
        ("direction", ctypes.c_int),
        *((name, Shape) for name in "xwy"),
        *((name, ctypes.c_int64) for name in ("stride", "pad", "dilation")),
        *((name, ctypes.c_bool) for name in ("half", "half_out", "tf32")),
        *((name, ctypes.c_bool) for name in ("bias", "addend", "relu", "gate")),
    ]


def make_driver(folder: Path) -> Path:
    """Build a libcuda.so.1 whose functions do nothing."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        sys.exit("nvcc: not found; its folder has cuda.h, which names the driver's functions")
    rule = subprocess.run(
        [nvcc, "-M", "-x", "cu", "-include", "cuda.h", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    header = Path(re.search(r"\S+/cuda\.h\b", rule)[0]).read_text()
    # Before the preprocessor, which renames functions to their newest versions.
    names = set(re.findall(r"\b(cu[A-Z]\w+)\b", header))
    names |= {f"{name}_{suffix}" for name in names for suffix in ("v2", "v3", "ptsz")}
    lines = ["int cuInit(unsigned flags) { return (void)flags, 0; }"]
    lines.append("int cuDriverGetVersion(int *version) { return *version = 13000, 0; }")
    for name in sorted(names - {"cuInit", "cuDriverGetVersion"}):
        gives = "Load" in name or ("Get" in name and "Attribute" not in name)
        if name in SUCCEEDS and gives:
            lines.append(f"int {name}(void **made) {{ return *made = (void *)8, 0; }}")
        else:
            lines.append(f"int {name}(void) {{ return {0 if name in SUCCEEDS else 100}; }}")
    source, library = folder / "driver.c", folder / "libcuda.so.1"
    source.write_text("\n".join(lines))
    command = ["gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*command, "-o", library, source], check=True)
    return library


def load(folder: Path, packages: Path) -> ctypes.CDLL:
    """Load the stand-in driver, NVRTC, cuDNN and our library, in this order."""
    everywhere = ctypes.RTLD_GLOBAL
    ctypes.CDLL(str(make_driver(folder)), mode=everywhere)
    for pattern in ("*/lib/libnvrtc.so.1[0-9]", "cudnn/lib/libcudnn.so.9"):
        for path in sorted((packages / "nvidia").glob(pattern)):
            ctypes.CDLL(str(path), mode=everywhere)
    library = ctypes.CDLL(str(LIBRARY))
    library.depthstyle_cuda_count_engines.argtypes = [
        *(ctypes.POINTER(Problem), ctypes.c_char_p, ctypes.c_int64, ctypes.c_int)
    ]
    return library


def in_eights(channels: int) -> int:
    """Return channels as the backend pads them for tensor cores."""
    return -(-channels // 8) * 8


def problems(network: str, precision: str) -> Iterator[tuple[str, Problem]]:
    """Yield name and problem of each convolution, forward and, for VGG19, backward."""
    half = precision == "bf16"
    for line in (HERE / "shapes" / f"{network}.txt").read_text().splitlines():
        if line.startswith("#") or "count" in line:
            continue
        _, c, h, w, o, kernel, stride, groups, before, after = map(int, line.split()[:10])
        up, reflect = int(line.split()[11]), line.split()[10] == "reflect"
        pad = before if before == after and not reflect else 0
        h, w = (size * up + (0 if pad else before + after) for size in (h, w))
        large = half and o > IMAGE_CHANNELS
        if half and groups == 1:
            c, o = in_eights(c), in_eights(o)
        y = tuple((size + 2 * pad - kernel) // stride + 1 for size in (h, w))
        shapes = Shape(1, c, h, w), Shape(o, c // groups, kernel, kernel), Shape(1, o, *y)
        name = f"{c} to {o}, {kernel}x{kernel}" + (f"/{stride}" if stride > 1 else "") + f", {h}"
        common = (*shapes, stride, pad, 1, half)
        tf32 = precision == "tf32"
        yield f"{name}: bias, ReLU", Problem(FORWARD, *common, large, tf32, 1, 0, 1, 0)
        if network == "vgg19":
            yield f"{name}: back, gate", Problem(BACKWARD_INPUT, *common, half, tf32, 0, 0, 0, 1)
            both = Problem(BACKWARD_INPUT, *common, half, tf32, 0, 1, 0, 1)
            yield f"{name}: back, addend, gate", both


def count(library: ctypes.CDLL, problem: Problem, device: bytes, most: int = 1) -> int:
    """Return how many engines cuDNN has, at most `most`."""
    return library.depthstyle_cuda_count_engines(ctypes.byref(problem), device, len(device), most)


def choice(library: ctypes.CDLL, problem: Problem, device: bytes) -> str:
    """Return "fused", "end apart", or "none"."""
    if count(library, problem, device) > 0:
        return "fused"
    alone = Problem.from_buffer_copy(problem)
    alone.bias = alone.addend = alone.relu = alone.gate = False
    return "end apart" if count(library, alone, device) > 0 else "none"


def main() -> None:
    """Print one line per convolution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", help="lists of bench/shapes")
    parser.add_argument("--device", action="append", help="a100, h200 or b200; default: all")
    parser.add_argument("--precision", action="append", help="bf16, tf32 or fp32; default: bf16")
    parser.add_argument(
        "--packages",
        type=Path,
        default=Path(sysconfig.get_paths()["purelib"]),
        help="the site-packages with nvidia/",
    )
    args = parser.parse_args()
    devices = args.device or ["a100", "h200", "b200"]
    descriptions = [(HERE / "devices" / f"{name}.json").read_bytes() for name in devices]
    with tempfile.TemporaryDirectory() as folder:
        library = load(Path(folder), args.packages)
        for precision in args.precision or ["bf16"]:
            for network in args.networks:
                print(f"\n| {network}, {precision} | {' | '.join(devices)} |")
                print(f"| --- |{' --- |' * len(devices)}", flush=True)
                for name, problem in problems(network, precision):
                    found = [choice(library, problem, device) for device in descriptions]
                    print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
