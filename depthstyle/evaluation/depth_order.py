"""How often a depth estimate knows which of two points is farther (Table 1 of paper 002)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.batch import depth_of
from depthstyle.depth import read_depth
from depthstyle.errors import ImageError, NumericalError
from depthstyle.files import write_atomically
from depthstyle.images import read_image

from .interval import student_interval
from .metrics import DepthNetwork, as_depth_network, see_depth
from .pairs import Problem
from .point_pairs import PointPair

Source = DepthNetwork | str | Path
"""What gives the depth of a photograph: a network, the name of a model, or a folder of files."""

BASELINE = "lower is nearer"
"""Name of the row that knows no more than how high in the picture a point lies."""


@dataclass(frozen=True)
class OrderRow:
    """How one source of depth orders the pairs.

    Attributes
    ----------
    name : str
    correct : float
        Share of the pairs ordered correctly; a tie counts half, as guessing would.
    ties : int
        Pairs whose two points have the same depth.
    interval : (float, float) or None
        95 % confidence interval of `correct` (Student t over the pictures, because pairs of one
        picture are not independent); None for a single picture.
    """

    name: str
    correct: float
    ties: int
    interval: tuple[float, float] | None

    @property
    def whdr(self) -> float:
        """Share of the pairs ordered wrongly: DIW's WHDR with equal weights."""
        return 1 - self.correct


