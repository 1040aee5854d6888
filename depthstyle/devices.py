"""Devices by name, and the CUDA backend: what it needs, and whether it can run here."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from depthstyle import _core
from depthstyle.errors import BackendUnavailable, DeviceLost, DeviceOutOfMemory
from depthstyle.weights import cache

LIBRARY = Path(__file__).with_name("libdepthstyle_cuda.so")
"""Built by ``pip install`` where nvcc and cuDNN are found."""

_DRIVER = "libcuda.so.1"
_CUDNN = "libcudnn.so.9"
_OLDEST_CUDNN = 90800  # the first that plans for a description of a device
_NAME_BYTES = 256
_NAMES = re.compile(r"auto|cpu|ref|cuda(?::(\d+))?")
_BUILD = re.compile(rb"depthstyle built for CUDA (\d+), GPUs ([\d, ]+)")
_MAJOR, _MINOR = 75, 76
"""Attributes of a GPU in the driver: its compute capability."""


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
    number = int(found[1] or 0)
    load_cuda(number)
    return f"cuda:{number}"


@functools.cache
def _has_gpu() -> bool:
    """Tell whether the CUDA backend can be used; without the library no driver is asked."""
    if not LIBRARY.exists():
        return False
    try:
        find_driver()
        load_cuda()
    except (BackendUnavailable, DeviceOutOfMemory, DeviceLost):
        return False
    return True


def ordinal(device: str) -> int:
    """Return the number of the GPU of a device that `choose` returned, 0 for the CPU."""
    return int(device.partition(":")[2] or 0)


def gpu_name(device: str) -> str:
    """Return what the driver calls the GPU of such a device."""
    try:
        return find_driver().gpus[ordinal(device)].name
    except BackendUnavailable:
        return "emulated GPU"


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it.

    Attributes
    ----------
    name : str
    memory : int
        Its memory in bytes.
    capability : int
        Its compute capability times 10, as in 90 for 9.0.
    """

    name: str
    memory: int
    capability: int


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says of this machine.

    Attributes
    ----------
    version : int
        Newest version of CUDA that it runs, as in 13000 for 13.0.
    gpus : tuple of Gpu
    """

    version: int
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Build:
    """What the library of the CUDA backend was compiled for.

    Attributes
    ----------
    toolkit : int
        The version of CUDA, as in 13000 for 13.0.
    capabilities : tuple of int
        The GPUs by compute capability times 10; the last one's code fits later GPUs too.
    """

    toolkit: int
    capabilities: tuple[int, ...]

    @property
    def packages(self) -> str:
        """The command that installs what it needs."""
        return f"pip install nvidia-cudnn-cu{self.toolkit // 1000} cuda-pathfinder"

    def fits(self, gpu: Gpu) -> bool:
        """Tell whether the library has code for a GPU."""
        mine, built = gpu.capability, self.capabilities
        return mine >= max(built) or any(
            mine // 10 == other // 10 and mine >= other for other in built
        )


@dataclass(frozen=True)
class Cudnn:
    """A loaded cuDNN.

    Attributes
    ----------
    version : int
        As in 92800 for 9.28.0.
    path : str
        Its file.
    """

    version: int
    path: str


def find_driver() -> Driver:
    """Ask the driver for its version and the GPUs.

    Raises
    ------
    BackendUnavailable
        There is no driver, it does not start, or it finds no GPU.
    """
    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError:
        raise BackendUnavailable(
            f"cuda: no NVIDIA driver ({_DRIVER}) on this machine; use device='cpu'"
        ) from None
    version, count = ctypes.c_int(), ctypes.c_int()
    error = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if error or not count.value:
        reason = f"gives error {error} ({_error_name(cuda, error)})" if error else "finds no GPU"
        raise BackendUnavailable(
            f"cuda: the NVIDIA driver {reason}; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
            "device='cpu'"
        )
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return Driver(version.value, tuple(_describe(cuda, index) for index in range(count.value)))


def _error_name(cuda: ctypes.CDLL, error: int) -> str:
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(error, ctypes.byref(name))
    return (name.value or b"unknown").decode()


def _describe(cuda: ctypes.CDLL, index: int) -> Gpu:
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    cuda.cuDeviceGetName(name, _NAME_BYTES, index)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
        numbers.append(value.value)
    return Gpu(name.value.decode(errors="replace"), memory.value, 10 * numbers[0] + numbers[1])


def built_for() -> Build:
    """Read from the library what it was compiled for; opening it would need cuDNN.

    Raises
    ------
    BackendUnavailable
        It was not built.
    """
    if not LIBRARY.exists():
        raise BackendUnavailable(
            "cuda: this copy of depthstyle was built without it; with the CUDA Toolkit and "
            "nvidia-cudnn-cu13 installed, run DEPTHSTYLE_CUDA=1 pip install ."
        )
    found = _BUILD.search(LIBRARY.read_bytes())
    if found is None:
        raise BackendUnavailable(f"cuda: {LIBRARY} is damaged; install depthstyle again")
    return Build(int(found[1]), tuple(int(number) // 10 for number in found[2].split(b",")))


def load_cudnn() -> Cudnn:
    """Load cuDNN: a copy that is loaded already, that of an installed package, or the system's.

    Raises
    ------
    BackendUnavailable
        It is missing, too old, or something else of that name.
    """
    advice = f"run {built_for().packages}"
    try:
        _load_packaged_cudnn()
        version = ctypes.CDLL(_CUDNN, mode=ctypes.RTLD_GLOBAL).cudnnGetVersion()
    except OSError as error:
        raise BackendUnavailable(f"cuda: cuDNN 9 is missing ({error}); {advice}") from None
    except AttributeError as error:
        raise BackendUnavailable(f"cuda: {error}; {advice} --upgrade") from None
    path = _path_of_loaded(_CUDNN)
    if version < _OLDEST_CUDNN:
        raise BackendUnavailable(
            f"cuda: {path} is cuDNN {cudnn_text(version)}, at least "
            f"{cudnn_text(_OLDEST_CUDNN)} is needed; {advice} --upgrade"
        )
    return Cudnn(version, path)


def _load_packaged_cudnn() -> None:
    """Load the cuDNN of an installed package, where there is cuda-pathfinder to look for it."""
    try:
        from cuda import pathfinder
    except ImportError:
        return
    try:
        pathfinder.load_nvidia_dynamic_lib("cudnn")
    except pathfinder.DynamicLibNotFoundError as error:
        raise OSError(str(error).partition("\n")[0]) from error


def _path_of_loaded(name: str) -> str:
    """Return the file of a library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if path.rpartition("/")[2].startswith(name):
            return path
    return name


