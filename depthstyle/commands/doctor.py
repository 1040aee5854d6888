"""``depthstyle doctor``: what this machine has, and whether everything works."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Collection, Sequence


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "doctor",
        description="Print processor, threads, GPU, driver, cuDNN and weights, and say what can "
        "be used.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Look at everything and print one line each."""
    from depthstyle import __version__, _core
    from depthstyle.errors import BackendUnavailable

    lines = {
        "depthstyle": f"{__version__}, Python {platform.python_version()}",
        "processor": f"{_processor()}, {os.cpu_count()} seen",
        "CPU kernels": f"{', '.join(_core.cpu_levels())}; the last is used",
        "AMX": amx(_core.cpu_levels(), _flags(), os.environ.get("DEPTHSTYLE_CPU")),
        "precision": f"auto is {_automatic('cpu')}",
        "threads": str(_core.get_num_threads()),
        "weights": _weights(),
    }
    try:
        lines |= _cuda()
        lines["precision"] += f"; on the GPU {_automatic('cuda')}"
        verdict = "the GPU and the CPU can be used"
    except BackendUnavailable as error:
        verdict = f"the CPU can be used; {error}"
    for name, text in lines.items():
        print(f"{name:12} {text}")
    print(f"verdict: {verdict}")


def amx(levels: Sequence[str], flags: Collection[str], limit: str | None) -> str:
    """Say whether the matrix unit of the processor is used, or why not.

    Parameters
    ----------
    levels : sequence of str
        The levels of CPU kernels, the best one last.
    flags : collection of str
        The processor's features as Linux names them.
    limit : str or None
        The value of ``DEPTHSTYLE_CPU``.
    """
    from depthstyle.precision import FAST_LEVEL

    if levels[-1] == FAST_LEVEL:
        return "used, in bf16 and mixed"
    if not {"amx_tile", "amx_bf16"} <= set(flags):
        return "not used: this processor has none"
    if limit:
        return f"not used: DEPTHSTYLE_CPU={limit} forbids it"
    return "not used: the compiler of this copy could not make it, or the kernel does not permit it"


def _automatic(backend: str) -> str:
    """Say what precision="auto" picks."""
    from depthstyle.precision import resolve

    usual, lbfgs = resolve("auto", backend), resolve("auto", backend, "lbfgs")
    return usual if usual == lbfgs else f"{usual}, {lbfgs} with L-BFGS"


def _processor() -> str:
    return max(_cpuinfo("model n"), key=len, default=platform.machine())


def _flags() -> set[str]:
    return set(" ".join(_cpuinfo("flags")).split())


def _cpuinfo(start: str) -> list[str]:
    """Return what Linux says of each processor in the lines that start so."""
    try:
        with open("/proc/cpuinfo") as file:
            return [line.partition(":")[2].strip() for line in file if line.startswith(start)]
    except OSError:
        return []


def _weights() -> str:
    from depthstyle.weights import cache
    from depthstyle.weights.registry import PUBLISHED

    found = [name for name in PUBLISHED if cache.find(name) is not None]
    return f"{', '.join(found) or 'the embedded networks only'} (in {cache.folder()})"


def _cuda() -> dict[str, str]:
    """Describe GPU, driver and cuDNN, or raise BackendUnavailable."""
    from depthstyle import devices

    driver = devices.find_driver()
    lines = {
        "GPU": ", ".join(driver.gpus),
        "driver": f"for CUDA up to {driver.version // 1000}.{driver.version % 1000 // 10}",
    }
    version = devices.load_cudnn()
    lines["cuDNN"] = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    devices.load_cuda()
    return lines