@dataclass(frozen=True)
class DepthOrderTable:
    """How several sources of depth order the same pairs; the last row is the baseline.

    Attributes
    ----------
    rows : tuple of OrderRow
    pairs, images : int
        How many pairs were judged, and in how many pictures.
    problems : tuple of Problem
        What was left out, for every row, and why.
    """

    rows: tuple[OrderRow, ...]
    pairs: int
    images: int
    problems: tuple[Problem, ...]

    def describe(self) -> str:
        """Give the table as text."""
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'':{width}}  ordered correctly    WHDR  95 % interval       ties"]
        for row in self.rows:
            lines.append(
                f"{row.name:{width}}  {row.correct:17.2%}  {row.whdr:7.4f}"
                f"  {_interval(row):<17}  {row.ties:>5}"
            )
        return "\n".join([*lines, self._counts()])

    def to_csv(self) -> str:
        """Give the table as csv."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", "correct", "whdr", "low", "high", "ties", "pairs", "images"])
        for row in self.rows:
            ends = ["", ""] if row.interval is None else [f"{end:.6f}" for end in row.interval]
            shares = [f"{row.correct:.6f}", f"{row.whdr:.6f}"]
            writer.writerow([row.name, *shares, *ends, row.ties, self.pairs, self.images])
        return text.getvalue()

    def to_markdown(self) -> str:
        """Give the table and what was left out as Markdown."""
        lines = [
            "# Which of two points is farther",
            "",
            "| Depth | Ordered correctly | WHDR | 95 % interval | Ties |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for row in self.rows:
            name = row.name.replace("|", r"\|")
            lines.append(
                f"| {name} | {row.correct:.2%} | {row.whdr:.4f} | {_interval(row)} | {row.ties} |"
            )
        lines += ["", f"{self._counts()}."]
        if self.problems:
            lines += ["", "Left out:", "", *(f"- {problem}" for problem in self.problems)]
        return "\n".join(lines) + "\n"

    def save(self, out: str | Path) -> tuple[Path, Path]:
        """Write ``depth_order.csv`` and ``depth_order.md`` into a folder, made if missing."""
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        files = out / "depth_order.csv", out / "depth_order.md"
        write_atomically(files[0], self.to_csv().encode())
        write_atomically(files[1], self.to_markdown().encode())
        return files

    def _counts(self) -> str:
        return f"pairs {self.pairs}, pictures {self.images}; a tie counts half"


def depth_order_table(
    pairs: Iterable[PointPair],
    sources: Mapping[str, Source],
    *,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    progress: bool = True,
) -> DepthOrderTable:
    """Measure how often depth estimates know which of two points is farther.

    Parameters
    ----------
    pairs : iterable of PointPair
        From `read_annotations` or `random_pairs`.
    sources : mapping of str to callable, str or Path
        What gives the depth of a photograph, by the name of its row: a callable from float32
        (H, W, 3) RGB in [0, 1] to a depth map (h, w) that grows with the distance, the name of a
        model of `estimate_depth`, or a folder with a depth file of each photograph's stem.
    options : mapping, optional
        Options of `read_depth_map` for the files of folders.
    problems : sequence of Problem, optional
        What was left out before; it is repeated in the table.
    progress : bool, optional
        Show a progress bar when the work takes longer than two seconds.

    Returns
    -------
    DepthOrderTable
        One row for each source and one for the rule that the lower of two points is nearer, all
        over the same pairs: a picture that cannot be read, or whose depth a source does not find,
        is left out of every row.

    Raises
    ------
    ValueError
        A folder cannot be used, there are no pairs, or none could be judged.
    WeightsError
        The name of a model is unknown, or its weights are not in the cache.
    """
    from tqdm import tqdm

    opened = open_sources(sources)
    readers = {name: _as_reader(source, options or {}) for name, source in opened.items()}
    by_image: dict[Path, list[PointPair]] = {}
    for pair in pairs:
        by_image.setdefault(pair.image, []).append(pair)
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in [*readers, BASELINE]}
    failed = list(problems)
    bar = tqdm(by_image.items(), "depth order", delay=2, leave=False, disable=not progress)
    for image, own in bar:
        try:
            maps = {name: read(image) for name, read in readers.items()}
        except (ImageError, NumericalError) as error:
            failed.append(Problem(own[0].line, str(error)))
            continue
        for name, depth in maps.items():
            scores[name].append(np.array([_score(*pair.look_up(depth)) for pair in own]))
        scores[BASELINE].append(np.array([_score(-p.farther[0], -p.nearer[0]) for p in own]))
    if not scores[BASELINE]:
        raise ImageError("; ".join(["pairs: no pair could be judged", *map(str, failed)]))
    rows = tuple(_row(name, judged) for name, judged in scores.items())
    judged = scores[BASELINE]
    return DepthOrderTable(rows, sum(map(len, judged)), len(judged), tuple(failed))


def open_sources(sources: Mapping[str, Source]) -> dict[str, DepthNetwork | Path]:
    """Read the weights of models and check folders, which `depth_order_table` does by itself.

    Raises
    ------
    ValueError
        A folder is missing, or a source has the name of the baseline.
    WeightsError
        The name of a model is unknown, or its weights are not in the cache.
    """
    if BASELINE in sources:
        raise ValueError(f"sources[{BASELINE!r}]: is the name of the baseline; rename it")
    for source in sources.values():
        if isinstance(source, Path) and not source.is_dir():
            raise ValueError(f"predictions: no folder {source}")
    return {
        name: source if isinstance(source, Path) else as_depth_network(source)
        for name, source in sources.items()
    }


def _as_reader(
    source: DepthNetwork | Path, options: Mapping[str, Any]
) -> Callable[[Path], np.ndarray]:
    """Return what gives the depth map of a photograph's path."""
    if isinstance(source, Path):
        return lambda image: read_depth(depth_of(image, source), **options)
    return lambda image: see_depth(source, read_image(image))


def _score(farther: float, nearer: float) -> float:
    """Return 1 for the right order, 0 for the wrong one, a half for none."""
    return 0.5 if farther == nearer else float(farther > nearer)


def _row(name: str, judged: Sequence[NDArray[np.float64]]) -> OrderRow:
    scores = np.concatenate(judged)
    interval = student_interval([own.mean() for own in judged])
    return OrderRow(name, float(scores.mean()), int((scores == 0.5).sum()), interval)


def _interval(row: OrderRow) -> str:
    return "" if row.interval is None else "{:.2%} to {:.2%}".format(*row.interval)
