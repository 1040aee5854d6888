"""The Gatys family: optimise the pixels of a picture (Gatys et al. 2016; papers 001, 003, 004)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.checkpoint import Checkpoints
from depthstyle.engine import Engine
from depthstyle.errors import NumericalError
from depthstyle.methods import Painted
from depthstyle.presets import preset as find_preset
from depthstyle.progress import progress_bar
from depthstyle.session import Session

_OF_SESSION = frozenset(inspect.signature(Session).parameters)


class GatysPainter:
    """Optimises the pixels of a picture: ``a L_content + b L_style (+ c L_tv + ...)``.

    Parameters
    ----------
    styles : sequence of array (h, w, 3)
        One or several style pictures.
    preset : str, optional
        A name of `presets.PRESETS`; by default the method's own.
    **options
        All other parameters of `Session` except the photograph and its depth, and the settings
        of the preset.

    Raises
    ------
    ValueError, ImageError, WeightsError
        As `Session`.
    """

    method = "gatys"
    default_preset = "size-invariant"
    iterates = True

    def __init__(
        self, styles: Sequence[ArrayLike], *, preset: str | None = None, **options: Any
    ) -> None:
        if not styles:
            raise ValueError(f"style: method {self.method} needs a style picture; give one or more")
        self._styles = styles
        self._preset = self.default_preset if preset is None else preset
        self._options = options
        settings = {name: value for name, value in options.items() if name not in _OF_SESSION}
        chosen = find_preset(self._preset).with_options(settings)
        self._engine = Engine(
            options.get("device", "auto"),
            options.get("threads"),
            options.get("precision", "auto"),
            chosen.optimizer,
        )

    @property
    def device(self) -> str:
        """What computes, in words."""
        return self._engine.description

    def session(self, content: ArrayLike, depth: ArrayLike | None = None) -> Session:
        """Return the `Session` of a photograph, before its first iteration."""
        return Session(content, self._styles, depth=depth, preset=self._preset, **self._options)

    def paint(
        self,
        content: ArrayLike,
        depth: ArrayLike | None = None,
        *,
        progress: str | None = None,
        on_step: Callable[[Session], object] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Painted:
        """Paint a photograph; see `methods.Painter`. The image is the one of the lowest loss."""
        session = self.session(content, depth)
        try:
            run(session, progress=progress, on_step=on_step, checkpoints=checkpoints)
        except NumericalError as error:
            if session.iteration:
                error.painted = self._painted(session, session.image)
            raise
        return self._painted(session, session.best)

    def _painted(self, session: Session, image: NDArray[np.float32]) -> Painted:
        recipe = {"method": self.method, **session.recipe}
        done, wanted = session.iteration, session.iterations
        interrupted = None if done >= wanted else f"{done} of {wanted} iterations"
        return Painted(image, recipe, interrupted, session.losses)


class LapstylePainter(GatysPainter):
    """Gatys' method with a Laplacian loss, which keeps the photograph's edges."""

    method = "lapstyle"
    default_preset = "lapstyle"

    def session(self, content: ArrayLike, depth: ArrayLike | None = None) -> Session:
        """Return the `Session` of a photograph; ValueError where it has no Laplacian loss."""
        session = super().session(content, depth)
        if "laplacian" not in session.weights:
            raise ValueError(
                f"preset={self._preset!r}: has no Laplacian loss; give laplacian_weight or "
                "method='gatys'"
            )
        return session


def run(
    session: Session,
    *,
    progress: str | None = None,
    on_step: Callable[[Session], object] | None = None,
    checkpoints: Checkpoints | None = None,
) -> bool:
    """Do all iterations of a session.

    Parameters
    ----------
    session : Session
        What to run.
    progress : str, optional
        Name of a progress bar that shows after two seconds; without it there is none.
    on_step : callable, optional
        Called with the session after each iteration; without it a GPU does several in one go.
    checkpoints : Checkpoints, optional
        Saves the session by time, and takes up an earlier run's.

    Returns
    -------
    bool
        False where Ctrl-C ended it early.

    Raises
    ------
    NumericalError
        A loss stopped being finite.
    CheckpointError, Busy
        As `Checkpoints.of`.
    """
    keeper = contextlib.nullcontext() if checkpoints is None else checkpoints.of(session)
    bar = progress_bar(
        total=session.iterations,
        desc=progress,
        delay=2,
        mininterval=0.5,
        disable=progress is None,
        leave=False,
    )
    with bar, keeper:
        bar.update(session.iteration)
        try:
            while session.iteration < session.iterations:
                session.advance(1 if on_step else session.iterations - session.iteration)
                if checkpoints is not None:
                    checkpoints.after_step(session)
                bar.set_postfix(loss=f"{session.losses['total'][-1]:.4g}", refresh=False)
                bar.update(session.iteration - bar.n)
                if on_step is not None:
                    on_step(session)
        except KeyboardInterrupt:
            return False
    return True
