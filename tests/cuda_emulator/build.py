"""Builds the CUDA backend for the CPU: csrc/cuda against the emulator of this folder."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).parent
C_SOURCES = ("base/alloc.c", "base/status.c", "core/resample.c", "ref/conv2d.c")
COMMON = ("-O1", "-g", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra")


def find_compiler() -> str | None:
    """Return a C++ compiler that knows C++20, or None."""
    return shutil.which("g++")


def build(folder: Path) -> Path:
    """Compile everything into a folder and return the library."""
    kernels = [path for path in sorted((CSRC / "cuda").glob("*.cu")) if "cudnn" not in path.name]
    sources = [*kernels, *sorted(HERE.glob("*.cc")), *(CSRC / path for path in C_SOURCES)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: compile_object(source, CSRC, folder), sources))
    return link(objects, folder)


def rebuild(folder: Path, csrc: Path, file: str, built: Path) -> Path:
    """Compile one file of a changed tree, link it with the others, and return the library.

    Parameters
    ----------
    folder : path
        Where object and library go.
    csrc : path
        The tree.
    file : str
        Name of the file in its folder cuda.
    built : path
        The folder of an earlier `build`.
    """
    others = [path for path in sorted(built.glob("*.o")) if path.name != f"{file}.o"]
    return link([compile_object(csrc / "cuda" / file, csrc, folder), *others], folder)


def compile_object(source: Path, csrc: Path, folder: Path) -> Path:
    """Compile a file with the headers of a tree."""
    c = ["gcc", "-std=gnu11"]
    cxx = ["g++", "-std=c++20", "-x", "c++", "-Wno-missing-field-initializers", f"-I{HERE}"]
    built = folder / f"{source.name}.o"
    command = c if source.suffix == ".c" else cxx
    run([*command, *COMMON, f"-I{csrc}", "-c", str(source), "-o", str(built)])
    return built


def link(objects: list[Path], folder: Path) -> Path:
    """Make the library of objects."""
    library = folder / "libdepthstyle_cuda_emulated.so"
    run(["g++", "-shared", "-o", str(library), *map(str, objects)])
    return library


def run(command: list[str]) -> None:
    """Run a compiler; its messages are the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "warning:" in done.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
