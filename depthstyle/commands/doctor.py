"""``depthstyle doctor``: what this machine has, and whether everything works."""

from __future__ import annotations

import argparse
import os
import platform


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
        "threads": str(_core.get_num_threads()),
        "weights": _weights(),
    }
    try:
        lines |= _cuda()
        verdict = "the GPU and the CPU can be used"
    except BackendUnavailable as error:
        verdict = f"the CPU can be used; {error}"
    for name, text in lines.items():
        print(f"{name:12} {text}")
    print(f"verdict: {verdict}")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model n")]
    except OSError:
        names = []
    return max(names, key=len, default=platform.machine())


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
