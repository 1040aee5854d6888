"""Registers, spills and shared memory of every CUDA kernel, as ptxas reports them.

    python bench/cuda_kernels.py > bench/results/cuda_kernels.md

Needs nvcc and c++filt; `--cudnn` names a folder with cuDNN's include, by default PyPI's package.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1] / "csrc"
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def report(source: Path, gpu: str, cudnn: Path) -> str:
    """Return what ptxas says of a file."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("-std=c++20", "-O3", f"-arch={gpu}", "-Xcompiler", "-fPIC", "-Xptxas", "-v")
        include = (f"-I{CSRC}", f"-I{cudnn}/include")
        done = subprocess.run(
            ["nvcc", *flags, *include, "-c", source, "-o", f"{folder}/x.o"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stderr


def readable(name: str) -> str:
    """Return the kernel's name without types of parameters."""
    full = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout
    full = re.sub(r"\(anonymous namespace\)::|\bvoid |_INTERNAL_\w+::|_GLOBAL__N_\w+::", "", full)
    return full.split("(")[0].strip()


def rows(source: Path, text: str) -> list[tuple[str, str, int, int, int]]:
    """Return file, kernel, registers, shared memory and spilled bytes of each kernel."""
    found, name, spilled = [], "", 0
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            name = entry[1]
        elif spills := SPILLS.search(line):
            spilled = int(spills[2]) + int(spills[3])
        elif (used := USED.search(line)) and name:
            shared = SHARED.search(line)
            shared_bytes = int(shared[1]) if shared else 0
            found.append((source.stem, readable(name), int(used[1]), shared_bytes, spilled))
            name = ""
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    installed = Path(sysconfig.get_paths()["purelib"], "nvidia", "cudnn")
    parser.add_argument("--cudnn", type=Path, default=installed)
    parser.add_argument("--gpu", default="sm_90")
    args = parser.parse_args()
    if shutil.which("nvcc") is None:
        sys.exit("nvcc: not found; install the CUDA Toolkit")
    sources = sorted((CSRC / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda source: report(source, args.gpu, args.cudnn), sources))
    table = [row for source, text in zip(sources, texts, strict=True) for row in rows(source, text)]
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    print(f"# Kernels of the CUDA backend on {args.gpu}\n")
    print(f"`python bench/cuda_kernels.py --gpu {args.gpu}`, nvcc ", end="")
    print(re.search(r"release (\S+),", version.stdout)[1])
    print("\n| file | kernel | registers | shared bytes | spilled bytes |")
    print("| --- | --- | --- | --- | --- |")
    for file, kernel, registers, shared, spilled in table:
        print(f"| {file} | `{kernel}` | {registers} | {shared} | {spilled} |")


if __name__ == "__main__":
    main()
