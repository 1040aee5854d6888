"""Tables of structural similarity: ours and a baseline against the content images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from depthstyle.errors import ImageError, NumericalError
from depthstyle.images import as_image, write_image

from .metrics import (
    FIGURE_2,
    DepthNetwork,
    Protocol,
    as_depth_network,
    check_aspect,
    depth_difference,
    gradient_similarity,
    psnr,
    structural_similarity,
)
from .pairs import Pair, Problem, Stylizer, read_pairs, read_picture, write_pairs
from .rows import Row, Values
from .table import RESULT_COLUMNS, SSIMTable

Stylizers = Stylizer | Mapping[str, Stylizer]
OVERSHOOT = 1.0
"""How far outside [0, 1] a network's output may lie; a range of 0..255 is a mistake."""

FURTHER_COLUMNS = ("psnr", "gradient")


def ssim_table(
    pairs: str | Path | Sequence[Pair] | Sequence[str | Path] | Mapping[str, np.ndarray],
    ours: Stylizers | None = None,
    baseline: Stylizers | None = None,
    *,
    out: str | Path | None = None,
    protocol: Protocol = FIGURE_2,
    columns: Sequence[str] = (),
    depth: DepthNetwork | str | None = None,
    progress: bool = True,
) -> SSIMTable:
    """Compare how well two methods keep the structure of the content images.

    Parameters
    ----------
    pairs : str, Path, sequence or mapping
        A ``pairs.csv`` (header ``image,style,content,ours,baseline``, paths relative to the
        csv); or a sequence of :class:`Pair`; or the content images alone, as a sequence of files
        or as a mapping from name to picture, (H, W, 3) RGB in [0, 1] or uint8.
    ours, baseline : callable or mapping of str to callable, optional
        What makes the pastiche from the content image, both float32 (H, W, 3) RGB in [0, 1];
        with several styles a mapping from the style's name. It takes the place of the pictures
        in `pairs`.
    out : str or Path, optional
        Folder for ``ssim.csv``, ``ssim.md`` and ``ssim.png``. Pictures that a callable made are
        kept in its folders ``ours`` and ``baseline`` at once, with a ``pairs.csv`` that names
        them; they are measured as they were saved, in 8 bits.
    protocol : Protocol
        How SSIM is measured; Figure 2 of the paper by default.
    columns : sequence of {"psnr", "gradient"}
        Further measures.
    depth : str or callable, optional
        A depth network: the name of a model of `estimate_depth`, or a callable from float32
        (H, W, 3) RGB in [0, 1] to (H', W'). Adds how much the depth that it sees differs between
        content image and pastiche.
    progress : bool
        Show a progress bar when the work takes longer than two seconds.

    Returns
    -------
    SSIMTable
        Rows that could not be measured are in its ``problems``.

    Raises
    ------
    ValueError
        If an argument does not fit, or no pair at all could be measured.
    WeightsError
        The depth network's name is unknown, or its weights are not in the cache.

    Examples
    --------
    >>> table = ssim_table(["lake.jpg"], ours=net, baseline=johnson, out="table")  # doctest: +SKIP
    """
    _check_columns(columns)
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"out: {out} is a file; name a folder")
    rows, problems = _as_pairs(pairs)
    rows = _assign("ours", ours, _assign("baseline", baseline, rows))
    if out is None and any(callable(pair.ours) or callable(pair.baseline) for pair in rows):
        raise ValueError("out: name a folder in which the pictures that are made can be kept")
    if clash := RESULT_COLUMNS.intersection(*(pair.extra for pair in rows[:1])):
        raise ValueError(f"pairs: column {min(clash)!r} has the name of a result; rename it")
    network = None if depth is None else as_depth_network(depth)
    measured, kept, failed = _measure_all(rows, out, protocol, columns, network, progress)
    problems = sorted([*problems, *failed], key=lambda problem: problem.line)
    if not measured:
        raise ImageError("; ".join(["pairs: no pair could be measured", *map(str, problems)]))
    name = depth if isinstance(depth, str) else ""
    table = SSIMTable(tuple(measured), tuple(problems), protocol, name)
    if out is not None:
        table.save(out)
        if kept:
            write_pairs(Path(out) / "pairs.csv", kept)
    return table


def _check_columns(columns: Sequence[str]) -> None:
    for name in [columns] if isinstance(columns, str) else columns:
        if isinstance(columns, str) or name not in FURTHER_COLUMNS:
            raise ValueError(
                f"columns={columns!r}: give a list of {', '.join(map(repr, FURTHER_COLUMNS))}"
            )


def _as_pairs(pairs: Any) -> tuple[list[Pair], list[Problem]]:
    if isinstance(pairs, str | Path):
        return read_pairs(pairs)
    contents: list[tuple[str, Any]]
    if isinstance(pairs, Mapping):
        contents = list(pairs.items())
    else:
        pairs = list(pairs)
        if pairs and all(isinstance(pair, Pair) for pair in pairs):
            return pairs, []
        if not all(isinstance(path, str | Path) for path in pairs):
            raise ValueError(
                "pairs: give a pairs.csv, a list of Pair, a list of content files, or a mapping "
                "from name to content picture"
            )
        contents = [(Path(path).stem, Path(path)) for path in pairs]
    if not contents:
        raise ValueError("pairs: no content image; give at least one")
    return [
        Pair(name, "", Path(content) if isinstance(content, str) else content, None, None, line)
        for line, (name, content) in enumerate(contents, start=1)
    ], []


