"""The study's database: pictures, ballots and votes in one SQLite file.

Everything is in one file, so that a study is copied, kept and moved as a whole, and no request
ever names a path. Each call opens its own connection, which makes a :class:`Study` safe to use
from several threads and processes; write-ahead logging lets a report read while people vote.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from depthstyle.errors import DepthstyleError

FILE = "study.sqlite3"
LOCK_SECONDS = 30.0
SIDES = ("left", "right")
TOKEN_BYTES = 16

SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE picture (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE pair (
    id INTEGER PRIMARY KEY,
    image TEXT NOT NULL,
    style TEXT NOT NULL,
    content INTEGER NOT NULL REFERENCES picture,
    ours INTEGER NOT NULL REFERENCES picture,
    baseline INTEGER NOT NULL REFERENCES picture
);
CREATE TABLE respondent (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    consented INTEGER NOT NULL DEFAULT 0 CHECK (consented IN (0, 1))
);
CREATE TABLE ballot (
    respondent INTEGER NOT NULL REFERENCES respondent,
    position INTEGER NOT NULL CHECK (position >= 1),
    pair INTEGER NOT NULL REFERENCES pair,
    ours_side TEXT NOT NULL CHECK (ours_side IN ('left', 'right')),
    PRIMARY KEY (respondent, position),
    UNIQUE (respondent, pair)
);
CREATE TABLE vote (
    respondent INTEGER NOT NULL,
    pair INTEGER NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('left', 'right')),
    PRIMARY KEY (respondent, pair),
    FOREIGN KEY (respondent, pair) REFERENCES ballot (respondent, pair)
);
"""


class NotFound(DepthstyleError, LookupError):
    """No respondent has this token, or the respondent has no such picture."""


class Refused(DepthstyleError, ValueError):
    """The vote does not follow from what the respondent did so far."""


@dataclass(frozen=True)
class State:
    """How far a respondent is."""

    consented: bool
    answered: int
    total: int


@dataclass(frozen=True)
class Vote:
    """One vote, as the report needs it."""

    respondent: int
    position: int
    pair: int
    image: str
    style: str
    ours_side: str
    side: str

    @property
    def ours(self) -> bool:
        """Whether the vote is for ours."""
        return self.side == self.ours_side


