"""One picture to paint, as files: reading them, painting, writing, and the recipe of it all."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import depthstyle
from depthstyle import devices, recipe
from depthstyle.errors import ImageError, NumericalError
from depthstyle.images import (
    check_output,
    flatten,
    read_image,
    read_picture,
    read_recipe,
    resize,
    write_image,
)
from depthstyle.methods import Painted, Painter, make_painter
from depthstyle.recipe import Entry, Finder, missing

if TYPE_CHECKING:
    from depthstyle.checkpoint import Checkpoints
    from depthstyle.depth import DepthMap
    from depthstyle.depth_estimation import DepthEstimator

KEEP = "keep"
"""The alpha of a result that has the photograph's."""


@dataclass(frozen=True)
class Setup:
    """A method with its styles and settings, as files: all but the photograph.

    Attributes
    ----------
    method : str
        A name of `methods.METHODS`.
    styles : sequence of Path
        The style pictures, together in one picture.
    settings : mapping of str to JSON value
        The method's settings.
    weights : mapping of str to Path
        Those settings that are files of weights.
    pictures : mapping of str to Path
        Those settings that are pictures.
    """

    method: str
    styles: Sequence[Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def painter(self) -> Painter:
        """Read the files and return the painter; errors as for `make_painter`."""
        pictures = {name: read_image(path) for name, path in self.pictures.items()}
        weights = {name: str(path) for name, path in self.weights.items()}
        settings = {**self.settings, **weights, **pictures}
        return make_painter(self.method, [read_image(path) for path in self.styles], **settings)

    @property
    def files(self) -> list[Path]:
        """All files that it needs."""
        return [*self.styles, *self.weights.values(), *self.pictures.values()]


@dataclass(frozen=True)
class Job:
    """A photograph, how to paint it, and where the result goes.

    Attributes
    ----------
    setup : Setup
    content : Path
        The photograph.
    output : Path
        The picture to write.
    depth : Path or None
        Its depth.
    depth_model : tuple of str
        In its place the name of a depth network, or its files of weights.
    depth_precision : str
        How precisely the depth network computes; see `precision.resolve`.
    depth_kind, depth_encoding : str, optional
        The options `kind` and `encoding` of `read_depth_map` for `depth`.
    bits : {8, 16}
        Bits per channel of the result.
    alpha : str
        ``"keep"`` gives the result the photograph's alpha, a colour (a name or ``#rrggbb``) lays
        the photograph over it.
    keep_paths : bool
        Write the paths of the inputs into the recipe.
    """

    setup: Setup
    content: Path
    output: Path
    depth: Path | None = None
    depth_model: tuple[str, ...] = ()
    depth_precision: str = "auto"
    depth_kind: Literal["depth", "disparity"] | None = None
    depth_encoding: str | None = None
    bits: Literal[8, 16] = 8
    alpha: str = KEEP
    keep_paths: bool = False

    def check(self) -> None:
        """Check before long work that the result can be written and overwrites no input.

        Raises
        ------
        ImageError
            It cannot.
        WeightsError
            The depth network cannot be had.
        """
        if self.depth_model:
            self.estimator()
        check_output(self.output, bits=self.bits)
        inputs = [self.content, *self.setup.files, *([self.depth] if self.depth else [])]
        if any(path.exists() and _same(path, self.output) for path in inputs):
            raise ImageError(f"{self.output}: is one of the inputs; choose another output")

    def estimator(self) -> DepthEstimator:
        """Return the depth network with its weights; errors as for `DepthEstimator`."""
        device = self.setup.settings.get("device", "auto")
        return _estimator(self.depth_model, self.depth_precision, device)

    def plan(self) -> dict[str, Any]:
        """Return what of the recipe is known before painting, as JSON values."""

        def entry(path: Path) -> Entry:
            return recipe.describe(path, self.keep_paths)

        setup = self.setup
        depth: Any = None if self.depth is None else entry(self.depth)
        if self.depth_model:
            depth = _network_entry(self.estimator())
        plan = {
            "depthstyle": depthstyle.__version__,
            "method": setup.method,
            "settings": {  # the number of threads changes no pixel
                name: value for name, value in setup.settings.items() if name != "threads"
            },
            "inputs": {
                "content": entry(self.content),
                "styles": [entry(path) for path in setup.styles],
                "depth": depth,
                "weights": {name: entry(path) for name, path in setup.weights.items()},
                "pictures": {name: entry(path) for name, path in setup.pictures.items()},
            },
            "depth_kind": self.depth_kind,
            "depth_encoding": self.depth_encoding,
            "output": {"bits": self.bits, "alpha": self.alpha},
        }
        return json.loads(json.dumps(plan))

    def is_done(self) -> bool:
        """Tell whether the output is there, complete, and made by the same recipe."""
        try:
            found = read_recipe(self.output)
        except ImageError:
            return False
        if not isinstance(found, dict) or "interrupted" in found or "failed" in found:
            return False
        return all(found.get(name) == value for name, value in self.plan().items())


@dataclass(frozen=True)
class Photograph:
    """The decoded files of a job, and its plan.

    Attributes
    ----------
    content : float32 (H, W, 3)
    alpha : float32 (H, W) or None
        What the result keeps.
    dpi : (float, float) or None
    depth : DepthMap or None
    plan : mapping
    """

    content: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    dpi: tuple[float, float] | None
    depth: DepthMap | None
    plan: Mapping[str, Any]


def read(job: Job) -> Photograph:
    """Decode the photograph of a job and its depth.

    Raises
    ------
    ImageError
        One of them cannot be read, or the output's format cannot hold the alpha or the size.
    """
    picture = read_picture(job.content)
    content, alpha = picture.rgb, picture.alpha
    if job.alpha != KEEP:
        content, alpha = flatten(content, alpha, colour(job.alpha)), None
    longest = job.setup.settings.get("size", max(content.shape))
    check_output(job.output, bits=job.bits, alpha=alpha is not None, longest=longest)
    depth = None
    if job.depth is not None:
        from depthstyle.depth import read_depth_map

        depth = read_depth_map(job.depth, kind=job.depth_kind, encoding=job.depth_encoding)
    elif job.depth_model:
        depth = job.estimator().estimate(content)
    return Photograph(content, alpha, picture.dpi, depth, job.plan())


def paint(
    job: Job,
    painter: Painter,
    photograph: Photograph,
    *,
    progress: str | None = None,
    on_step: Callable[[Any], object] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Painted:
    """Paint a photograph; hooks and errors as for `Painter.paint`.

    The last good result of a `NumericalError` is written first.
    """
    depth = None if photograph.depth is None else photograph.depth.depth
    hooks: dict[str, Any] = {"progress": progress, "on_step": on_step}
    if checkpoints is not None:
        hooks["checkpoints"] = checkpoints
    try:
        return painter.paint(photograph.content, depth, **hooks)
    except NumericalError as error:
        if error.painted is not None:
            write(job, photograph, error.painted, failed=str(error))
        raise


def write(job: Job, photograph: Photograph, painted: Painted, *, failed: str | None = None) -> None:
    """Write a result with its recipe; `failed` says what error ended the work early.

    Raises
    ------
    ImageError
        The file cannot be written.
    """
    facts = {"interrupted": painted.interrupted, "failed": failed}
    told = {name: fact for name, fact in facts.items() if fact is not None}
    write_picture(
        job.output, job, photograph, painted.image, {**painted.recipe, **photograph.plan, **told}
    )


def write_picture(
    path: Path,
    job: Job,
    photograph: Photograph,
    image: NDArray[np.float32],
    made_by: Mapping[str, Any],
) -> None:
    """Write a picture with the alpha, depth of colour and resolution that a job's result has."""
    alpha = photograph.alpha
    if alpha is not None and alpha.shape != image.shape[:2]:
        alpha = resize(alpha, image.shape[:2])
    write_image(path, image, recipe=made_by, bits=job.bits, alpha=alpha, dpi=photograph.dpi)


def colour(text: str) -> tuple[float, float, float]:
    """Return the sRGB values in [0, 1] of a colour such as ``white`` or ``#ff8000``.

    Raises
    ------
    ValueError
        It is none.
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(str(text))[:3]
    except ValueError:
        raise ValueError(f"{text!r}: no colour; use a name as white, or #rrggbb") from None
    return red / 255, green / 255, blue / 255


def restore(made_by: Mapping[str, Any], output: Path, finder: Finder, name: str) -> Job:
    """Return the job of a recipe.

    Parameters
    ----------
    made_by : mapping
        The recipe of a picture, as `read_recipe` gives it.
    output : Path
        The picture to write.
    finder : Finder
        Where the inputs are.
    name : str
        What the errors call the picture.

    Raises
    ------
    ImageError
        The recipe is none of ``depthstyle stylize``, or inputs are missing: all are named.
    """
    absent: list[tuple[str, Entry]] = []

    def place(role: str, entry: Entry) -> Path:
        found = finder.find(entry)
        if found is None:
            absent.append((role, entry))
        return found or Path(entry["name"])

    try:
        inputs, settings = made_by["inputs"], dict(made_by["settings"])
        if "backend" in settings:  # what the setting was called before
            settings["device"] = settings.pop("backend")
        settings["precision"] = _precision_again(made_by, settings)
        weights = {role: place(role, entry) for role, entry in inputs["weights"].items()}
        for role, entries in _default_weights(made_by).items():
            if role not in weights:
                found = [place(role, entry) for entry in entries]
                weights[role] = found[0] if len(found) == 1 else found[0].parent
        setup = Setup(
            str(made_by["method"]),
            [place("style", entry) for entry in inputs["styles"]],
            settings,
            weights,
            {role: place(role, entry) for role, entry in inputs["pictures"].items()},
        )
        depth = inputs["depth"] or {}
        networks = [place("depth network", entry) for entry in depth.get("weights", ())]
        job = Job(
            setup,
            place("content", inputs["content"]),
            output,
            place("depth", depth) if "sha256" in depth else None,
            tuple(map(str, networks)),
            _precision_again(depth, settings),
            made_by["depth_kind"],
            made_by.get("depth_encoding"),
            **made_by["output"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ImageError(
            f"{name}: its recipe does not tell how depthstyle stylize made it ({error!r})"
        ) from error
    if absent:
        raise ImageError(f"{name}: missing {missing(absent)}; say where with --inputs")
    return job


def _precision_again(made_by: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return what ran, whatever was asked for; before there was a choice it was fp32."""
    ran = made_by.get("precision", "fp32")
    on_cpu = ran == "tf32" and devices.choose(settings.get("device", "auto")) == "cpu"
    return "fp32" if on_cpu else ran  # a CPU has nothing nearer


def _default_weights(made_by: Mapping[str, Any]) -> dict[str, list[Entry]]:
    """Return, by setting, the files that a method took by itself."""
    networks = made_by.get("network_weights") or {}
    origins = {"weights": networks} if "sha256" in networks else dict(networks)
    if "encoder" in origins:
        origins["weights"] = origins.pop("encoder")
    origins["depth_network_weights"] = made_by.get("depth_network_weights")
    return {setting: _entries(origin) for setting, origin in origins.items() if origin}


def _entries(origin: Mapping[str, str]) -> list[Entry]:
    """Return the entries of the files of one network, as its recipe names them."""
    files = zip(origin["file"].split(", "), origin["sha256"].split(", "), strict=True)
    return [{"name": name, "sha256": sha256} for name, sha256 in files]


@functools.lru_cache(maxsize=1)
def _estimator(model: tuple[str, ...], precision: str, device: str) -> DepthEstimator:
    # All photographs of a folder go through the same network.
    from depthstyle.depth_estimation import DepthEstimator

    files = model[0] if len(model) == 1 else model
    return DepthEstimator(files, device=device, precision=precision)


def _network_entry(estimator: DepthEstimator) -> dict[str, Any]:
    assert estimator.origin is not None
    return {
        "network": estimator.name,
        "precision": estimator.precision,
        "weights": _entries(estimator.origin),
    }


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()
