"""The exceptions that depthstyle raises.

Each message names the argument or file, the value found and the fix. Every class also derives
from the built-in exception that fits, so that ``except ValueError`` catches bad input of any kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from depthstyle.methods import Painted


class DepthstyleError(Exception):
    """Base class of all errors of depthstyle."""


class ImageError(DepthstyleError, ValueError):
    """A picture or depth map cannot be read, is not usable, or cannot be written."""


class WeightsError(DepthstyleError, ValueError):
    """A file of network weights is missing, damaged or does not fit the network."""


class NumericalError(DepthstyleError, ArithmeticError):
    """A loss or a picture stopped being finite.

    Parameters
    ----------
    message : str
        What happened and what to change.
    iteration : int, optional
        The iteration, counted from 0, at which the value was found.
    layer : str, optional
        The layer or loss term that held the value.

    Attributes
    ----------
    iteration : int or None
    layer : str or None
    painted : methods.Painted or None
        The last good result, where a method had one.
    seen : float32 (n, m) or None
        Of a repeated run of a plan, what it watched, up to the iteration that failed.
    """

    def __init__(
        self, message: str, *, iteration: int | None = None, layer: str | None = None
    ) -> None:
        super().__init__(message)
        self.iteration = iteration
        self.layer = layer
        self.painted: Painted | None = None
        self.seen: NDArray[np.float32] | None = None


class CheckpointError(DepthstyleError, ValueError):
    """A checkpoint is damaged, belongs to another run, or cannot be written."""


class OutOfMemory(DepthstyleError, MemoryError):
    """The work needs more memory than the process may have; nothing was computed yet."""


class DeviceOutOfMemory(OutOfMemory):
    """The work needs more memory than the GPU has free; nothing was computed yet."""


class DeviceLost(DepthstyleError, RuntimeError):
    """A GPU failed in a way that this process cannot use it any more; the checkpoint stands."""


class BackendUnavailable(DepthstyleError, RuntimeError):
    """The asked backend or device is not present on this machine."""


class Busy(DepthstyleError, RuntimeError):
    """The object is already in use by another thread or process."""


class DepthstyleWarning(UserWarning):
    """Something was decided that the user may want to know; the result is complete."""


class ReproducibilityWarning(DepthstyleWarning):
    """The result may differ in its last bits from what an uninterrupted run would give."""
