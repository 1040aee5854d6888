"""The result of an evaluation: rows, summary, and how they are written and shown."""

from __future__ import annotations

import csv
import html
import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from depthstyle.files import write_atomically

from .interval import student_interval
from .metrics import Protocol
from .pairs import Problem
from .rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Measure(NamedTuple):
    """How the columns of one measure are named and read."""

    title: str
    digits: int
    higher_is_better: bool


MEASURES = {
    "ssim": Measure("SSIM", 4, True),
    "psnr": Measure("PSNR (dB)", 2, True),
    "gradient": Measure("Gradient similarity", 4, True),
    "depth": Measure("Depth difference", 4, False),
}

RESULT_COLUMNS = {
    "difference",
    "settings",
    *(f"{name}_{part}" for name in MEASURES for part in ("ours", "baseline", "difference")),
}
"""Names that a further column of pairs.csv cannot have."""


@dataclass(frozen=True)
class Summary:
    """What one measure says over all pairs.

    Attributes
    ----------
    pairs, images : int
        Number of pairs, and of content images among them.
    wins, ties : int
        Pairs in which ours is better, and in which both are equal.
    mean_ours, mean_baseline, mean_difference : float
    interval : (float, float) or None
        95 % confidence interval of the mean paired difference (Student t over the pairs); None
        when it is not defined: a single pair, or an infinite value.
    interval_by_image : (float, float) or None
        The same over content images, with the styles of each averaged first. Pairs of one
        content image are not independent, so this is the more careful one; None when every
        content image occurs once.
    """

    pairs: int
    images: int
    wins: int
    ties: int
    mean_ours: float
    mean_baseline: float
    mean_difference: float
    interval: tuple[float, float] | None
    interval_by_image: tuple[float, float] | None


