"""The engine as plain C, on this processor and, in an emulator, on a 64-bit Arm."""

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from op_cases import BF16_ERROR

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("base", "core", "ops", "ref", "cpu")
FLAGS = ["-std=gnu11", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Wshadow", "-Werror"]

# Relative L2 distance of loss, gradient, Gram matrix and last map: in fp32 to the definition in
# float64, in bf16 to that in bf16. Sums of up to 400 terms of random sign are off by some
# 20 eps = 1.2e-6; Winograd's share is 3e-6 at most (op_cases.py), and the gradient passes two such
# convolutions each way. In bf16 a sum that comes out on the other side of a rounding moves a value
# by a step, which happens to few of them.
BOUNDS = (3e-6, 6e-6, 3e-6, 6e-6, *(BF16_ERROR,) * 4)


def build(compiler, folder, link=()):
    """Compile the engine without Python and the comparing program; return its path."""
    sources = [p for name in FOLDERS for p in sorted((ROOT / "csrc" / name).glob("*.c"))]
    jobs = [(source, False) for source in [*sources, ROOT / "tests/native/compare_backends.c"]]
    jobs += [(source, True) for source in sources if source.parent.name == "ref"]

    def compile_one(job):
        source, double = job
        target = folder / f"{source.parent.name}_{source.stem}_{double}.o"
        macros = ["-DDS_REAL_IS_DOUBLE=1"] if double else []
        include = ["-I", ROOT / "csrc"]
        command = [compiler, *FLAGS, *macros, *include, "-c", source, "-o", target]
        subprocess.run(command, check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, jobs))
    program = folder / "compare_backends"
    subprocess.run([compiler, *link, *objects, "-o", program, "-lm", "-pthread"], check=True)
    return program


def check(output, level):
    """Hold the printed distances to their bounds."""
    name, *distances = output.split()
    assert name == level
    found = [float(distance) for distance in distances]
    assert all(distance < bound for distance, bound in zip(found, BOUNDS, strict=True)), output
    assert min(found[:4]) > 0, f"floats cannot be float64 to the bit: {output}"


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this processor is an Arm itself")
def test_neon_agrees_with_the_definition_in_an_emulator(tmp_path):
    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
    if not compiler or not emulator:
        pytest.skip("needs Debian's gcc-aarch64-linux-gnu and qemu-user")
    program = build(compiler, tmp_path, ["-static"])
    run = subprocess.run([emulator, program], check=True, capture_output=True, text=True)
    check(run.stdout, "neon")
