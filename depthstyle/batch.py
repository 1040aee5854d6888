"""Many pictures in turn: decoded and encoded by threads while the engine computes."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthstyle.errors import DepthstyleError, ImageError
from depthstyle.job import Job, Photograph, Setup, paint, read, write
from depthstyle.picture_codec import SUFFIXES

if TYPE_CHECKING:
    from tqdm import tqdm

    from depthstyle.methods import Painted, Painter

DEPTH_SUFFIXES = (*SUFFIXES, ".npy", ".npz", ".pfm")
WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".t7", ".bin")

_AHEAD = 2
"""Photographs decoded before their turn, and results that may wait for their encoder."""
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}]"


def is_many(argument: str) -> bool:
    """Tell whether an argument is a folder or a pattern such as ``photos/*.jpg``."""
    path = Path(argument)
    if path.is_dir():
        return not _is_network(path)
    return glob.has_magic(argument) and not path.exists()


def expand(argument: str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return the files that an argument stands for, in the order of their names.

    Parameters
    ----------
    argument : str
        A file; a folder, which stands for its files; or a pattern.
    suffixes : sequence of str, optional
        What a folder's files end with.

    Raises
    ------
    ValueError
        The folder or the pattern has no such file.
    """
    path = Path(argument)
    if not is_many(argument):
        return [path]
    if path.is_dir():
        inside = [file for file in path.iterdir() if not file.name.startswith(".")]
        found = [file for file in inside if file.suffix.lower() in suffixes or _is_network(file)]
        wanted = f"files {', '.join(suffixes)}"
    else:
        found = [Path(name) for name in glob.glob(argument, recursive=True)]
        wanted = "a file that the pattern fits"
    files = sorted(file for file in found if file.is_file() or _is_network(file))
    if not files:
        raise ValueError(f"{argument}: found none of {wanted}; check the path")
    return files


def _is_network(path: Path) -> bool:
    """Tell whether a folder is one network, a deeplearn.js checkpoint."""
    return (path / "manifest.json").is_file()


def depth_of(content: Path, place: Path) -> Path:
    """Return the depth file of a photograph: `place`, or the one in that folder with its stem.

    Raises
    ------
    ImageError
        There is none, or more than one.
    """
    if not place.is_dir():
        return place
    fitting = [place / f"{content.stem}{suffix}" for suffix in DEPTH_SUFFIXES]
    found = [path for path in fitting if path.is_file()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ImageError(
            f"{content}: needs one depth file {content.stem}.* in {place}, found {names}"
        )
    return found[0]


def outputs(
    contents: Sequence[Path], labels: Sequence[str], folder: Path
) -> Iterator[tuple[Path, int, Path]]:
    """Yield each photograph, the number of its setup, and the file to write.

    Parameters
    ----------
    contents : sequence of Path
        The photographs.
    labels : sequence of str
        What tells the setups apart in the names of the files; empty for a single one.
    folder : Path
        Where the results go.

    Raises
    ------
    ValueError
        Two results would have the same name.
    """
    taken: dict[str, Path] = {}
    for number, label in enumerate(labels):
        for content in contents:
            name = f"{content.stem}_{label}.png" if label else f"{content.stem}.png"
            if name.lower() in taken:
                raise ValueError(
                    f"two results would be {folder / name}, of {taken[name.lower()]} and of "
                    f"{content}; rename an input"
                )
            taken[name.lower()] = content
            yield content, number, folder / name


class Batch:
    """Paints jobs one after the other and goes on after a bad one.

    Parameters
    ----------
    jobs : sequence of Job
        What to paint; jobs of one setup, the same object, stand together.
    failures : list of str, optional
        What is known to be wrong already.

    Attributes
    ----------
    failures : list of str
        What went wrong, a line for each picture or style.
    written, present : int
        How many results were written, and how many were complete before.
    device : str
        What computed, in words.
    """

    def __init__(self, jobs: Sequence[Job], failures: Sequence[str] = ()) -> None:
        self._jobs = jobs
        self._setup: Setup | None = None
        self._painter: Painter | None = None
        self._writing: deque[Future[None]] = deque()
        self.failures = list(failures)
        self.written = self.present = 0
        self.device = ""

    def run(self) -> bool:
        """Paint what is not there yet; False where Ctrl-C ended it early.

        Raises
        ------
        ImageError
            A result would overwrite an input, or cannot be written.
        ValueError
            The method refuses its settings.
        """
        from tqdm import tqdm

        for job in self._jobs:
            job.check()
        complete = True
        with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(_AHEAD) as reader:
            try:
                todo = self._unfinished(reader)
                with tqdm(total=len(todo), desc="stylize", delay=2, bar_format=_BAR) as bar:
                    for number, (job, photograph) in enumerate(_read_ahead(reader, todo)):
                        progress = _Progress(bar, number)
                        painted = self._paint(job, photograph, progress)
                        progress.done()
                        if painted is not None:
                            self._write(writer, job, photograph.result(), painted)
                            complete = painted.interrupted is None
                        if not complete:
                            break
            except KeyboardInterrupt:
                complete = False
            finally:
                reader.shutdown(cancel_futures=True)
            self._collect(0)
        return complete

    def _unfinished(self, reader: ThreadPoolExecutor) -> list[Job]:
        from tqdm import tqdm

        done = reader.map(_is_done, self._jobs)
        bar = tqdm(done, total=len(self._jobs), desc="compare", delay=2, leave=False)
        todo = [job for job, is_there in zip(self._jobs, bar, strict=True) if not is_there]
        self.present = len(self._jobs) - len(todo)
        return todo

    def _paint(
        self, job: Job, photograph: Future[Photograph], progress: _Progress
    ) -> Painted | None:
        """Paint one job, or note why it failed."""
        painter = self._painter_of(job.setup)
        if painter is None:
            return None
        try:
            return paint(job, painter, photograph.result(), on_step=progress.step)
        except (ValueError, ArithmeticError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            named = reason if str(job.content) in reason else f"{job.content}: {reason}"
            self.failures.append(named)
            return None

    def _painter_of(self, setup: Setup) -> Painter | None:
        """Return the painter of a setup, or None where its styles or weights cannot be used."""
        if setup is not self._setup:
            self._setup, self._painter = setup, None
            try:
                self._painter = setup.painter()
                self.device = self._painter.device
            except DepthstyleError as error:
                self.failures.append(str(error))
        return self._painter

    def _write(
        self, writer: ThreadPoolExecutor, job: Job, photograph: Photograph, painted: Painted
    ) -> None:
        self._writing.append(writer.submit(write, job, photograph, painted))
        self._collect(_AHEAD)

    def _collect(self, most: int) -> None:
        """Wait until at most so many results are being written; one that cannot be ends it all."""
        while len(self._writing) > most:
            self._writing.popleft().result()
            self.written += 1


class _Progress:
    """The part of a bar over many pictures that one of them takes."""

    def __init__(self, bar: tqdm, number: int) -> None:
        self._bar, self._number = bar, number

    def step(self, state: Any) -> None:
        """Move on by an iteration, where the method says how many there are."""
        iterations = getattr(state, "iterations", None)
        if iterations:
            self._move(state.iteration / iterations)

    def done(self) -> None:
        """Move on to the next picture."""
        self._move(1)

    def _move(self, share: float) -> None:
        self._bar.update(self._number + share - self._bar.n)


def _is_done(job: Job) -> bool:
    try:
        return job.is_done()
    except OSError:  # an input cannot be read, which its turn will tell
        return False


def _read_ahead(
    reader: ThreadPoolExecutor, jobs: Sequence[Job]
) -> Iterator[tuple[Job, Future[Photograph]]]:
    window: deque[tuple[Job, Future[Photograph]]] = deque()
    for job in jobs:
        window.append((job, reader.submit(read, job)))
        if len(window) > _AHEAD:
            yield window.popleft()
    yield from window