@dataclass(frozen=True)
class SSIMTable:
    """Structural similarity of ours and of a baseline to the content images.

    Attributes
    ----------
    rows : tuple of Row
    problems : tuple of Problem
        Rows that could not be measured, and why.
    protocol : Protocol
        How SSIM was measured.
    depth_network : str
        Name of the network whose depth was compared; empty where it has none.
    """

    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    protocol: Protocol
    depth_network: str = ""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, "ssim" first."""
        return tuple(self.rows[0].values)

    @property
    def settings(self) -> str:
        """Everything that the numbers depend on besides the pictures, in one line."""
        parts = [str(self.protocol)]
        if "psnr" in self.measures:
            parts.append(f"PSNR on {self.protocol.color} 8-bit values")
        if "gradient" in self.measures:
            parts.append("gradient-magnitude similarity on grey, halved, Prewitt, T 170, mean")
        if "depth" in self.measures:
            network = f" of {self.depth_network}" if self.depth_network else ""
            parts.append(f"depth{network}, mean absolute difference, lower is better")
        return "; ".join(parts)

    def summary(self, measure: str = "ssim") -> Summary:
        """Wins, means and the paired difference of one measure.

        Raises
        ------
        ValueError
            If the table does not hold the measure.
        """
        if measure not in self.measures:
            raise ValueError(f"measure={measure!r}: the table holds {', '.join(self.measures)}")
        values = [row.values[measure] for row in self.rows]
        differences = np.array([value.difference for value in values])
        better = differences if MEASURES[measure].higher_is_better else -differences
        by_image = defaultdict(list)
        for row, difference in zip(self.rows, differences, strict=True):
            by_image[row.image].append(difference)
        image_means = [float(np.mean(group)) for group in by_image.values()]
        repeated = len(by_image) < len(values)
        return Summary(
            pairs=len(values),
            images=len(by_image),
            wins=int((better > 0).sum()),
            ties=int((better == 0).sum()),
            mean_ours=float(np.mean([value.ours for value in values])),
            mean_baseline=float(np.mean([value.baseline for value in values])),
            mean_difference=float(differences.mean()),
            interval=student_interval(differences),
            interval_by_image=student_interval(image_means) if repeated else None,
        )

    def describe(self) -> str:
        """Wins, means and paired differences of every measure, as text."""
        return "\n".join(_describe(self.summary(name), MEASURES[name]) for name in self.measures)

    def to_csv(self) -> str:
        """Give the table as csv, with the settings in every row so that rows can be mixed."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        further = [name for name in self.measures if name != "ssim"]
        extra = list(self.rows[0].extra)
        header = ["image", "style", "ours", "baseline", "difference"]
        header += [f"{name}_{part}" for name in further for part in header[2:5]]
        writer.writerow([*header, *extra, "settings"])
        for row in self.rows:
            cells = [row.image, row.style]
            for value in row.values.values():
                cells += [f"{x:.6f}" for x in (value.ours, value.baseline, value.difference)]
            writer.writerow([*cells, *(row.extra[name] for name in extra), self.settings])
        return text.getvalue()

    def to_markdown(self) -> str:
        """Give the table, its summary, the settings and the rows left out as Markdown."""
        header, body = self._cells()
        lines = [
            "# Similarity to the content image",
            "",
            "| " + " | ".join(header) + " |",
            "| --- | --- |" + " ---: |" * (len(header) - 2),
        ]
        lines += [
            "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in body
        ]
        lines += ["", "```text", self.describe(), "```"]
        lines += ["", f"Settings: {self.settings}."]
        if self.problems:
            lines += ["", "Left out:", "", *(f"- {problem}" for problem in self.problems)]
        return "\n".join(lines) + "\n"

    def plot(self, path: str | Path | None = None) -> Figure:
        """Paired bars of SSIM, one panel per style, as in Figure 2 of the paper.

        Parameters
        ----------
        path : str or Path, optional
            Where to save the figure; the ending chooses the format.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .bars import paired_bars

        figure = paired_bars(self.rows, str(self.protocol))
        if path is not None:
            figure.savefig(path, dpi=150, metadata=None)
        return figure

    def save(self, out: str | Path) -> tuple[Path, Path, Path]:
        """Write ``ssim.csv``, ``ssim.md`` and ``ssim.png`` into a folder.

        Parameters
        ----------
        out : str or Path
            The folder; made if it is missing.

        Returns
        -------
        tuple of Path
            The three files.
        """
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        files = out / "ssim.csv", out / "ssim.md", out / "ssim.png"
        write_atomically(files[0], self.to_csv().encode())
        write_atomically(files[1], self.to_markdown().encode())
        self.plot(files[2])
        return files

    def _repr_html_(self) -> str:
        header, body = self._cells()
        cell = html.escape
        head = "".join(f"<th>{cell(name)}</th>" for name in header)
        rows = "".join(
            "<tr>" + "".join(f"<td>{cell(text)}</td>" for text in row) + "</tr>" for row in body
        )
        notes = [f"Settings: {self.settings}."]
        notes += [f"Left out: {problem}" for problem in self.problems]
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<pre>{cell(self.describe())}</pre>"
            + "".join(f"<p>{cell(note)}</p>" for note in notes)
        )

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        header = ["Image", "Style"]
        for name in self.measures:
            title = MEASURES[name].title
            header += [f"{title}, {part}" for part in ("ours", "baseline", "difference")]
        body = []
        for row in self.rows:
            cells = [row.image, row.style]
            for name, value in row.values.items():
                digits = MEASURES[name].digits
                cells += [f"{value.ours:.{digits}f}", f"{value.baseline:.{digits}f}"]
                cells += [f"{value.difference:+.{digits}f}"]
            body.append(cells)
        return header, body


def _describe(summary: Summary, measure: Measure) -> str:
    direction = "" if measure.higher_is_better else " (lower is better)"
    ties = f", {summary.ties} equal" if summary.ties else ""
    means = (summary.mean_ours, summary.mean_baseline)
    ours, baseline = (f"{mean:.{measure.digits}f}" for mean in means)
    wins = f"ours is better in {summary.wins} of {summary.pairs} pairs"
    lines = [
        f"{measure.title}{direction}: {wins}{ties}",
        f"  mean                {ours} ours, {baseline} baseline",
        f"  paired difference   {summary.mean_difference:+.{measure.digits}f}",
    ]
    over = f"{summary.pairs} pairs"
    by_image = f"{summary.images} content images, styles averaged"
    for interval, count in ((summary.interval, over), (summary.interval_by_image, by_image)):
        if interval is not None:
            low, high = (f"{x:+.{measure.digits}f}" for x in interval)
            lines.append(f"  95 % interval       {low} to {high} (Student t, {count})")
    if summary.interval is None:
        lines.append("  95 % interval       none: it needs at least two pairs with finite values")
    return "\n".join(lines)
