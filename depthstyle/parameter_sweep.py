"""One picture over the parameters of depth-aware AdaIN (Figures 4 and 5 of paper 002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.adain import DepthAdainPainter
from depthstyle.depth import as_depth, strength_map
from depthstyle.images import as_image
from depthstyle.methods import as_list
from depthstyle.plots import NARROWEST, comparison_grid
from depthstyle.presets import check_count


def sweep(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike],
    depth: ArrayLike,
    *,
    betas: Sequence[float] = (1, 5, 10, 20, 50),
    epsilons: Sequence[float] = (0, 0.15, 0.3, 0.5),
    cell_width: int = 300,
    progress: bool = True,
    **settings: Any,
) -> NDArray[np.float32]:
    """Paint a photograph by depth-aware AdaIN with every beta and every epsilon.

    Parameters
    ----------
    content : array (H, W, 3)
        The photograph: floats in [0, 1], uint8 or uint16.
    style : array (h, w, 3) or sequence of such arrays
        One style picture or several.
    depth : array (h, w)
        Depth of the photograph, 0 nearest to 1 farthest.
    betas : sequence of float, optional
        Prominences of the nearness, one for each column. The row of epsilon 0 is Figure 4 of the
        paper.
    epsilons : sequence of float, optional
        Least styles, one for each row. The column of beta 20 is Figure 5.
    cell_width : int, optional
        Width of a picture on the sheet in pixels.
    progress : bool, optional
        Show a progress bar with the remaining time after two seconds.
    **settings
        The other settings of `DepthAdainPainter`.

    Returns
    -------
    float32 (H, W, 3)
        The sheet, RGB in [0, 1]: the strength maps P without epsilon, white where the photograph
        is kept, and below them the pictures.

    Raises
    ------
    ValueError, ImageError, WeightsError
        As for `DepthAdainPainter` and `paint`, or there is no beta or epsilon.
    """
    from tqdm import tqdm

    betas, epsilons = list(betas), list(epsilons)
    for name, values in (("betas", betas), ("epsilons", epsilons)):
        if not values:
            raise ValueError(f"{name}: is empty; give one number or more")
    check_count("cell_width", cell_width, least=NARROWEST)
    picture = as_image(content, "content")
    fitted = as_depth(depth, picture.shape[:2])
    first = DepthAdainPainter(as_list(style), **settings)
    painters = [[first.at(beta, epsilon) for beta in betas] for epsilon in epsilons]
    rows: list[list[Any]] = [[strength_map(fitted, beta=beta, epsilon=0) for beta in betas]]
    bar = tqdm(
        total=len(betas) * len(epsilons),
        desc="sweep",
        delay=2,
        disable=not progress,
        leave=False,
    )
    with bar:
        for row in painters:
            rows.append([])
            for painter in row:
                rows[-1].append(painter.paint(picture, fitted).image)
                bar.update()
    return comparison_grid(
        rows,
        ["P", *(f"epsilon {epsilon:g}" for epsilon in epsilons)],
        [f"beta {beta:g}" for beta in betas],
        cell_width=cell_width,
    )
