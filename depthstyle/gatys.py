"""The Gatys family: optimise the pixels of a picture (Gatys et al. 2016; papers 001, 003, 004)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.errors import DepthstyleWarning
from depthstyle.session import Session

METHODS = {"gatys": "size-invariant", "lapstyle": "lapstyle"}
"""The methods of `stylize` and the preset of each."""


def stylize(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike],
    method: str = "gatys",
    *,
    preset: str | None = None,
    progress: bool = True,
    on_step: Callable[[Session], object] | None = None,
    **options: Any,
) -> NDArray[np.float32]:
    """Paint a photograph in the style of one or several pictures.

    Minimises ``a L_content + b L_style (+ c L_tv + d L_laplacian)`` over the pixels.

    Parameters
    ----------
    content : array (H, W, 3)
        The photograph: floats in [0, 1], uint8 or uint16.
    style : array (h, w, 3) or sequence of such arrays
        One style picture or several.
    method : {"gatys", "lapstyle"}, optional
        Without or with the Laplacian loss that keeps the photograph's edges.
    preset : str, optional
        A name of `presets.PRESETS`; by default the method's own.
    progress : bool, optional
        Show a progress bar with the remaining time after two seconds.
    on_step : callable, optional
        Called with the `Session` after each iteration.
    **options
        All other parameters of `Session`: `depth`, `style_masks`, `weights`, `size`, `seed`, and
        the settings of the preset.

    Returns
    -------
    float32 (H, W, 3)
        The picture of the lowest loss at full scale, in [0, 1], of the photograph's size unless
        `size` is given. After Ctrl-C the best picture so far, with a warning.

    Raises
    ------
    ValueError, ImageError, WeightsError, NumericalError
        As `Session` and `Session.step`.
    """
    session = make_session(content, style, method, preset=preset, **options)
    if not run(session, progress=progress, on_step=on_step):
        warnings.warn(
            f"interrupted after {session.iteration} of {session.iterations} iterations; this is "
            "the best picture so far",
            DepthstyleWarning,
            stacklevel=2,
        )
    return session.best


def make_session(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike],
    method: str = "gatys",
    *,
    preset: str | None = None,
    **options: Any,
) -> Session:
    """Return the `Session` of a method; parameters and errors as for `stylize`."""
    if method not in METHODS:
        raise ValueError(f"method={method!r}: unknown; choose from {', '.join(METHODS)}")
    session = Session(content, style, preset=preset or METHODS[method], **options)
    if method == "lapstyle" and "laplacian" not in session.weights:
        raise ValueError(
            f"preset={preset!r}: has no Laplacian loss; give laplacian_weight or method='gatys'"
        )
    return session


def run(
    session: Session,
    *,
    progress: bool = True,
    on_step: Callable[[Session], object] | None = None,
    description: str = "stylize",
) -> bool:
    """Do all iterations of a session.

    Parameters
    ----------
    session : Session
        What to run.
    progress : bool, optional
        Show a progress bar with the remaining time after two seconds.
    on_step : callable, optional
        Called with the session after each iteration.
    description : str, optional
        The progress bar's name.

    Returns
    -------
    bool
        False where Ctrl-C ended it early.

    Raises
    ------
    NumericalError
        A loss stopped being finite.
    """
    from tqdm import tqdm

    with tqdm(
        total=session.iterations,
        desc=description,
        delay=2,
        mininterval=0.5,
        disable=not progress,
        leave=False,
    ) as bar:
        try:
            while session.iteration < session.iterations:
                session.step()
                bar.set_postfix(loss=f"{session.losses['total'][-1]:.4g}", refresh=False)
                bar.update()
                if on_step is not None:
                    on_step(session)
        except KeyboardInterrupt:
            return False
    return True
