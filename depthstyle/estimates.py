"""Time and memory of a run, before it starts."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import _core
from depthstyle.engine import Engine
from depthstyle.errors import DeviceOutOfMemory, OutOfMemory
from depthstyle.images import scaled_size
from depthstyle.memory import free_memory, peak_memory, resident_memory
from depthstyle.objective import Perception

if TYPE_CHECKING:
    from depthstyle.session import Session, Stage

Array = NDArray[np.float32]

_PICTURES = 4
"""Pictures of 3 floats a pixel that a run holds besides the plan: the start, and those of
`Pictures` at the end of a size."""

_SPARE = 2 << 20
"""What Python itself takes for a run."""

_SPARE_OF_GPU = 32 << 20
"""What CUDA and cuDNN take for a run."""

_PAIR_BYTES = 256 << 20
"""Size of the pairs of L-BFGS whose time is measured: more than a cache holds."""

_LESS = 0.98
"""Where a size that should fit does not, how much smaller the next is that is tried."""

_LEAST = 32
"""Pixels; smaller pictures are not advised."""

_PROBE_SECONDS, _PROBE_STEPS = 2.0, 16
"""How long the iterations of each size are measured."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    seconds : float
        Time from the first iteration to the last.
    bytes : int
        The most memory that the process will have at a time, Python and pictures included.
    gpu_bytes : int
        The most memory of a GPU that it will have.
    """

    seconds: float
    bytes: int
    gpu_bytes: int = 0

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        words = [f"{hours} h" if hours else "", f"{minutes} min" if hours or minutes else ""]
        exact = f"{self.seconds:.1f} s" if self.seconds < 10 else f"{seconds} s"
        words.append("" if hours else exact)
        gpu = f", {_mib(self.gpu_bytes)} of the GPU" if self.gpu_bytes else ""
        return f"{' '.join(filter(None, words))}, {_mib(self.bytes)}{gpu}"


class _Unrun:
    """Stands in for a plan: its outputs are ones."""

    def __init__(self, plan: Any, on_gpu: bool, kept: list[int]) -> None:
        self.bytes = 0 if on_gpu else plan.bytes
        self._kept = kept
        self._shapes = [node.shape for node in plan.outputs]

    def run(self, _: Mapping[str, Any]) -> list[Array]:
        arrays = [np.ones(shape, np.float32) for shape in self._shapes]
        self._kept.append(sum(array.nbytes for array in arrays))
        return arrays


@dataclass
class _Sketch(Engine):
    """Makes plans to see their sizes, and runs none."""

    plans: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def compile(
        self, graph: Any, outputs: Sequence[Any], check: Sequence[Any] = (), *, dry: bool = True
    ) -> Any:
        """Compile, note the size, and return a stand-in."""
        plan = super().compile(graph, outputs, check, dry=True)
        self.plans.append(plan.bytes)
        return _Unrun(plan, self.on_gpu, self.kept)


def memory_of(
    session: Session, iterations: int | None = None, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return what a session will take besides what it has before its first step.

    Parameters
    ----------
    session : Session
        It stays as it is.
    iterations : int, optional
        Count only what so many at its last size write to: the system gives no memory for the part
        of L-BFGS's history that stays empty.
    size : (int, int), optional
        Height and width of another result than the session's.

    Returns
    -------
    (int, int)
        Bytes of this process's memory and of the GPU's.
    """
    engine, stage = session._engine, session._stages[-1]
    sketch = _Sketch(engine.device, engine.threads, engine.precision, engine.optimizer)
    trial = copy.copy(session)
    trial._stages = [stage if size is None else _resized(stage, session.perception, size)]
    start = np.zeros((1, 3, *trial._stages[0].size), np.float32)
    _, optimiser = trial._prepare_stage(0, start, sketch)
    pictures = _PICTURES + ("laplacian" in session.weights)  # whose target is a picture
    unused = 0 if iterations is None else optimiser.unused_after(iterations)
    most, gpu = optimiser.bytes - unused + pictures * start.nbytes, 0
    if engine.on_gpu:
        gpu = max(optimiser.bytes, *sketch.plans) + _SPARE_OF_GPU
    else:
        most = max(most, *sketch.plans)
    return most + sum(sketch.kept) + _SPARE, gpu


def _resized(stage: Stage, perception: Perception, size: tuple[int, int]) -> Stage:
    """Return a stage of another size; its masks are ones."""

    def ones(masks: Mapping[str, Array] | None) -> Mapping[str, Array] | None:
        if masks is None:
            return None
        shapes = perception.shapes(size, list(masks))
        return {layer: np.ones(shape[2:], np.float32) for layer, shape in shapes.items()}

    return replace(
        stage,
        size=size,
        content_masks=ones(stage.content_masks),
        style_masks=[ones(masks) for masks in stage.style_masks],
    )


def check_memory(session: Session) -> None:
    """Refuse a session that will not fit, before its first step.

    Raises
    ------
    OutOfMemory, DeviceOutOfMemory
        It needs more than there is.
    """
    try:
        (needed, needed_of_gpu), free = memory_of(session), free_memory()
    except DeviceOutOfMemory:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{error}; this process may take {_mib(free_memory())} more") from None
    if needed > free:
        raise OutOfMemory(
            f"this run needs {_mib(needed)}, this process may take {_mib(free)} more; use a "
            "smaller size, fewer styles or a shorter history"
        )
    if needed_of_gpu > (free := session._engine.free_memory()):
        raise DeviceOutOfMemory(
            f"this run needs {_mib(needed_of_gpu)} of the GPU's memory, of which {_mib(free)} are "
            f"free; {_advice(session, needed_of_gpu, free)}, or device='cpu'"
        )


