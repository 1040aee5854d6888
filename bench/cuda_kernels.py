"""Registers, spills and shared memory of every CUDA kernel, and the launches of an iteration.

    python bench/cuda_kernels.py > bench/results/cuda_kernels.md

Needs nvcc, whose ptxas reports the former, and c++filt; `--cudnn` names a folder with cuDNN's
include, by default PyPI's package. Launches are counted in the emulator of the tests, which needs
g++; a convolution counts as one.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gatys_problem import CHANNELS, CONTENT, PLAN, STYLES

from depthstyle import _core

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
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


def features(graph: _core.Graph, image: _core.Node, narrow: int) -> dict[str, _core.Node]:
    """Add VGG19 to relu5_1 with a part of its channels and return the feature maps."""
    random = np.random.default_rng(19)
    maps, x = {}, image
    for name in PLAN:
        if name == "pool":
            x = graph.max_pool(x)
            continue
        after = CHANNELS[name[4]] // narrow
        scale = np.float32(np.sqrt(2 / (9 * x.shape[1])))
        weight = scale * random.standard_normal((after, x.shape[1], 3, 3), np.float32)
        bias = graph.constant(np.zeros((1, after, 1, 1), np.float32))
        x = graph.activation(graph.conv2d(x, graph.constant(weight), bias, pad=1))
        maps[name] = x
    return maps


def weighted_sum(graph: _core.Graph, groups: dict[str, list[_core.Node]]) -> _core.Node:
    """Add up each group and return the sum of the groups times their weights."""
    total = None
    for name, terms in groups.items():
        value = terms[0]
        for term in terms[1:]:
            value = graph.add(value, term)
        value = graph.multiply(graph.input(name, (1, 1, 1, 1), kind="plain"), value)
        total = value if total is None else graph.add(total, value)
    return total


def gatys_iteration(size: int = 32, narrow: int = 8) -> _core.Plan:
    """Return a step of Adam as a session takes it: content, five style layers, variation, clamping.

    The number of launches depends neither on the size nor on the channels.
    """
    graph = _core.Graph()
    start = np.random.default_rng(3).standard_normal((1, 3, size, size), np.float32)
    image = graph.variable("image", start)
    maps = features(graph, image, narrow)
    grams = [graph.gram(maps[name]) for name in STYLES]
    zeros = [np.zeros(node.shape, np.float32) for node in (maps[CONTENT], *grams)]
    groups = {
        "content": [graph.feature_loss(maps[CONTENT], graph.constant(zeros[0], kind="map"))],
        "style": [
            graph.feature_loss(gram, graph.constant(target))
            for gram, target in zip(grams, zeros[1:], strict=True)
        ],
        "tv": [graph.total_variation(image)],
    }
    total = weighted_sum(graph, groups)
    (gradient,) = graph.gradient(total, [image])
    moments = [graph.variable(name, np.zeros_like(start)) for name in ("mean", "square")]
    count = graph.variable("step", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
    rate = graph.input("rate", (1, 1, 1, 1), kind="plain")
    low = np.full((1, 3, 1, 1), -2, np.float32)
    updated = graph.adam_update(image, *moments, count, gradient, rate)
    updated = graph.clamp_update(updated, graph.constant(low), graph.constant(-low))
    terms = [term for group in groups.values() for term in group]
    return graph.compile([total, *terms, updated], backend="cuda", precision="bf16", check=[total])


def count_launches(library: Path) -> int:
    """Return the launches of an iteration, by the emulated backend in a library."""
    _core.load_cuda(library)
    scalar = np.full((1, 1, 1, 1), 1e-9, np.float32)
    gatys_iteration().run({name: scalar for name in ("content", "style", "tv", "rate")})
    return ctypes.CDLL(str(library)).emulated_nodes()


def count_launches_in_emulator() -> int:
    """Build the emulated backend and return the launches of an iteration."""
    sys.path.append(str(ROOT / "tests"))
    from cuda_emulator.build import build

    with tempfile.TemporaryDirectory() as folder:
        return count_launches(build(Path(folder)))


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
    print(
        f"\nAn iteration of Gatys' method is {count_launches_in_emulator()} launches: VGG19 to ",
        end="",
    )
    print("relu5_1, content, five style layers, total variation, Adam, clamping.")
    print("\n| file | kernel | registers | shared bytes | spilled bytes |")
    print("| --- | --- | --- | --- | --- |")
    for file, kernel, registers, shared, spilled in table:
        print(f"| {file} | `{kernel}` | {registers} | {shared} | {spilled} |")


if __name__ == "__main__":
    main()
