"""The precision in which networks and their gradients are computed, and what ``"auto"`` picks.

What each name means is in ``docs/precision.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

from depthstyle import _core
from depthstyle.presets import check_choice

NAMES = ("auto", "fp32", "tf32", "bf16", "mixed")

FAST_LEVEL = "amx"
"""The level of CPU kernels at which bf16 is faster than fp32."""


def resolve(
    asked: str,
    backend: str = "cpu",
    optimizer: str | None = None,
    levels: Sequence[str] | None = None,
) -> str:
    """Return the precision that runs where one is asked for.

    ``"auto"`` is bf16 where the hardware multiplies it faster: on a GPU, and on a CPU with AMX.
    L-BFGS builds its model of the function from differences of gradients, which the rounding of
    bf16 would swamp: it gets ``"mixed"`` on such a CPU and ``"tf32"`` on a GPU. Everywhere else
    ``"auto"`` is fp32.

    Parameters
    ----------
    asked : {"auto", "fp32", "tf32", "bf16", "mixed"}
    backend : {"cpu", "cuda", "ref"}, optional
        What computes.
    optimizer : {"adam", "lbfgs"}, optional
        What minimises; None for a network in one run.
    levels : sequence of str, optional
        The levels of CPU kernels, the best one last; by default those of this machine.

    Returns
    -------
    str
        One of `NAMES` without ``"auto"``.

    Raises
    ------
    ValueError
        The name is unknown, or the backend does not have it.
    """
    check_choice("precision", asked, NAMES)
    if asked == "tf32" and backend != "cuda":
        raise ValueError(
            f"precision='tf32': is for GPUs, this runs on {backend}; use fp32, mixed or bf16, or "
            "device='cuda' where there is one"
        )
    if asked != "auto":
        return asked
    if backend == "cuda":
        return "tf32" if optimizer == "lbfgs" else "bf16"
    best = (_core.cpu_levels() if levels is None else levels)[-1]
    if backend != "cpu" or best != FAST_LEVEL:
        return "fp32"
    return "mixed" if optimizer == "lbfgs" else "bf16"
