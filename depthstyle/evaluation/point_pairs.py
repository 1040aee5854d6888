"""Pairs of points of which one is farther: from DIW's annotations or from measured depth."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthstyle.depth import DepthMap, read_depth_map
from depthstyle.errors import ImageError
from depthstyle.presets import check_count

from .pairs import Problem

Point = tuple[int, int]
"""Row and column, counted from 1."""

_TRIES = 20
"""Candidates drawn for each pair that is asked for, before a flat map is given up."""

_OPTIONS = {"encoding": str, "kind": str, "scale": float, "near": float, "far": float}


@dataclass(frozen=True)
class PointPair:
    """Two points of a picture, of which the first is farther.

    Attributes
    ----------
    image : Path
        The photograph.
    size : (int, int)
        Height and width that the points are counted in.
    farther, nearer : (int, int)
        Row and column of each, from 1.
    line : int
        Line of the csv, for messages.
    """

    image: Path
    size: tuple[int, int]
    farther: Point
    nearer: Point
    line: int

    def look_up(self, depth: np.ndarray) -> tuple[float, float]:
        """Return the depth at the farther and at the nearer point, from a map of any size.

        The pixel is floor(coordinate / size * size of the map), at least 1, as in the published
        evaluation on DIW.
        """
        return depth[self._pixel(self.farther, depth)], depth[self._pixel(self.nearer, depth)]

    def _pixel(self, point: Point, depth: np.ndarray) -> tuple[int, int]:
        row, column = (
            max(at * present // original, 1) - 1
            for at, present, original in zip(point, depth.shape, self.size, strict=True)
        )
        return row, column


def read_annotations(
    path: str | Path, images: str | Path | None = None
) -> tuple[list[PointPair], list[Problem]]:
    """Read annotations in the form of "Depth in the Wild" (DIW; Chen et al. 2016).

    Parameters
    ----------
    path : str or Path
        A csv without header, two lines for each pair: the path of the picture, then
        ``y_A,x_A,y_B,x_B,relation,width,height``. Coordinates count from 1; the relation is ``>``
        where A is farther and ``<`` where B is.
    images : str or Path, optional
        The folder that the pictures' paths start from; by default that of the csv.

    Returns
    -------
    pairs : list of PointPair
    problems : list of Problem
        Pairs that cannot be understood.

    Raises
    ------
    ValueError
        The file cannot be read as such a csv, or holds no pair.
    """
    path = Path(path)
    root = path.parent if images is None else Path(images)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ValueError(f"annotations: no file {path}; give the path of DIW's csv") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"annotations: {path} is not a readable UTF-8 csv ({error})") from None
    if len(lines) % 2 or not lines:
        raise ValueError(
            f"annotations: {path} has {len(lines)} lines; DIW has two for each pair, the picture "
            "and then y_A,x_A,y_B,x_B,relation,width,height"
        )
    pairs: list[PointPair] = []
    problems: list[Problem] = []
    for number in range(0, len(lines), 2):
        try:
            pairs.append(_parse_pair(root / lines[number].strip(), lines[number + 1], number + 2))
        except ValueError as error:
            problems.append(Problem(number + 2, str(error)))
    if not pairs:
        raise ValueError(f"annotations: {path} holds no pair; {problems[0]}")
    return pairs, problems


def _parse_pair(image: Path, text: str, line: int) -> PointPair:
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) != 7 or cells[4] not in ("<", ">"):
        raise ValueError(f"{text[:60]!r} must be y_A,x_A,y_B,x_B,relation,width,height")
    try:
        # Some lists write whole numbers as 120.0.
        y_a, x_a, y_b, x_b, width, height = (int(float(c)) for c in cells[:4] + cells[5:])
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:60]!r} holds a cell that is no number") from None
    first, second = (y_a, x_a), (y_b, x_b)
    for row, column in (first, second):
        if not (1 <= row <= height and 1 <= column <= width):
            raise ValueError(f"point {row},{column} lies outside the picture of {height}x{width}")
    farther, nearer = (first, second) if cells[4] == ">" else (second, first)
    return PointPair(image, (height, width), farther, nearer, line)


def draw_pairs(
    path: str | Path, count: int = 1000, seed: int = 0, margin: float = 0.02
) -> tuple[list[PointPair], list[Problem]]:
    """Draw pairs of points from measured depth maps.

    Parameters
    ----------
    path : str or Path
        A UTF-8 csv with the header ``image,depth`` and, as far as they are needed, the columns
        ``encoding``, ``kind``, ``scale``, ``near``, ``far`` and ``invalid`` (numbers with spaces
        between, or none), which are the options of `read_depth_map`. Paths are relative to the csv.
    count : int, optional
        Pairs of each depth map.
    seed : int, optional
        Seed of the points; those of a row do not depend on the other rows' maps.
    margin : float, optional
        Least difference of the two depths, of the map's range.

    Returns
    -------
    pairs : list of PointPair
    problems : list of Problem
        Rows whose depth map cannot be used.

    Raises
    ------
    ValueError
        A parameter is out of range, the csv cannot be read, or there is no pair.
    """
    from tqdm import tqdm

    check_count("pairs", count)
    check_count("seed", seed, least=0)
    if not 0 < margin < 1:
        raise ValueError(f"margin={margin!r}: must be above 0 and below 1")
    path = Path(path)
    pairs: list[PointPair] = []
    problems: list[Problem] = []
    rows = _read_depth_csv(path)
    for line, row in tqdm(
        enumerate(rows, start=2), "read depth", leave=False, total=len(rows), delay=2
    ):
        random = np.random.default_rng([seed, line])
        try:
            depth = read_depth_map(path.parent / row["depth"], **_parse_options(row))
            image = path.parent / row["image"]
            pairs += random_pairs(image, depth, count, random, margin=margin, line=line)
        except ValueError as error:
            problems.append(Problem(line, str(error)))
    if not pairs:
        raise ValueError("; ".join([f"depth-maps: {path} gives no pair", *map(str, problems)]))
    return pairs, problems


def _read_depth_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, strict=True))
    except FileNotFoundError:
        raise ValueError(f"depth-maps: no file {path}; give a csv") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"depth-maps: {path} is not a readable UTF-8 csv ({error})") from None
    known = {"image", "depth", "invalid", *_OPTIONS}
    if not rows or not {"image", "depth"} <= set(rows[0]) <= known:
        raise ValueError(
            f"depth-maps: {path} must have the header image,depth with any of "
            f"{', '.join(sorted(known - {'image', 'depth'}))}, and rows below it"
        )
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"depth-maps: {path}, line {line}: has not the header's cells")
    return rows


def _parse_options(row: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: convert(row[name]) for name, convert in _OPTIONS.items() if row.get(name)
    }
    if row.get("invalid"):
        none = row["invalid"] == "none"
        options["invalid"] = () if none else tuple(map(float, row["invalid"].split()))
    return options


def random_pairs(
    image: Path,
    depth: DepthMap,
    count: int,
    random: np.random.Generator,
    *,
    margin: float = 0.02,
    line: int = 0,
) -> list[PointPair]:
    """Draw pairs of points at which depth was measured and differs.

    Parameters
    ----------
    image : Path
        The photograph.
    depth : DepthMap
        Its measured depth; only valid pixels are drawn.
    count : int
        How many pairs.
    random : Generator
        Draws the points, uniformly.
    margin : float, optional
        Least difference of the two depths, of the map's range.
    line : int, optional
        What the pairs' messages say.

    Returns
    -------
    list of PointPair
        Fewer than `count` where nearly all depths are alike.

    Raises
    ------
    ImageError
        No two depths differ by the margin.
    """
    rows, columns = np.nonzero(depth.valid)
    first, second = random.integers(len(rows), size=(2, _TRIES * count))
    values = depth.depth[rows, columns]
    difference = values[first] - values[second]
    chosen = np.flatnonzero(np.abs(difference) >= margin)[:count]
    if not chosen.size:
        raise ImageError(f"{image}: no two depths differ by {margin:g} of the range")
    points = np.stack([rows, columns], axis=1) + 1
    pairs = []
    for k in chosen:
        a, b = tuple(points[first[k]].tolist()), tuple(points[second[k]].tolist())
        farther, nearer = (a, b) if difference[k] > 0 else (b, a)
        pairs.append(PointPair(image, depth.depth.shape, farther, nearer, line))
    return pairs