def cuda_text(version: int) -> str:
    """Return a version of CUDA as it is written: 13020 is 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def cudnn_text(version: int) -> str:
    """Return a version of cuDNN as it is written: 92800 is 9.28.0."""
    return f"{version // 10000}.{version % 10000 // 100}.{version % 100}"


@functools.cache
def load_cuda(number: int = 0) -> None:
    """Make a GPU usable; does nothing the second time.

    Parameters
    ----------
    number : int, optional
        Which GPU.

    Raises
    ------
    BackendUnavailable
        The library was not built, or driver, GPU or cuDNN are missing; the message says which and
        what to type.
    """
    if not _core.has_cuda():
        _load_library()
    _try_convolution(number)


def _load_library() -> None:
    build, driver = built_for(), find_driver()
    if driver.version // 1000 < build.toolkit // 1000:
        raise BackendUnavailable(
            f"cuda: the NVIDIA driver runs CUDA up to {cuda_text(driver.version)}, this copy "
            f"of depthstyle was built for {cuda_text(build.toolkit)}; update the driver, or "
            "build with an older CUDA Toolkit"
        )
    load_cudnn()
    try:
        _core.load_cuda(LIBRARY, _plan_folder())
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{error}; run {build.packages} --upgrade") from None


def _plan_folder() -> Path:
    """Return where it is kept which of cuDNN's engines are the fastest; it need not exist."""
    path = cache.folder() / "plans"
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _try_convolution(number: int) -> None:
    """Run one small convolution, so that a broken installation shows now."""
    import numpy as np

    graph = _core.Graph()
    x = graph.input("x", (1, 8, 4, 4), kind="map")
    y = graph.conv2d(x, graph.constant(np.ones((8, 8, 3, 3), np.float32)), pad=1)
    plan = graph.compile([y], backend="cuda", ordinal=number)
    (out,) = plan.run({"x": np.ones((1, 8, 4, 4), np.float32)})
    if out[0, 0, 1, 1] != 72:
        raise BackendUnavailable(
            f"cuda:{number}: a convolution of ones gave {out[0, 0, 1, 1]:g} in place of 72; update "
            "the driver and cuDNN, or use device='cpu'"
        )