def _advice(session: Session, needed: int, free: int) -> str:
    """Name the largest size of a session's result that fits into a GPU's free memory."""
    height, width = session._stages[-1].size

    def memory_at(longest: int) -> int:
        return memory_of(session, size=scaled_size(height, width, longest=longest))[1]

    # Memory is a constant and a part for each pixel, but for what is rounded up.
    longest, half = max(height, width), max(height, width) // 2
    constant = (4 * memory_at(half) - needed) / 3
    fitting = int(longest * max((free - constant) / (needed - constant), 0) ** 0.5)
    if fitting < _LEAST:
        return "end other programs that use it"
    while memory_at(fitting) > free:
        fitting = int(fitting * _LESS)
    return f"use a size of {fitting} or less"


def time_of(session: Session) -> float:
    """Return the seconds that a session will take, from a few iterations at each of its sizes."""
    trial = copy.copy(session)
    trial.losses, trial.weights, trial._user = {}, dict(session.weights), {}
    total = 0.0
    for index in range(len(session._stages)):
        trial._leave_stage()
        trial._stage, trial._stage_iteration = index, 0
        total += _time_of_stage(trial)
    return total


def _time_of_stage(trial: Session) -> float:
    iterations, history = trial.preset.iterations, trial.preset.history
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < _PROBE_SECONDS and len(seconds) < _PROBE_STEPS):
        begin = time.perf_counter()
        trial.step()
        seconds.append(time.perf_counter() - begin)
        trial._stage_iteration = 0
    first, *others = seconds  # the first one makes the plan
    if trial.preset.optimizer == "adam":
        return first + (iterations - 1) * float(np.median(others))
    length = trial._leave_stage().image.size  # the next line needs the memory of the optimiser
    pair = _time_of_a_pair(length, history, trial._engine.threads)
    # The measured ones had 1, 2 ... pairs, all iterations have up to the whole history.
    without = [took - pair * min(pairs, history) for pairs, took in enumerate(others, start=1)]
    pairs = sum(min(number, history) for number in range(iterations))
    return first + (iterations - 1) * float(np.median(without)) + pairs * pair


def _time_of_a_pair(length: int, history: int, threads: int | None) -> float:
    """Return the seconds that each remembered pair adds to a step of L-BFGS."""
    pairs = min(history, max(1, _PAIR_BYTES // (8 * length)))
    lbfgs = _core.LBFGS(length, pairs, threads=threads)
    np.asarray(lbfgs)[:] = 1
    x, gradient = np.zeros((2, length), np.float32)

    def time_with(kept: int) -> float:
        # where the gradient is zero a pair costs what it always costs, and changes nothing
        lbfgs.state = (False, kept - 1, np.ones((1, 2, kept, kept)))
        begin = time.perf_counter()
        lbfgs.step(x, 1.0, gradient)
        return time.perf_counter() - begin

    without, full = (min(time_with(kept) for _ in range(3)) for kept in (0, pairs))
    return max(full - without, 0.0) / pairs


def estimate_session(session: Session) -> Estimate:
    """Return what a session that was not begun will take; it stays as it is.

    Raises
    ------
    OutOfMemory
        It would need more memory than there is.
    """
    check_memory(session)
    needed, needed_of_gpu = memory_of(session, session.preset.iterations)
    peak = resident_memory() + needed
    return Estimate(time_of(session), peak, needed_of_gpu)


def estimate_painter(
    painter: Any, content: ArrayLike, depth: ArrayLike | None = None, *, before: int = 0
) -> Estimate:
    """Return what painting a photograph will take; parameters and errors as `Painter.paint`.

    A method that does not iterate is measured by painting once. `before` is the most memory that
    the process had while the painter was made, which counts, too.

    Raises
    ------
    OutOfMemory
        It would need more memory than there is.
    """
    if painter.iterates:
        found = estimate_session(painter.session(content, depth))
        return replace(found, bytes=max(found.bytes, before))
    with peak_memory() as peak:
        begin = time.perf_counter()
        painter.paint(content, depth)
        seconds = time.perf_counter() - begin
    return Estimate(seconds, max(peak[0], before))


def estimate(
    content_size: tuple[int, int],
    style_sizes: Sequence[tuple[int, int]] | None = None,
    method: str = "gatys",
    *,
    depth: ArrayLike | None = None,
    **settings: Any,
) -> Estimate:
    """Return the time and the memory that `stylize` will take.

    The engine plans the whole run and does a few of its iterations; a method that does not iterate
    is measured by painting once.

    Parameters
    ----------
    content_size : (int, int)
        Height and width of the photograph.
    style_sizes : sequence of (int, int), optional
        Heights and widths of the style pictures; by default one of the photograph's size, and
        none for a method that takes none.
    method : str, optional
        As for `stylize`.
    depth : array (h, w), optional
        Depth of the photograph, where a mask needs one.
    **settings
        The settings of the method.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError, ImageError, WeightsError
        As `stylize`.
    OutOfMemory
        The run would need more memory than there is.
    """
    from depthstyle.methods import make_painter

    randoms = np.random.default_rng(0)
    sizes = style_sizes
    if sizes is None:
        sizes = [] if method == "fast" else [content_size]
    styles = [randoms.random((*size, 3), np.float32) for size in sizes]
    content = randoms.random((*content_size, 3), np.float32)
    with peak_memory() as before:
        painter = make_painter(method, styles, **settings)
    return estimate_painter(painter, content, depth, before=before[0])


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
