"""Builds the CUDA backend for the CPU: csrc/cuda against the emulator of this folder."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
C_SOURCES = ("base/alloc.c", "base/status.c", "core/resample.c", "ref/conv2d.c")
COMMON = ("-O1", "-g", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra")


def find_compiler() -> str | None:
    """Return a C++ compiler that knows C++20, or None."""
    return shutil.which("g++")


def build(folder: Path, sources: Path = ROOT / "csrc") -> Path:
    """Compile everything and return the library.

    Parameters
    ----------
    folder : path
        Where objects and library go.
    sources : path
        A tree like csrc; tests plant bugs in a copy of it.
    """
    kernels = [path for path in sorted((sources / "cuda").glob("*.cu")) if "cudnn" not in path.name]
    cxx = ["g++", "-std=c++20", "-x", "c++", "-Wno-missing-field-initializers"]
    jobs = [
        [*cxx, *COMMON, f"-I{HERE}", f"-I{sources}", "-c", str(path)]
        for path in [*kernels, *sorted(HERE.glob("*.cc"))]
    ]
    jobs += [
        ["gcc", "-std=gnu11", *COMMON, f"-I{sources}", "-c", str(sources / path)]
        for path in C_SOURCES
    ]
    objects = [str(folder / f"{index}.o") for index in range(len(jobs))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job, built: run([*job, "-o", built]), jobs, objects))
    library = folder / "libdepthstyle_cuda_emulated.so"
    run(["g++", "-shared", "-o", str(library), *objects])
    return library


def run(command: list[str]) -> None:
    """Run a compiler; its messages are the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "warning:" in done.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
