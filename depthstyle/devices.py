"""The CUDA backend: where its library is, what it needs, and whether it can run here."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from depthstyle import _core
from depthstyle.errors import BackendUnavailable

LIBRARY = Path(__file__).with_name("libdepthstyle_cuda.so")
"""Built by ``pip install`` where nvcc and cuDNN are found."""

_CUDNN = "libcudnn.so.9"
_OLDEST_CUDNN = 90800  # the first that plans for a description of a device
_NAME_BYTES = 256


_NAMES = re.compile(r"(auto|cpu|ref|cuda(?::(\d+))?)")


def choose(name: str) -> str:
    """Return which device a name means, ready to be used.

    Parameters
    ----------
    name : str
        ``"auto"`` for the first GPU where the CUDA backend can be used and the CPU otherwise,
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"ref"``, the slow reference kernels, is for tests.

    Returns
    -------
    str
        ``"cpu"``, ``"ref"``, ``"cuda:0"`` ...

    Raises
    ------
    ValueError
        It is no name of a device.
    BackendUnavailable
        That GPU cannot be used.
    """
    found = _NAMES.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"device={name!r}: choose from auto, cpu, cuda, cuda:1, ...")
    if name == "auto":
        return "cuda:0" if _has_gpu() else "cpu"
    if not name.startswith("cuda"):
        return name
    load_cuda(int(found[2] or 0))
    return f"cuda:{int(found[2] or 0)}"


@functools.cache
def _has_gpu() -> bool:
    """Tell whether the CUDA backend can be used; without the library no driver is asked."""
    try:
        if LIBRARY.exists():
            find_driver()
            load_cuda()
            return True
    except BackendUnavailable:
        pass
    return False


def ordinal(device: str) -> int:
    """Return the number of the GPU of a device that `choose` returned, 0 for the CPU."""
    return int(device.partition(":")[2] or 0)


def gpu_name(device: str) -> str:
    """Return what the driver calls the GPU of such a device."""
    try:
        return find_driver().gpus[ordinal(device)]
    except BackendUnavailable:
        return "GPU without a driver"


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says of this machine.

    Attributes
    ----------
    version : int
        Newest version of CUDA that it runs, as in 13000 for 13.0.
    gpus : tuple of str
        The GPUs by name.
    """

    version: int
    gpus: tuple[str, ...]


def find_driver() -> Driver:
    """Ask the driver for its version and the GPUs.

    Raises
    ------
    BackendUnavailable
        There is no driver, or no GPU.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise BackendUnavailable(
            "cuda: no NVIDIA driver (libcuda.so.1) on this machine; use device='cpu'"
        ) from None
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise BackendUnavailable(
            "cuda: the NVIDIA driver finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
            "device='cpu'"
        )
    cuda.cuDriverGetVersion(ctypes.byref(version))
    names = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(_NAME_BYTES)
        cuda.cuDeviceGetName(name, _NAME_BYTES, index)
        names.append(name.value.decode())
    return Driver(version.value, tuple(names))


def load_cudnn() -> int:
    """Load cuDNN, a copy that is loaded already first, and return its version.

    Returns
    -------
    int
        As in 92800 for 9.28.0.

    Raises
    ------
    BackendUnavailable
        It is missing or too old.
    """
    advice = "run pip install nvidia-cudnn-cu13, or nvidia-cudnn-cu12 for CUDA 12"
    try:
        version = ctypes.CDLL(_find_cudnn(), mode=ctypes.RTLD_GLOBAL).cudnnGetVersion()
    except OSError as error:
        raise BackendUnavailable(f"cuda: cuDNN 9 is missing ({error}); {advice}") from None
    if version < _OLDEST_CUDNN:
        raise BackendUnavailable(f"cuda: cuDNN {version} is older than {_OLDEST_CUDNN}; {advice}")
    return version


def _find_cudnn() -> str:
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        installed = LIBRARY.parents[1] / "nvidia" / "cudnn" / "lib" / _CUDNN
        return str(installed) if installed.exists() else _CUDNN
    try:
        return load_nvidia_dynamic_lib("cudnn").abs_path or _CUDNN
    except Exception as error:  # it has classes of its own for what is missing
        raise OSError(error) from error


@functools.cache
def load_cuda(ordinal: int = 0) -> None:
    """Make a GPU usable; does nothing the second time.

    Parameters
    ----------
    ordinal : int, optional
        Which GPU.

    Raises
    ------
    BackendUnavailable
        The library was not built, or driver, GPU or cuDNN are missing; the message says which and
        what to type.
    """
    if not _core.has_cuda():
        if not LIBRARY.exists():
            raise BackendUnavailable(
                "cuda: this copy of depthstyle was built without it; with the CUDA Toolkit and "
                "nvidia-cudnn-cu13 installed, run DEPTHSTYLE_CUDA=1 pip install ."
            )
        find_driver()
        load_cudnn()
        _core.load_cuda(LIBRARY)
    _try_convolution(ordinal)


def _try_convolution(ordinal: int) -> None:
    """Run one small convolution, so that a broken installation shows now."""
    import numpy as np

    graph = _core.Graph()
    x = graph.input("x", (1, 8, 4, 4), kind="map")
    y = graph.conv2d(x, graph.constant(np.ones((8, 8, 3, 3), np.float32)), pad=1)
    plan = graph.compile([y], backend="cuda", ordinal=ordinal)
    (out,) = plan.run({"x": np.ones((1, 8, 4, 4), np.float32)})
    if out[0, 0, 1, 1] != 72:
        raise BackendUnavailable(
            f"cuda: a convolution of ones gave {out[0, 0, 1, 1]:g} in place of 72; update the "
            "driver and cuDNN, or use device='cpu'"
        )
