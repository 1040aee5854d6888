"""``depthstyle doctor``: what this machine has, and whether everything works."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Collection, Sequence


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

    lines = {
        "depthstyle": f"{__version__}, Python {platform.python_version()}",
        "processor": f"{_processor()}, {os.cpu_count()} seen",
        "CPU kernels": f"{', '.join(_core.cpu_levels())}; the last is used",
        "AMX": amx(_core.cpu_levels(), _flags(), os.environ.get("DEPTHSTYLE_CPU")),
        "precision": f"auto is {_automatic('cpu')}",
        "threads": str(_core.get_num_threads()),
        "weights": _weights(),
    }
    for name, text in lines.items():
        print(f"{name:12} {text}")
    print(f"verdict: {_look_at_gpus()}")


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


def _look_at_gpus() -> str:
    """Print a line for each thing that a GPU needs, and return what can be used."""
    built, driven = _told("CUDA library", _library), _told("driver", _driver)
    if built and _told("cuDNN", _cudnn) and driven and _told("convolution", _convolution):
        return f"the GPU cuda:0 is used, in {_automatic('cuda')}; --device cpu takes the CPU"
    return "the CPU is used"


def _told(name: str, look: Callable[[], str]) -> bool:
    from depthstyle.errors import BackendUnavailable, DeviceLost, DeviceOutOfMemory

    try:
        print(f"{name:12} {look()}")
    except (BackendUnavailable, DeviceLost, DeviceOutOfMemory) as error:
        print(f"{name:12} {error}")
        return False
    return True


def _library() -> str:
    from depthstyle.devices import built_for, cuda_text

    build = built_for()
    versions = ", ".join(_capability(number) for number in build.capabilities)
    return f"built for CUDA {cuda_text(build.toolkit)}, compute capability {versions} and later"


def _driver() -> str:
    from depthstyle.devices import LIBRARY, built_for, cuda_text, find_driver

    driver = find_driver()
    lines = [f"for CUDA up to {cuda_text(driver.version)}"]
    for number, gpu in enumerate(driver.gpus):
        text = f"{f'cuda:{number}':12} {gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute capability"
        text += f" {_capability(gpu.capability)}"
        missing = LIBRARY.exists() and not built_for().fits(gpu)
        lines.append(f"{text}, for which the library has no code" if missing else text)
    return "\n".join(lines)


def _cudnn() -> str:
    from depthstyle.devices import cudnn_text, load_cudnn

    cudnn = load_cudnn()
    return f"{cudnn_text(cudnn.version)} ({cudnn.path})"


def _convolution() -> str:
    from depthstyle.devices import load_cuda

    load_cuda()
    return "a small one on cuda:0 is right"


def _capability(number: int) -> str:
    return f"{number // 10}.{number % 10}"
