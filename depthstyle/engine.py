"""Where graphs run, and how precisely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from depthstyle import _core, devices
from depthstyle.memory import free_memory
from depthstyle.precision import resolve
from depthstyle.presets import check_count


@dataclass
class Engine:
    """A device with its number of threads and a precision.

    Attributes
    ----------
    device : str
        As `devices.choose` takes it, then as it returns it: ``"cpu"``, ``"ref"``, ``"cuda:0"`` ...
    threads : int or None
        Number of threads; None takes the engine's default.
    precision : str
        A name of `precision.NAMES`.
    optimizer : str or None
        What minimises, which ``precision="auto"`` depends on.
    effective_precision : str
        The precision that runs: never ``"auto"``.
    """

    device: str = "auto"
    threads: int | None = None
    precision: str = "fp32"
    optimizer: str | None = None
    effective_precision: str = field(init=False)

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_count("threads", self.threads)
        self.device = devices.choose(self.device)
        self.effective_precision = resolve(self.precision, self.backend, self.optimizer)

    @property
    def backend(self) -> str:
        """``"cpu"``, ``"cuda"`` or ``"ref"``."""
        return self.device.partition(":")[0]

    @property
    def recipe(self) -> dict[str, str]:
        """What computes and how precisely, asked for and in effect, as JSON values."""
        return {
            "device": self.processor,
            "precision_asked": self.precision,
            "precision": self.effective_precision,
        }

    @property
    def processor(self) -> str:
        """What the last bits of a result depend on: ``cpu avx512`` or ``NVIDIA H200``."""
        if self.on_gpu:
            return devices.gpu_name(self.device)
        return f"cpu {_core.cpu_levels()[-1]}" if self.backend == "cpu" else self.backend

    @property
    def description(self) -> str:
        """What computes: ``cpu avx512, 2 threads, fp32`` or ``NVIDIA H200, cuda:0, bf16``."""
        if self.on_gpu:
            return f"{self.processor}, {self.device}, {self.effective_precision}"
        threads = _core.get_num_threads() if self.threads is None else self.threads
        count = f"{threads} thread{'s' if threads > 1 else ''}"
        return f"{self.processor}, {count}, {self.effective_precision}"

    @property
    def on_gpu(self) -> bool:
        """Whether plans lie in the memory of a GPU."""
        return self.backend == "cuda"

    def free_memory(self) -> int:
        """Return the bytes that plans can still take."""
        if self.on_gpu:
            return _core.cuda_memory(devices.ordinal(self.device))[0]
        return free_memory()

    def compile(
        self, graph: Any, outputs: Sequence[Any], check: Sequence[Any] = (), *, dry: bool = False
    ) -> Any:
        """Compile nodes of a graph into a plan; those of `check` must stay finite.

        A dry plan cannot run, but has its bytes.
        """
        return graph.compile(
            list(outputs),
            check=list(check),
            backend=self.backend,
            ordinal=devices.ordinal(self.device),
            precision=self.effective_precision,
            threads=self.threads,
            dry=dry,
        )
