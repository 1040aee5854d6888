"""Sheets of pictures and curves of losses, for looking at results."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.errors import ImageError
from depthstyle.files import write_atomically
from depthstyle.images import as_image, resize, scaled_size
from depthstyle.picture_codec import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

_PAPER = 250
_INK = (45, 45, 50)
_TALLEST = 1.2
"""Largest height of a cell as a multiple of its width; taller pictures are drawn narrower."""
NARROWEST = 32
"""Least width of a cell in pixels."""


def contact_sheet(
    pictures: Sequence[ArrayLike],
    labels: Sequence[str],
    *,
    columns: int | None = None,
    cell_width: int = 360,
) -> NDArray[np.float32]:
    """Lay pictures out in a grid with a label under each.

    Parameters
    ----------
    pictures : sequence of arrays (H, W, 3) or (H, W)
        Pictures of any sizes; values as `as_image` takes them.
    labels : sequence of str
        One per picture; shortened where it is wider than the picture's cell.
    columns : int, optional
        Pictures per row; by default as near to a square sheet as possible.
    cell_width : int, optional
        Width of a cell in pixels.

    Returns
    -------
    float32 (H, W, 3)
        The sheet, RGB in [0, 1].

    Raises
    ------
    ValueError
        No pictures, as many labels as pictures not given, or `columns` or `cell_width` too small.
    ImageError
        One of the pictures is none.
    """
    if not pictures or len(pictures) != len(labels):
        raise ValueError(f"labels: {len(labels)} given for {len(pictures)} pictures; give one each")
    columns = round(np.ceil(np.sqrt(len(pictures)))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns={columns!r}: must be at least 1")
    columns = min(columns, len(pictures))
    cells = [as_image(picture, label) for picture, label in zip(pictures, labels, strict=True)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    captions = [list(labels[start : start + columns]) for start in range(0, len(cells), columns)]
    return _draw_grid(rows, captions=captions, cell_width=cell_width)


def comparison_grid(
    rows: Sequence[Sequence[ArrayLike]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    cell_width: int = 300,
) -> NDArray[np.float32]:
    """Lay pictures out as a table, one setting per row and one per column.

    Parameters
    ----------
    rows : sequence of sequences of arrays (H, W, 3) or (H, W)
        The pictures, row by row; every row has as many as there are column labels.
    row_labels, column_labels : sequence of str
        Headings at the left and at the top.
    cell_width : int, optional
        Width of a cell in pixels.

    Returns
    -------
    float32 (H, W, 3)
        The sheet, RGB in [0, 1].

    Raises
    ------
    ValueError
        The numbers of pictures and labels do not agree, or `cell_width` is too small.
    ImageError
        One of the pictures is none.
    """
    if not rows or len(rows) != len(row_labels):
        raise ValueError(f"row_labels: {len(row_labels)} given for {len(rows)} rows; give one each")
    if not column_labels or any(len(row) != len(column_labels) for row in rows):
        raise ValueError(
            f"column_labels: {len(column_labels)} given for rows of "
            f"{sorted({len(row) for row in rows})} pictures; give one for each column"
        )
    cells = [
        [
            as_image(picture, f"{across}, {down}")
            for picture, down in zip(row, column_labels, strict=True)
        ]
        for row, across in zip(rows, row_labels, strict=True)
    ]
    return _draw_grid(cells, headings=(row_labels, column_labels), cell_width=cell_width)


def loss_curves(
    losses: Mapping[str, Sequence[float]], path: PathLike | None = None, *, title: str = ""
) -> Figure:
    """Draw losses over the iterations, on a logarithmic axis.

    Parameters
    ----------
    losses : mapping of str to sequence of float
        A curve for each name; values that are not above 0 or not finite leave a gap.
    path : path, optional
        Where to write the figure too: ``.png``, ``.svg`` or ``.pdf``.
    title : str, optional
        The heading.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There is no curve, or none with a value to draw.
    ImageError
        The suffix of `path` is another, or it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = {name: np.asarray(values, np.float64) for name, values in losses.items()}
    curves = {name: np.where(_drawable(values), values, np.nan) for name, values in curves.items()}
    if not any(np.isfinite(values).any() for values in curves.values()):
        raise ValueError("losses: no finite value above 0 to draw")
    figure = Figure(figsize=(8, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in curves.items():
        lone = "o" if np.isfinite(values).sum() == 1 else ""
        total = {"color": "black", "linewidth": 2.2, "zorder": 3} if name == "total" else {}
        axes.plot(values, marker=lone, label=name, **{"linewidth": 1.5, **total})
    axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left")
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    figure.legend(loc="outside right upper", frameon=False)
    if path is not None:
        _write_figure(figure, path)
    return figure


def _drawable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0)


def _write_figure(figure: Figure, path: PathLike) -> None:
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise ImageError(f"{path}: unknown suffix {suffix!r}; use .png, .svg or .pdf")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix[1:])
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error


