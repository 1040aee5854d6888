"""Feed-forward stylisation: one run of a network that was trained for one style.

Johnson et al. (2016), "Perceptual losses for real-time style transfer and super-resolution". The
published networks are the baselines of paper 000; see `networks.johnson` for their forms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import _core, networks
from depthstyle.engine import Engine
from depthstyle.errors import DeviceOutOfMemory, NumericalError, OutOfMemory, WeightsError
from depthstyle.images import as_image, check_size, resize, scaled_size
from depthstyle.memory import free_memory
from depthstyle.methods import Painted
from depthstyle.networks.johnson import JOHNSON, JohnsonWeights, prepare
from depthstyle.presets import check_choice, check_count
from depthstyle.recipe import digest

Array = NDArray[np.float32]

_LEAST_TILE = 16
_STRIP_PIXELS = 1 << 20
"""Pixels of a strip where memory is short: about 0.4 GB."""


class FastPainter:
    """Paints with a transformation network of Johnson et al., which knows its style.

    Parameters
    ----------
    styles : sequence
        Empty: the style is in the weights.
    weights : path or mapping of str to array
        A published network: ``.pth`` of PyTorch's examples, ncnn's ``.bin`` of it, ``.t7`` of
        fast-neural-style, or the folder of a deeplearn.js checkpoint.
    size : int, optional
        Longer side of the result in pixels; by default the photograph's.
    preserve_colour : {"luminance", "covariance"}, optional
        Keep the photograph's colours: take only the luminance of the result, or give the result
        the mean and covariance of the photograph's colours.
    tile : int, optional
        Rows in pixels of the strips in which the picture is computed, which changes memory but
        not the picture; see `strips`. By default the whole picture at once where memory suffices.
    threads : int, optional
        Number of threads.
    device : str, optional
        What computes: ``"auto"`` is the first GPU where there is one and the CPU otherwise,
        ``"cuda"`` and ``"cuda:1"`` ask for a GPU, ``"cpu"`` for the CPU.
    precision : {"auto", "fp32", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`.

    Raises
    ------
    ValueError
        A style is given, or a setting is out of range.
    WeightsError
        The weights are missing, cannot be read, or belong to another network.
    """

    method = "fast"
    iterates = False

    def __init__(
        self,
        styles: Sequence[ArrayLike] = (),
        *,
        weights: Mapping[str, NDArray[Any]] | str | os.PathLike[str] | None = None,
        size: int | None = None,
        preserve_colour: Literal["luminance", "covariance"] | None = None,
        tile: int | None = None,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if len(styles):
            raise ValueError(
                f"style: method {self.method} takes none, its network knows the style; leave out "
                "the style picture"
            )
        if size is not None:
            check_count("size", size)
        if tile is not None:
            check_count("tile", tile, least=_LEAST_TILE)
        if preserve_colour is not None:
            check_choice("preserve_colour", preserve_colour, ("luminance", "covariance"))
        self._size, self._preserve_colour, self._tile = size, preserve_colour, tile
        self._engine = Engine(device, threads, precision)
        self._weights, self._origin = _read(weights)
        self._form = self._weights.form
        self._plan_size: tuple[int, int] | None = None
        self._plan: Any = None

    @property
    def device(self) -> str:
        """What computes, in words."""
        return self._engine.description

    def paint(
        self,
        content: ArrayLike,
        depth: ArrayLike | None = None,
        *,
        progress: str | None = None,
        on_step: Callable[[Any], object] | None = None,
    ) -> Painted:
        """Paint a photograph; see `methods.Painter`. OutOfMemory where strips do not help either.

        The network's maps are a quarter of the picture, rounded up: what it paints beyond the
        right and the lower edge is cut off. The lengstrom form, which would shift the picture
        where a side is no multiple of four, gets the picture continued by reflection.
        """
        if depth is not None:
            raise ValueError(f"depth: method {self.method} takes none; leave it out")
        picture = as_image(content, "content")
        if self._size is not None:
            picture = resize(picture, scaled_size(*picture.shape[:2], longest=self._size))
        check_size(picture, self._form.smallest, "content")
        height, width = picture.shape[:2]
        planes = self._run(self._form.to_input(self._continued(picture)), progress)
        image = self._form.to_image(planes[:, :, :height, :width])
        if not np.isfinite(image).all():
            raise NumericalError("the network's picture is not finite; check the weights")
        if self._preserve_colour is not None:
            from depthstyle.colour import match_colour, match_luminance

            luminance = self._preserve_colour == "luminance"
            image = match_luminance(picture, image) if luminance else match_colour(image, picture)
        return Painted(image, self._recipe(height, width))

    def _continued(self, picture: Array) -> Array:
        multiple = self._form.multiple
        below, right = (-side % multiple for side in picture.shape[:2])
        return np.pad(picture, [(0, below), (0, right), (0, 0)], "symmetric")

    def _run(self, planes: Array, progress: str | None) -> Array:
        """Return the network's output for its input (1, 3, H, W)."""
        size = planes.shape[2:]
        if self._tile is None and self._compile(size):
            return self._plan.run({"x": planes})[0]
        from depthstyle.strips import StripRunner

        rows = self._tile or max(_LEAST_TILE, _STRIP_PIXELS // size[1])
        runner = StripRunner(self._weights, self._engine, rows)
        needed, of_plans = runner.bytes(*size)
        if self._engine.on_gpu:
            free = self._engine.free_memory()
            _check_memory(size, of_plans, free, "the GPU has", DeviceOutOfMemory)
        else:
            needed += of_plans
        _check_memory(size, needed, free_memory(), "this process may take", OutOfMemory)
        return runner.run(planes, progress)

    def _compile(self, size: tuple[int, int]) -> bool:
        """Make the plan of a size, unless it is there; False where memory is short."""
        if size == self._plan_size:
            return True
        self._plan = self._plan_size = None
        graph = _core.Graph()
        x = graph.input("x", (1, 3, *size))
        outputs = JOHNSON.add(graph, x, self._weights, JOHNSON.layers)
        try:
            plan = self._engine.compile(graph, list(outputs.values()))
        except MemoryError:
            return False
        if not self._engine.on_gpu and plan.bytes > free_memory() / 2:
            return False
        self._plan, self._plan_size = plan, size
        return True

    def _recipe(self, height: int, width: int) -> dict[str, Any]:
        return {
            "method": self.method,
            "network": JOHNSON.name,
            "form": self._form.name,
            "network_weights": self._origin,
            "size": [height, width],
            "preserve_colour": self._preserve_colour,
            **self._engine.recipe,
        }


def _check_memory(
    size: tuple[int, int], needed: int, free: int, whose: str, error: type[OutOfMemory]
) -> None:
    if needed > free:
        fitting = int(max(size) * (free / needed) ** 0.5)
        raise error(
            f"content: {size[0]}x{size[1]} pixels need {needed >> 20} MiB even in strips, {whose} "
            f"{free >> 20} MiB more; use a size of {fitting} or less"
        )


def _read(
    source: Mapping[str, NDArray[Any]] | str | os.PathLike[str] | None,
) -> tuple[JohnsonWeights, dict[str, str] | None]:
    """Return the weights and what a recipe says of their file."""
    if source is None:
        raise WeightsError(
            "weights: method fast needs those of a transformation network, which bring the style; "
            "give --weights FILE (depthstyle weights get fast-candy downloads one)"
        )
    if isinstance(source, Mapping):
        return prepare(networks.load(JOHNSON.name, source).weights), None
    loaded = networks.load(JOHNSON.name, source)
    path = Path(source)
    return prepare(loaded.weights), {"file": path.name, "sha256": digest(path)}