class Study:
    """A study that was built into a folder.

    Parameters
    ----------
    folder : str or Path
        The folder that ``depthstyle study build`` wrote.

    Raises
    ------
    ValueError
        If the folder holds no study.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE
        if not self.file.is_file():
            raise ValueError(f"study: no {FILE} in {folder}; make one with depthstyle study build")
        try:
            with self.connect() as connection:
                connection.execute("SELECT COUNT(*) FROM vote").fetchone()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"study: {self.file} is not a study's database ({error})") from None

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one piece of work."""
        connection = open_database(self.file)
        try:
            yield connection
        finally:
            connection.close()

    def setting(self, name: str) -> str:
        """Look up a setting that was fixed when the study was built."""
        with self.connect() as connection:
            row = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return row[0]

    def tokens(self) -> list[str]:
        """Give the secret of each respondent's personal link, in the respondents' order."""
        with self.connect() as connection:
            return [
                row[0] for row in connection.execute("SELECT token FROM respondent ORDER BY id")
            ]

    def size(self) -> tuple[int, int]:
        """Count the respondents, and the votes that they give when all of them finish."""
        with self.connect() as connection:
            return connection.execute(
                "SELECT (SELECT COUNT(*) FROM respondent), (SELECT COUNT(*) FROM ballot)"
            ).fetchone()

    def state(self, token: str) -> State:
        """Tell how far a respondent is.

        Raises
        ------
        NotFound
            If no respondent has this token.
        """
        with self.connect() as connection:
            return _state(connection, _respondent(connection, token))

    def consent(self, token: str) -> State:
        """Note that a respondent agreed to take part.

        Raises
        ------
        NotFound
            If no respondent has this token.
        """
        with self.connect() as connection, _transaction(connection):
            respondent = _respondent(connection, token)
            connection.execute("UPDATE respondent SET consented = 1 WHERE id = ?", (respondent,))
            return _state(connection, respondent)

    def vote(self, token: str, position: int, side: str) -> State:
        """Store a vote; it is on the disk when the call returns.

        The same vote may be sent again, as happens when the answer to the first was lost.

        Parameters
        ----------
        token : str
            The respondent's secret.
        position : int
            Place of the pair in the respondent's order, counted from 1.
        side : {"left", "right"}
            The picture that was chosen.

        Raises
        ------
        NotFound
            If no respondent has this token.
        Refused
            If consent is missing, the pair is not the respondent's next one, or it already has
            the other vote.
        """
        if side not in SIDES:
            raise Refused(f"side={side!r}: must be 'left' or 'right'")
        with self.connect() as connection, _transaction(connection):
            respondent = _respondent(connection, token)
            state = _state(connection, respondent)
            if not state.consented:
                raise Refused("consent is missing; open the link again and begin there")
            if not 1 <= position <= min(state.answered + 1, state.total):
                raise Refused(f"position={position}: {state.answered} pairs are answered so far")
            pair, stored = connection.execute(
                "SELECT pair, side FROM ballot LEFT JOIN vote USING (respondent, pair) "
                "WHERE respondent = ? AND position = ?",
                (respondent, position),
            ).fetchone()
            if stored is None:
                row = (respondent, pair, side)
                connection.execute("INSERT INTO vote VALUES (?, ?, ?)", row)
            elif stored != side:
                raise Refused(f"position={position}: there is a vote already")
            return _state(connection, respondent)

    def picture(self, token: str, position: int, name: str) -> bytes:
        """Give a picture of a respondent's pair as JPEG.

        Parameters
        ----------
        token : str
            The respondent's secret.
        position : int
            Place of the pair in the respondent's order, counted from 1.
        name : {"content", "left", "right"}
            Which picture; its method stays hidden.

        Raises
        ------
        NotFound
            If no respondent has this token, or there is no such pair or picture.
        """
        with self.connect() as connection:
            respondent = _respondent(connection, token)
            total = _state(connection, respondent).total
            if not 1 <= position <= total or name not in ("content", *SIDES):
                raise NotFound(f"position={position}, name={name!r}: no such picture")
            content, ours, baseline, ours_side = connection.execute(
                "SELECT content, ours, baseline, ours_side FROM ballot "
                "JOIN pair ON pair.id = ballot.pair WHERE respondent = ? AND position = ?",
                (respondent, position),
            ).fetchone()
            left, right = (ours, baseline) if ours_side == "left" else (baseline, ours)
            ids = {"content": content, "left": left, "right": right}
            row = connection.execute("SELECT jpeg FROM picture WHERE id = ?", (ids[name],))
            return row.fetchone()[0]

    def votes(self) -> list[Vote]:
        """Give all votes, ordered by respondent and position."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT respondent, position, pair, image, style, ours_side, side FROM vote "
                "JOIN ballot USING (respondent, pair) JOIN pair ON pair.id = pair "
                "ORDER BY respondent, position"
            )
            return [Vote(*row) for row in rows]

    def pair_pictures(self, pair: int) -> dict[str, bytes]:
        """Give the pictures of a pair as JPEG, by the names content, ours and baseline."""
        with self.connect() as connection:
            return {
                name: connection.execute(
                    f"SELECT jpeg FROM pair JOIN picture ON picture.id = {name} WHERE pair.id = ?",
                    (pair,),
                ).fetchone()[0]
                for name in ("content", "ours", "baseline")
            }


def open_database(file: Path) -> sqlite3.Connection:
    """Open a study's file so that a committed vote survives a crash and a power cut."""
    connection = sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def new_token() -> str:
    """Draw a secret of 128 random bits from the operating system, never from the study's seed."""
    return secrets.token_urlsafe(TOKEN_BYTES)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock first, so that what is read cannot change before it is used."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _respondent(connection: sqlite3.Connection, token: str) -> int:
    row = connection.execute("SELECT id FROM respondent WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise NotFound("token: unknown; check that the link is complete")
    return row[0]


def _state(connection: sqlite3.Connection, respondent: int) -> State:
    consented, answered, total = connection.execute(
        "SELECT consented, (SELECT COUNT(*) FROM vote WHERE respondent = :id), "
        "(SELECT COUNT(*) FROM ballot WHERE respondent = :id) FROM respondent WHERE id = :id",
        {"id": respondent},
    ).fetchone()
    return State(bool(consented), answered, total)
