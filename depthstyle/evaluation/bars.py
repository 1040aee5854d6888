"""The paired bars of an SSIM table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, BASELINE = "#0b6e99", "#e0a458"
MAX_HEIGHT = 400.0
"""Inches; at 150 dpi this stays below the 65,536 pixels that matplotlib can draw."""

LINE_IMAGES = 24
"""Content images that fit on a line of panels; a style with more goes over several lines."""


def paired_bars(rows: Sequence[Row], note: str) -> Figure:
    """Draw SSIM of ours beside the baseline's, one panel per style.

    Parameters
    ----------
    rows : sequence of Row
    note : str
        What stands below: how SSIM was measured.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    groups = _panels(rows)
    widest = max(len(group) for group in groups)
    columns = min(len(groups), max(1, LINE_IMAGES // widest))
    lines = -(-len(groups) // columns)
    labels = max(len(row.image) for row in rows)
    width = max(6.4, 0.45 * widest * columns + 1.2)
    height = 2.6 + min(labels, 24) * 0.07
    figure = Figure(figsize=(width, min(MAX_HEIGHT, height * lines + 1.0)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    low = min(0.0, *(min(row.ours, row.baseline) for row in rows))
    high = max(max(row.ours, row.baseline) for row in rows)
    for panel, group in zip(axes.flat, groups, strict=False):
        _draw_panel(panel, group, max(widest, 3))
        panel.set_ylim(low * 1.1, max(high, 0.05) * 1.12)
    for panel in axes.flat[len(groups) :]:
        panel.set_visible(False)
    for panel in axes[:, 0]:
        panel.set_ylabel("SSIM to the content image")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(textwrap.fill(note, int(width * 17)), fontsize=7, color="0.4")
    return figure


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by style, and cut long groups."""
    styles = dict.fromkeys(row.style for row in rows)
    groups = [[row for row in rows if row.style == style] for style in styles]
    return [
        group[start : start + LINE_IMAGES]
        for group in groups
        for start in range(0, len(group), LINE_IMAGES)
    ]


def _draw_panel(panel: Axes, group: list[Row], places_shown: int) -> None:
    places = np.arange(len(group))
    bars = [
        panel.bar(places - 0.2, [row.ours for row in group], 0.4, color=OURS, label="ours"),
        panel.bar(
            places + 0.2, [row.baseline for row in group], 0.4, color=BASELINE, label="baseline"
        ),
    ]
    if len(group) <= 8:
        for bar in bars:
            panel.bar_label(bar, fmt="%.2f", fontsize=6.5, padding=1.5, rotation=90)
    panel.set_xticks(places, [_short(row.image) for row in group], rotation=45, ha="right")
    panel.tick_params("x", length=0, labelsize=8, pad=1)
    panel.set_title(_short(group[0].style), fontsize=10)
    center, half = (len(group) - 1) / 2, places_shown / 2 + 0.1
    panel.set_xlim(center - half, center + half)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)


def _short(name: str) -> str:
    """Shorten a name for the axis; a dollar sign would start mathematics."""
    name = name if len(name) <= 24 else f"{name[:11]}…{name[-11:]}"
    return name.replace("$", r"\$")
