"""The methods of stylisation by name, and the one way to call them.

A method is a class whose objects are made once from styles and settings and then paint any number
of photographs. To add one: a module with such a class, and a line in `METHODS`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.checkpoint import Checkpoints
from depthstyle.errors import DepthstyleWarning

METHODS: dict[str, tuple[str, str]] = {
    "gatys": ("depthstyle.gatys", "GatysPainter"),
    "lapstyle": ("depthstyle.gatys", "LapstylePainter"),
    "adain": ("depthstyle.adain", "AdainPainter"),
    "da-adain": ("depthstyle.adain", "DepthAdainPainter"),
    "fast": ("depthstyle.feedforward", "FastPainter"),
}
"""Module and class of each method; a module is imported when its method is asked for."""

_NO_SETTINGS = ("styles", "settings")


@dataclass(frozen=True)
class Painted:
    """What a method made of a photograph.

    Attributes
    ----------
    image : float32 (H, W, 3)
        The picture, RGB in [0, 1].
    recipe : mapping of str to JSON value
        What made it: method, settings, weights, seed.
    interrupted : str or None
        How far the work was when Ctrl-C ended it, in words; `image` is the best picture so far.
    losses : mapping of str to list of float, or None
        The losses after each iteration by name, of a method that iterates.
    """

    image: NDArray[np.float32]
    recipe: Mapping[str, Any]
    interrupted: str | None = None
    losses: Mapping[str, Sequence[float]] | None = None


class Painter(Protocol):
    """A method with its styles and settings, ready for photographs.

    Its class takes the style pictures, a sequence of arrays (h, w, 3), and the method's settings
    as keyword arguments; it reads weights and checks settings at once.

    Attributes
    ----------
    iterates : bool
        It works in iterations, which have losses and intermediate pictures.
    """

    iterates: bool

    @property
    def device(self) -> str:
        """What computes, in words, as in ``cpu avx512, 2 threads, fp32``."""

    def paint(
        self,
        content: ArrayLike,
        depth: ArrayLike | None = None,
        *,
        progress: str | None = None,
        on_step: Callable[[Any], object] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Painted:
        """Paint a photograph.

        Parameters
        ----------
        content : array (H, W, 3)
            The photograph: floats in [0, 1], uint8 or uint16.
        depth : array (h, w), optional
            Its depth, 0 nearest to 1 farthest.
        progress : str, optional
            Name of a progress bar that shows after two seconds; without it there is none.
        on_step : callable, optional
            Called with an object that has ``iteration`` and ``image`` after each iteration of a
            method that iterates.
        checkpoints : Checkpoints, optional
            Saves the state of a method that iterates by time, and takes up an earlier run's; the
            caller removes the files when the result is in safety.

        Raises
        ------
        ImageError, ValueError
            The photograph or its depth cannot be used.
        NumericalError
            A value stopped being finite; its ``painted`` is the last good result, if there is one.
        """


def make_painter(method: str, styles: Sequence[ArrayLike], **settings: Any) -> Painter:
    """Return a method with its styles and settings.

    Parameters
    ----------
    method : str
        A name of `METHODS`.
    styles : sequence of array (h, w, 3)
        The style pictures, together in one picture; empty for methods that take none.
    **settings
        The settings of the method's class.

    Returns
    -------
    Painter

    Raises
    ------
    ValueError
        The method or a setting is unknown, or a value is out of range.
    ImageError, WeightsError
        A style picture or the weights cannot be used.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: unknown; choose from {', '.join(METHODS)}")
    module, name = METHODS[method]
    painter = getattr(importlib.import_module(module), name)
    known = [name for kind in painter.__mro__[:-1] for name in inspect.signature(kind).parameters]
    for setting in settings:
        if setting not in known and "options" not in known:
            names = ", ".join(name for name in dict.fromkeys(known) if name not in _NO_SETTINGS)
            raise ValueError(f"{setting}: is no setting of method {method}, which has {names}")
    return painter(styles, **settings)


def stylize(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike] | None = None,
    method: str = "gatys",
    *,
    depth: ArrayLike | None = None,
    progress: bool = True,
    on_step: Callable[[Any], object] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **settings: Any,
) -> NDArray[np.float32]:
    """Paint a photograph in the style of one or several pictures.

    Parameters
    ----------
    content : array (H, W, 3)
        The photograph: floats in [0, 1], uint8 or uint16.
    style : array (h, w, 3) or sequence of such arrays, optional
        One style picture or several; none for methods whose network knows its style.
    method : str, optional
        ``"gatys"`` optimises the pixels, ``"lapstyle"`` with a Laplacian loss that keeps the
        photograph's edges; ``"adain"`` takes any style in one run of two networks, ``"da-adain"``
        keeps what is near; see `METHODS`.
    depth : array (h, w), optional
        Depth of the photograph, 0 nearest to 1 farthest.
    progress : bool, optional
        Show a progress bar with the remaining time after two seconds.
    on_step : callable, optional
        Called after each iteration with an object that has ``iteration`` and ``image``: the
        `Session` in the Gatys family.
    checkpoint : path, optional
        A file to save the state of a method that iterates to, every 30 seconds and when it ends
        early; it is removed when the picture is complete.
    resume : bool, optional
        Go on from `checkpoint` where it exists, bit for bit.
    **settings
        The settings of the method; for the Gatys family all other parameters of `Session`.

    Returns
    -------
    float32 (H, W, 3)
        The picture in [0, 1], of the photograph's size unless a setting says otherwise. After
        Ctrl-C the best picture so far, with a warning.

    Raises
    ------
    ValueError, ImageError, WeightsError, NumericalError
        As `make_painter` and `Painter.paint`.
    CheckpointError, Busy
        As `Checkpoints.of`.
    """
    if resume and checkpoint is None:
        raise ValueError("resume=True: needs the file to go on from; give checkpoint")
    styles = [] if style is None else as_list(style)
    painter = make_painter(method, styles, **settings)
    if checkpoint is not None and not painter.iterates:
        raise ValueError(f"checkpoint: method {method} does not iterate; leave it out")
    hooks: dict[str, Any] = {"progress": "stylize" if progress else None, "on_step": on_step}
    if checkpoint is not None:
        hooks["checkpoints"] = Checkpoints(checkpoint, resume=resume)
    painted = painter.paint(content, depth, **hooks)
    if checkpoint is not None and painted.interrupted is None:
        hooks["checkpoints"].remove()
    if painted.interrupted is not None:
        warnings.warn(
            f"interrupted after {painted.interrupted}; this is the best picture so far",
            DepthstyleWarning,
            stacklevel=2,
        )
    return painted.image


def as_list(style: ArrayLike | Sequence[ArrayLike]) -> list[Any]:
    """Return a list of style pictures from one or several."""
    several = isinstance(style, list | tuple) and (len(style) == 0 or np.ndim(style[0]) > 1)
    return list(style) if several else [style]