def _assign(column: str, makers: Stylizers | None, rows: list[Pair]) -> list[Pair]:
    """Let `makers` stand for the pictures of one column."""
    if makers is None:
        if any(getattr(pair, column) is None for pair in rows):
            raise ValueError(f"{column}: give what makes its pictures, or name them in a pairs.csv")
        return rows
    if callable(makers):
        return [_with(pair, {column: makers}) for pair in rows]
    if not isinstance(makers, Mapping) or not makers or not all(map(callable, makers.values())):
        raise ValueError(f"{column}: give a callable, or a mapping from style to callable")
    if all(not pair.style for pair in rows):
        return [
            _with(pair, {"style": style, column: maker})
            for pair in rows
            for style, maker in makers.items()
        ]
    missing = sorted({pair.style for pair in rows} - set(makers))
    if missing:
        raise ValueError(f"{column}: nothing makes the style {missing[0]!r}; add it to the mapping")
    return [_with(pair, {column: makers[pair.style]}) for pair in rows]


def _with(pair: Pair, changes: Mapping[str, Any]) -> Pair:
    return replace(pair, **changes)


def _measure_all(
    pairs: list[Pair],
    out: str | Path | None,
    protocol: Protocol,
    columns: Sequence[str],
    depth: DepthNetwork | None,
    progress: bool,
) -> tuple[list[Row], list[Pair], list[Problem]]:
    """Rows, the pairs whose pictures were made and kept, and the rows that failed."""
    from tqdm import tqdm

    rows: list[Row] = []
    kept: list[Pair] = []
    problems: list[Problem] = []
    store = _Store(Path(out)) if out is not None else None
    for pair in tqdm(pairs, desc="SSIM", unit="pair", delay=2, disable=not progress):
        try:
            content = read_picture(pair.content, "content")
            if store is not None and (callable(pair.ours) or callable(pair.baseline)):
                pair = store.keep(pair, content)
                kept.append(pair)
            pastiches = [read_picture(getattr(pair, c), c) for c in ("ours", "baseline")]
            for column, pastiche in zip(("ours", "baseline"), pastiches, strict=True):
                check_aspect(content, pastiche, column)
            values = _measure(content, pastiches, protocol, columns, depth)
        except (ImageError, NumericalError) as error:
            problems.append(Problem(pair.line, str(error)))
        else:
            rows.append(Row(pair.image, pair.style, values, pair.extra))
    return rows, kept, problems


def _measure(
    content: np.ndarray,
    pastiches: list[np.ndarray],
    protocol: Protocol,
    columns: Sequence[str],
    depth: DepthNetwork | None,
) -> dict[str, Values]:
    values = {"ssim": Values(*(structural_similarity(content, x, protocol) for x in pastiches))}
    if "psnr" in columns:
        values["psnr"] = Values(*(psnr(content, x, protocol.color) for x in pastiches))
    if "gradient" in columns:
        values["gradient"] = Values(*(gradient_similarity(content, x) for x in pastiches))
    if depth is not None:
        values["depth"] = Values(*(depth_difference(content, x, depth) for x in pastiches))
    return values


class _Store:
    """Keeps the pictures that callables make, each under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: set[str] = set()

    def keep(self, pair: Pair, content: np.ndarray) -> Pair:
        """Make the pictures of a pair; the result names files only."""
        name = re.sub(r"[^\w.-]+", "_", pair.name).lstrip(".") or "picture"
        stem, number = name, 1
        while stem.lower() in self.taken:
            number += 1
            stem = f"{name}_{number}"
        self.taken.add(stem.lower())
        files = {}
        if isinstance(pair.content, np.ndarray):
            files["content"] = self._write("content", stem, content)
        for column in ("ours", "baseline"):
            maker = getattr(pair, column)
            if callable(maker):
                maker = _make(column, maker, content)
            if isinstance(maker, np.ndarray):
                files[column] = self._write(column, stem, maker)
        return _with(pair, files)

    def _write(self, column: str, stem: str, picture: np.ndarray) -> Path:
        path = self.folder / column / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture)
        return path


def _make(column: str, maker: Stylizer, content: np.ndarray) -> np.ndarray:
    """Let a callable make a pastiche; the overshoot that networks leave is clipped."""
    pastiche = np.asarray(maker(content.astype(np.float32) / np.float32(255)))
    if pastiche.dtype.kind == "f" and pastiche.size:
        if not np.isfinite(pastiche).all():
            raise NumericalError(f"{column}: its callable returned NaN or infinite values")
        if pastiche.min() >= -OVERSHOOT and pastiche.max() <= 1 + OVERSHOOT:
            pastiche = np.clip(pastiche, 0, 1)
    return as_image(pastiche, f"{column}: the picture that its callable returned")
