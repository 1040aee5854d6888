"""The report of a study: test, intervals, tables per pair and per respondent, plots."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depthstyle.files import write_atomically

from .database import Study, Vote
from .statistics import BinomialTest, binomial_test, cluster_bootstrap, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, EVEN = "#0b6e99", "#9a9a95"
THUMBNAIL = 120
VOTE_FIELDS = tuple(field.name for field in fields(Vote))


@dataclass(frozen=True)
class Tally:
    """The votes on one pair, or of one respondent.

    Attributes
    ----------
    number : int
        Of the pair or the respondent.
    name : str
    test : BinomialTest
    left : int
        Votes for the picture on the left.
    """

    number: int
    name: str
    test: BinomialTest
    left: int


@dataclass(frozen=True)
class Report:
    """What a study says.

    Attributes
    ----------
    total : BinomialTest
        Over all votes.
    bootstrap : (float, float) or None
        95 % interval of the proportion, respondents drawn again; None for a single respondent.
    pairs, respondents : tuple of Tally
        Votes on each pair and of each respondent who voted.
    votes : tuple of Vote
    invited, expected : int
        Personal links, and the votes that they would give.
    """

    total: BinomialTest
    bootstrap: tuple[float, float] | None
    pairs: tuple[Tally, ...]
    respondents: tuple[Tally, ...]
    votes: tuple[Vote, ...]
    invited: int
    expected: int

    def __str__(self) -> str:
        left = sum(vote.side == "left" for vote in self.votes)
        if self.bootstrap is None:
            bootstrap = "none   (it needs two respondents)"
        else:
            low, high = map(percent, self.bootstrap)
            bootstrap = f"{low} to {high}   (cluster bootstrap over respondents)"
        return (
            f"{self.total}\n"
            f"95 % interval        {bootstrap}\n"
            f"respondents          {len(self.respondents)} of {self.invited} invited voted, "
            f"{self.total.of} of {self.expected} votes are in\n"
            f"left picture chosen  {percent(left / self.total.of)}"
        )

    def to_csv(self) -> str:
        """All votes as csv, one line each; nothing in it names a person or opens a link."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow((*VOTE_FIELDS, "vote"))
        for vote in self.votes:
            cells = (getattr(vote, name) for name in VOTE_FIELDS)
            writer.writerow((*cells, "ours" if vote.ours else "baseline"))
        return text.getvalue()

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the share of votes for ours, per pair and per respondent.

        Parameters
        ----------
        path : str or Path, optional
            Where to save the figure; the ending chooses the format.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure

        rows = max(len(self.pairs), len(self.respondents))
        height = min(60.0, 1.6 + 0.24 * rows)
        figure = Figure(figsize=(10.0, max(3.0, height)), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, tallies, title in (
            (panels[0], self.pairs, "Per pair"),
            (panels[1], self.respondents, "Per respondent"),
        ):
            _draw(panel, tallies, title, self.total.proportion)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def report(study: Study | str | Path, seed: int = 0) -> Report:
    """Evaluate a study's votes.

    Parameters
    ----------
    study : Study, str or Path
        The study or its folder. It may be running.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the folder holds no study, or nobody voted yet.
    """
    if not isinstance(study, Study):
        study = Study(study)
    votes = study.votes()
    if not votes:
        raise ValueError(f"study: nobody voted yet in {study.folder}; send out the personal links")
    pairs = _tally((vote.pair, f"{vote.image} {vote.style}".strip(), vote) for vote in votes)
    respondents = _tally((vote.respondent, str(vote.respondent), vote) for vote in votes)
    invited, expected = study.size()
    return Report(
        total=binomial_test(sum(vote.ours for vote in votes), len(votes)),
        bootstrap=cluster_bootstrap(
            [tally.test.votes for tally in respondents],
            [tally.test.of for tally in respondents],
            seed,
        ),
        pairs=pairs,
        respondents=respondents,
        votes=tuple(votes),
        invited=invited,
        expected=expected,
    )


def write_report(study: Study, result: Report) -> tuple[Path, Path]:
    """Write ``report.html`` and ``votes.csv`` into the study's folder.

    Parameters
    ----------
    study : Study
    result : Report

    Returns
    -------
    tuple of Path
        The two files.
    """
    files = study.folder / "report.html", study.folder / "votes.csv"
    write_atomically(files[0], _page(study, result).encode())
    write_atomically(files[1], result.to_csv().encode())
    return files


def _tally(votes: Iterable[tuple[int, str, Vote]]) -> tuple[Tally, ...]:
    groups: dict[int, tuple[str, list[Vote]]] = {}
    for number, name, vote in votes:
        groups.setdefault(number, (name, []))[1].append(vote)
    return tuple(
        Tally(
            number,
            name,
            binomial_test(sum(vote.ours for vote in group), len(group)),
            sum(vote.side == "left" for vote in group),
        )
        for number, (name, group) in sorted(groups.items())
    )


def _draw(panel: Axes, tallies: tuple[Tally, ...], title: str, total: float) -> None:
    ordered = sorted(tallies, key=lambda tally: (tally.test.proportion, -tally.number))
    places = np.arange(len(ordered))
    shares = np.array([tally.test.proportion for tally in ordered])
    limits = np.array([tally.test.interval for tally in ordered])
    panel.axvline(0.5, color=EVEN, linewidth=1)
    panel.axvline(total, color=OURS, linewidth=1, linestyle=(0, (4, 3)))
    panel.hlines(places, limits[:, 0], limits[:, 1], color=OURS, alpha=0.35, linewidth=2)
    panel.plot(shares, places, "o", color=OURS, markersize=5)
    names = [
        tally.name if len(tally.name) <= 28 else f"{tally.name[:13]}…{tally.name[-13:]}"
        for tally in ordered
    ]
    panel.set_yticks(places, [name.replace("$", r"\$") for name in names], fontsize=8)
    panel.set_ylim(-0.7, len(ordered) - 0.3)
    panel.set_xlim(-0.02, 1.02)
    panel.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    panel.set_title(title, fontsize=11)
    panel.set_xlabel("votes for ours, 95 % Clopper-Pearson intervals", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)


STYLE = """
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1d1d1b; background: #fff;
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f2f2f0; padding: 1rem; border-radius: 8px; overflow-x: auto; line-height: 1.6; }
h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th { font-weight: 600; vertical-align: bottom; }
th, td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td img { display: inline-block; vertical-align: middle; border-radius: 3px; margin-right: 4px; }
svg { width: 100%; height: auto; }
"""


def _page(study: Study, result: Report) -> str:
    question = html.escape(study.setting("question"))
    svg = io.StringIO()
    result.plot().savefig(svg, format="svg")
    drawing = svg.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    pairs = "".join(
        f"<tr><td>{_thumbnails(study, tally.number)}</td><td>{html.escape(tally.name)}</td>"
        f"{_cells(tally)}</tr>"
        for tally in result.pairs
    )
    respondents = "".join(
        f"<tr><td>{html.escape(tally.name)}</td>{_cells(tally)}</tr>"
        for tally in result.respondents
    )
    numbers = "<th>votes for ours</th><th>of</th><th>share</th><th>95 % interval</th><th>left</th>"
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Study report</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body>
<h1>Study report</h1>
<p>Question: {question}</p>
<pre>{html.escape(str(result))}</pre>
{drawing}
<p>Dots: share of votes for ours. Dashed: over all votes.</p>
<h2>Per pair</h2>
<table><tr><th>content, ours, baseline</th><th>pair</th>{numbers}</tr>{pairs}</table>
<h2>Per respondent</h2>
<table><tr><th>respondent</th>{numbers}</tr>{respondents}</table>
</body></html>
"""


def _cells(tally: Tally) -> str:
    test = tally.test
    low, high = map(percent, test.interval)
    cells = (test.votes, test.of, percent(test.proportion), f"{low} to {high}", tally.left)
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _thumbnails(study: Study, pair: int) -> str:
    from PIL import Image

    tags = []
    for name, jpeg in study.pair_pictures(pair).items():
        image = Image.open(io.BytesIO(jpeg))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        data = io.BytesIO()
        image.save(data, "JPEG", quality=85)
        text = base64.b64encode(data.getvalue()).decode()
        tags.append(f'<img alt="{name}" src="data:image/jpeg;base64,{text}">')
    return "".join(tags)
