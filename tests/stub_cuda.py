"""Libraries that stand in for the NVIDIA driver and for cuDNN, compiled by the tests."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

DRIVER = """
#include <stdio.h>
__attribute__((constructor)) static void tell(void) { fputs("driver loaded\\n", stderr); }
int cuInit(unsigned flags) { return (void)flags, INIT; }
int cuDriverGetVersion(int *version) { return *version = VERSION, 0; }
int cuDeviceGetCount(int *count) { return *count = GPUS, 0; }
int cuGetErrorName(int error, const char **name) { return (void)error, *name = "STUB_ERROR", 0; }
int cuDeviceGetName(char *name, int size, int gpu)
{
    return snprintf(name, size, "Stub %d", gpu), 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int gpu) { return (void)gpu, *bytes = 80ul << 30, 0; }
int cuDeviceGetAttribute(int *value, int attribute, int gpu)
{
    return (void)gpu, *value = attribute == 75 ? CAPABILITY / 10 : CAPABILITY % 10, 0;
}
"""
CUDNN = "unsigned long cudnnGetVersion(void) { return VERSION; }"
ANYTHING = "int anything(void) { return 0; }"
LIBRARY = """
extern int cudnnCreate(void *handle);
const char depthstyle_cuda_build[] = "depthstyle built for CUDA 13000, GPUs 800,900,1000";
int depthstyle_cuda_create(void) { return cudnnCreate(0); }
"""


def compile_stub(source: str, path: Path, **macros: int) -> Path:
    """Compile a shared library."""
    file = path.with_suffix(".c")
    file.write_text(source)
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    name = f"-Wl,-soname,{path.name}"
    command = ["gcc", "-shared", "-fPIC", *defines, str(file), "-o", str(path), name]
    subprocess.run(command, check=True)
    return path


def compile_driver(
    folder: Path, init: int = 0, version: int = 13000, gpus: int = 2, capability: int = 90
) -> Path:
    """Compile a driver that gives these answers."""
    path = folder / "libcuda.so.1"
    answers = {"INIT": init, "VERSION": version, "GPUS": gpus, "CAPABILITY": capability}
    return compile_stub(DRIVER, path, **answers)


def compile_cudnn(folder: Path, version: int = 92800, source: str = CUDNN) -> Path:
    """Compile a cuDNN that has no more than a version."""
    return compile_stub(source, folder / "libcudnn.so.9", VERSION=version)


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code where the libraries of a folder are found first."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
