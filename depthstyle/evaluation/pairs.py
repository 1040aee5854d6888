"""pairs.csv: which pastiche of ours stands against which baseline, and for which content image."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from depthstyle.errors import ImageError
from depthstyle.images import read_image

from .metrics import to_8bit

COLUMNS = ("image", "style", "content", "ours", "baseline")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm"))

Stylizer = Callable[[np.ndarray], np.ndarray]
"""From a content image to a pastiche, both float32 (H, W, 3) RGB in [0, 1]."""


@dataclass(frozen=True)
class Pair:
    """One row of a comparison.

    Attributes
    ----------
    image, style : str
        Names for the table.
    content : Path or ndarray
        The content image: a file, or (H, W, 3) RGB in [0, 1] or uint8.
    ours, baseline : Path, ndarray, callable or None
        The two pastiches, or what makes them from the content image.
    line : int
        Line of the csv, or number of the row, for error messages.
    extra : mapping of str to str
        The csv's further columns.
    """

    image: str
    style: str
    content: Path | np.ndarray
    ours: Path | np.ndarray | Stylizer | None
    baseline: Path | np.ndarray | Stylizer | None
    line: int
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Image and style in one word."""
        return f"{self.image}_{self.style}" if self.style else self.image


@dataclass(frozen=True)
class Problem:
    """A row that could not be used, and why."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def read_pairs(path: str | Path) -> tuple[list[Pair], list[Problem]]:
    """Read a pairs.csv.

    Parameters
    ----------
    path : str or Path
        A UTF-8 csv with the header ``image,style,content,ours,baseline`` and any further columns.
        Paths are relative to the csv.

    Returns
    -------
    pairs : list of Pair
    problems : list of Problem
        Rows whose number of cells is wrong or that lack a path.

    Raises
    ------
    ValueError
        If the file cannot be read as such a csv, or has no rows.
    """
    path = Path(path)
    pairs: list[Pair] = []
    problems: list[Problem] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames)
            for row in reader:
                pair = _parse_row(row, path.parent, reader.line_num)
                if isinstance(pair, Problem):
                    problems.append(pair)
                else:
                    pairs.append(pair)
    except FileNotFoundError:
        raise ValueError(f"pairs: no file {path}; give the path of a pairs.csv") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"pairs: {path} is not a readable UTF-8 csv ({error})") from None
    if not pairs and not problems:
        raise ValueError(f"pairs: {path} has a header but no rows; add a row for each comparison")
    return pairs, problems


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Write a pairs.csv with paths relative to it; every picture must be a file."""
    extra = [name for name in pairs[0].extra] if pairs else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *extra])
        for pair in pairs:
            sources: Any = (pair.content, pair.ours, pair.baseline)
            files = (_relative(source, path.parent) for source in sources)
            writer.writerow([pair.image, pair.style, *files, *(pair.extra[n] for n in extra)])


def match_folders(
    content: str | Path, ours: str | Path, baseline: str | Path
) -> tuple[list[Pair], list[Problem]]:
    """Match three folders of pictures by file stem.

    A pastiche belongs to the content image of the same stem, or of the longest stem that is
    followed by ``_`` or ``-`` and the style's name: ``lake_starry.png`` is ``lake.jpg`` in the
    style ``starry``. Both pastiches have the same stem.

    Parameters
    ----------
    content, ours, baseline : str or Path
        The folders.

    Returns
    -------
    pairs : list of Pair
        Sorted by stem.
    problems : list of Problem
        Pastiches without a partner or a content image.

    Raises
    ------
    ValueError
        If a folder is missing, holds no picture, or holds two of one stem, or if nothing matches.
    """
    contents = _by_stem("content", content)
    own, other = _by_stem("ours", ours), _by_stem("baseline", baseline)
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for number, stem in enumerate(sorted(own.keys() | other.keys()), start=1):
        match = _content_of(stem, contents)
        if match is None:
            message = f"{stem}: no picture of that name, or of its beginning, in {content}"
        elif stem not in own or stem not in other:
            message = f"{stem}: no picture of that name in {ours if stem in other else baseline}"
        else:
            image, style = match
            pairs.append(Pair(image, style, contents[image], own[stem], other[stem], line=number))
            continue
        problems.append(Problem(number, message))
    if not pairs:
        raise ValueError(
            f"by-folder: no picture has the same stem in {ours} and {baseline} and a content "
            f"image in {content}; name them like lake.jpg, lake_starry.png, lake_starry.png"
        )
    return pairs, problems


def read_picture(source: Path | np.ndarray, name: str) -> np.ndarray:
    """Read a picture of a row as uint8 (H, W, 3).

    Parameters
    ----------
    source : Path or ndarray
        A file, or (H, W, 3) RGB in [0, 1] or uint8.
    name : str
        The column, for error messages.

    Raises
    ------
    ImageError
        If the file is missing or not a picture, or the array is not usable.
    """
    if isinstance(source, np.ndarray):
        return to_8bit(source, name)
    try:
        return to_8bit(read_image(source), name)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def _check_header(path: Path, header: Sequence[str] | None) -> None:
    wanted = ",".join(COLUMNS)
    if header is None:
        raise ValueError(f"pairs: {path} is empty; its first line must be {wanted}")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ValueError(
            f"pairs: {path} lacks the column {', '.join(missing)}; its first line must be "
            f"{wanted}, with commas, but is {','.join(header)[:80]!r}"
        )
    if len(set(header)) != len(header):
        raise ValueError(f"pairs: {path} has two columns of one name: {','.join(header)[:80]!r}")


def _parse_row(row: dict, folder: Path, line: int) -> Pair | Problem:
    if None in row or None in row.values():
        return Problem(line, "the number of cells differs from the header's")
    empty = [name for name in ("image", "content", "ours", "baseline") if not row[name].strip()]
    if empty:
        return Problem(line, f"{', '.join(empty)} is empty")
    return Pair(
        image=row["image"].strip(),
        style=row["style"].strip(),
        content=folder / row["content"].strip(),
        ours=folder / row["ours"].strip(),
        baseline=folder / row["baseline"].strip(),
        line=line,
        extra={name: value for name, value in row.items() if name not in COLUMNS},
    )


def _by_stem(argument: str, folder: str | Path) -> dict[str, Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{argument}: no folder {folder}")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise ValueError(
                f"{argument}: {files[path.stem].name} and {path.name} in {folder} have the same "
                "stem; keep one"
            )
        files[path.stem] = path
    if not files:
        raise ValueError(f"{argument}: no picture in {folder} ({', '.join(sorted(SUFFIXES))})")
    return files


def _content_of(stem: str, contents: Mapping[str, Path]) -> tuple[str, str] | None:
    """Find the content image's stem and the style's name."""
    ends = [i for i, letter in enumerate(stem) if letter in "_-" and stem[:i] in contents]
    if stem in contents:
        return stem, ""
    return (stem[: ends[-1]], stem[ends[-1] + 1 :]) if ends else None


def _relative(path: str | Path, folder: Path) -> str:
    return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