def _draw_grid(
    rows: Sequence[Sequence[NDArray[np.float32]]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    headings: tuple[Sequence[str], Sequence[str]] | None = None,
    cell_width: int,
) -> NDArray[np.float32]:
    """Draw rows of cells with captions below, or with headings at the left and the top."""
    from PIL import Image, ImageDraw, ImageFont

    if cell_width < NARROWEST:
        raise ValueError(f"cell_width={cell_width!r}: must be at least {NARROWEST} pixels")
    font_size = max(12, cell_width // 20)
    font = ImageFont.load_default(size=font_size)
    line = round(font_size * 1.7)
    gap = max(8, cell_width // 24)
    row_texts, column_texts = headings or ((), ())
    text_width = round(min(cell_width, max(map(font.getlength, row_texts), default=0)))
    x = (
        gap
        + (text_width + gap if row_texts else 0)
        + (cell_width + gap) * np.arange(max(map(len, rows)))
    )
    heights = [_row_height(row, cell_width) for row in rows]
    steps = np.array(heights) + gap + (line if captions else 0)
    y = gap + (line if column_texts else 0) + np.concatenate([[0], np.cumsum(steps)])
    sheet = Image.new("RGB", (int(x[-1]) + cell_width + gap, int(y[-1])), (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    draw.font = font
    for left, text in zip(x, column_texts, strict=False):
        _write(draw, text, left + cell_width / 2, (gap + line) / 2, cell_width, "mm")
    for top, height, text in zip(y, heights, row_texts, strict=False):
        _write(draw, text, gap, top + height / 2, text_width, "lm")
    for down, (row, top, height) in enumerate(zip(rows, y, heights, strict=False)):
        for across, (cell, left) in enumerate(zip(row, x, strict=False)):
            picture = _fit(cell, height, cell_width)
            indent = (cell_width - picture.width) // 2
            sheet.paste(picture, (int(left) + indent, int(top) + height - picture.height))
            if captions:
                middle = left + cell_width / 2, top + height + line / 2
                _write(draw, captions[down][across], *middle, cell_width, "mm")
    return np.asarray(sheet, np.float32) / np.float32(255)


def _row_height(row: Sequence[NDArray[np.float32]], cell_width: int) -> int:
    tallest = max(cell.shape[0] / cell.shape[1] for cell in row)
    return max(1, round(cell_width * min(tallest, _TALLEST)))


def _fit(cell: NDArray[np.float32], height: int, width: int) -> Image.Image:
    from PIL import Image

    scale = min(height / cell.shape[0], width / cell.shape[1])
    longest = max(1, round(max(cell.shape[:2]) * scale))
    size = scaled_size(*cell.shape[:2], longest=longest)
    size = min(size[0], height), min(size[1], width)
    enlarged = scale > 2
    pixels = np.rint(resize(cell, size, "area" if enlarged else "lanczos") * 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _write(draw: ImageDraw, text: str, x: float, y: float, width: float, anchor: str) -> None:
    text = " ".join(text.split())
    if draw.textlength(text) > width:
        while text and draw.textlength(text + "...") > width:
            text = text[:-1]
        text += "..."
    draw.text((x, y), text, fill=_INK, anchor=anchor)
