"""Build a study: who sees which pair, in which order, on which side."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from depthstyle.errors import ImageError
from depthstyle.evaluation.metrics import check_aspect, resize_like
from depthstyle.evaluation.pairs import Pair, read_pairs, read_picture

from .database import FILE, SCHEMA, Study, new_token, open_database

QUESTION = "Which picture do you like more?"
MAX_RESPONDENTS = 100_000
MAX_SIDE = 1600
"""Longer pictures are scaled down, so that a pair loads quickly on a phone."""

JPEG_QUALITY = 95


def build(
    pairs: str | Path,
    out: str | Path,
    *,
    respondents: int,
    pairs_per_respondent: int,
    seed: int = 0,
    question: str = QUESTION,
    progress: bool = True,
) -> Study:
    """Build a study into a folder.

    Each respondent gets an own selection of the pairs, in random order, ours on the left in half
    of them (at random which). Every pair is shown equally often, give or take one.

    Parameters
    ----------
    pairs : str or Path
        A ``pairs.csv`` with the header ``image,style,content,ours,baseline``.
    out : str or Path
        The study's folder; made if it is missing. A study in it is never overwritten.
    respondents : int
        Number of personal links, 1 to 100,000.
    pairs_per_respondent : int
        Pairs that each respondent sees, at most the number of pairs.
    seed : int
        Of selection, order and sides. The secrets in the links do not depend on it.
    question : str
        What the page asks above the two pictures, 1 to 200 characters.
    progress : bool
        Show a progress bar when the work takes longer than two seconds.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If an argument does not fit, a row of the csv cannot be used (all such rows are named), or
        the folder holds a study already. Nothing is written then.
    """
    rows, problems = read_pairs(pairs)
    _check(out, respondents, pairs_per_respondent, seed, question)
    if not problems and pairs_per_respondent > len(rows):
        raise ValueError(
            f"pairs_per_respondent={pairs_per_respondent}: {pairs} has {len(rows)} pairs only"
        )
    folder = Path(out).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".{folder.name}-{new_token()}"
    try:
        with closing(open_database(unfinished)) as connection:
            unfinished.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
            connection.execute("BEGIN")
            messages = [str(problem) for problem in problems]
            messages += _fill(connection, rows, progress)
            if messages:
                raise ImageError(
                    f"pairs: {pairs}: {'; '.join(messages)}; mend or remove these rows"
                )
            _assign(connection, assign(len(rows), respondents, pairs_per_respondent, seed))
            settings = {"question": question.strip(), "seed": str(seed)}
            connection.executemany("INSERT INTO setting VALUES (?, ?)", settings.items())
            connection.execute("COMMIT")
        folder.mkdir(exist_ok=True)
        os.replace(unfinished, folder / FILE)
    finally:
        unfinished.unlink(missing_ok=True)
    return Study(folder)


def assign(
    pairs: int, respondents: int, pairs_per_respondent: int, seed: int
) -> list[list[tuple[int, str]]]:
    """Choose pairs, order and sides.

    Parameters
    ----------
    pairs, respondents, pairs_per_respondent : int
    seed : int

    Returns
    -------
    list of list of (int, str)
        For each respondent, in order: the pair, counted from 0, and the side of ours.
    """
    random = np.random.default_rng(seed)
    shown = np.zeros(pairs, np.int64)
    ballots = []
    for _ in range(respondents):
        # The pairs shown least often so far; the second key breaks ties at random.
        chosen = np.lexsort((random.random(pairs), shown))[:pairs_per_respondent]
        shown[chosen] += 1
        random.shuffle(chosen)
        left = np.arange(pairs_per_respondent) < (pairs_per_respondent + random.integers(2)) // 2
        random.shuffle(left)
        sides = ("left" if on_left else "right" for on_left in left)
        ballots.append(list(zip(map(int, chosen), sides, strict=True)))
    return ballots


def _check(
    out: str | Path, respondents: int, pairs_per_respondent: int, seed: int, question: str
) -> None:
    if not 1 <= respondents <= MAX_RESPONDENTS:
        raise ValueError(f"respondents={respondents}: must be from 1 to {MAX_RESPONDENTS}")
    if pairs_per_respondent < 1:
        raise ValueError(f"pairs_per_respondent={pairs_per_respondent}: must be at least 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: must not be negative")
    if not 1 <= len(question.strip()) <= 200:
        raise ValueError(f"question: has {len(question.strip())} characters; give 1 to 200")
    if (Path(out) / FILE).exists():
        raise ValueError(f"out: {out} holds a study already; choose another folder")


def _fill(connection: sqlite3.Connection, rows: list[Pair], progress: bool) -> list[str]:
    """Store pictures and pairs; the messages name the rows that could not be used."""
    from tqdm import tqdm

    messages = []
    contents: dict[Path, int] = {}
    for pair in tqdm(rows, desc="pictures", unit="pair", delay=2, disable=not progress):
        try:
            pictures = _pictures(pair)
        except ImageError as error:
            messages.append(f"line {pair.line}: {error}")
            continue
        key = pair.content.resolve()
        if key not in contents:
            contents[key] = _store(connection, pictures[0])
        ids = (contents[key], *(_store(connection, picture) for picture in pictures[1:]))
        connection.execute(
            "INSERT INTO pair (image, style, content, ours, baseline) VALUES (?, ?, ?, ?, ?)",
            (pair.image, pair.style, *ids),
        )
    return messages


def _pictures(pair: Pair) -> list[np.ndarray]:
    """Content, ours and baseline; the latter two of one size, which could tell them apart."""
    content, ours, baseline = (
        read_picture(getattr(pair, column), column) for column in ("content", "ours", "baseline")
    )
    check_aspect(content, ours, "ours")
    check_aspect(content, baseline, "baseline")
    smaller = min((ours, baseline), key=lambda picture: picture.shape[0] * picture.shape[1])
    return [content, resize_like(ours, smaller), resize_like(baseline, smaller)]


def _store(connection: sqlite3.Connection, picture: np.ndarray) -> int:
    """Store a picture encoded afresh: its metadata could name the method."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    row = connection.execute("INSERT INTO picture (jpeg) VALUES (?)", (data.getvalue(),)).lastrowid
    assert row is not None
    return row


def _assign(connection: sqlite3.Connection, ballots: list[list[tuple[int, str]]]) -> None:
    ids = [row[0] for row in connection.execute("SELECT id FROM pair ORDER BY id")]
    for respondent, ballot in enumerate(ballots, start=1):
        connection.execute(
            "INSERT INTO respondent (id, token) VALUES (?, ?)", (respondent, new_token())
        )
        connection.executemany(
            "INSERT INTO ballot VALUES (?, ?, ?, ?)",
            [
                (respondent, position, ids[pair], side)
                for position, (pair, side) in enumerate(ballot, start=1)
            ],
        )
