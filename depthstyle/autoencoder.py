"""AdaIN's encoder and decoder as plans: whole pictures in one run, large ones in tiles.

A picture is encoded to relu4_1, its features get the style's statistics (AdaIN), and the decoder
paints them. Tiles give the same picture: convolutions and pools see 30 pixels to each side, less
than the margin with which tiles are computed, and AdaIN's statistics come from the whole map.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.engine import Engine
from depthstyle.errors import DeviceOutOfMemory, NumericalError, WeightsError
from depthstyle.networks import build
from depthstyle.progress import progress_bar
from depthstyle.weights.choice import AdainChoice

Array = NDArray[np.float32]

LAYER = "relu4_1"
STRIDE = 8
"""Pixels of a picture per pixel of `LAYER`."""
SMALLEST = STRIDE + 1
"""Least height and width of a picture: the layer needs two pixels for a variance."""

_MARGIN = 4  # features around a tile: 32 pixels, and the fields of both networks reach 30
_TILES = (4096, 2048, 1024, 512, 256)
_MOST_PLANS = 2
_EPSILON = 1e-5  # added to the variances, as in the code that the published decoder is trained by


@dataclass(frozen=True)
class _Window:
    """A stretch of one axis in features: what is computed, and the part of it that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def computed(self, stride: int) -> slice:
        """Where the computed part lies in the whole, in pixels of a stride."""
        return slice(self.start * stride, self.stop * stride)

    def kept(self, stride: int) -> slice:
        """Where the kept part lies in the whole."""
        return slice(self.keep_start * stride, self.keep_stop * stride)

    def kept_of_computed(self, stride: int) -> slice:
        """Where the kept part lies in the computed one."""
        return slice(
            (self.keep_start - self.start) * stride, (self.keep_stop - self.start) * stride
        )


class Autoencoder:
    """An encoder and a decoder with AdaIN between them.

    Parameters
    ----------
    weights : AdainChoice
        Those of the two networks.
    engine : Engine
        What computes.

    Raises
    ------
    WeightsError
        The decoder does not take the encoder's features.
    """

    def __init__(self, weights: AdainChoice, engine: Engine) -> None:
        self._weights, self._engine = weights, engine
        self._plans: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._encoder, self._decoder = build("adain-encoder"), build("adain-decoder")
        graph, features = self._encoder_graph((SMALLEST, SMALLEST))
        self.channels = features.shape[1]
        wanted = self._decoder.input_channels(self._decoder.prepare(weights.decoder))
        if wanted != self.channels:
            raise WeightsError(
                f"decoder: takes features of {wanted} channels, the encoder gives {self.channels}; "
                "give two that were trained together"
            )
        self._decode(graph, features)  # checks keys and shapes

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the features of a picture of a given height and width."""
        return -(-size[0] // STRIDE), -(-size[1] // STRIDE)

    def moments(self, image: Array) -> Array:
        """Return mean and standard deviation (1, C, 1, 2) of the features of a style (H, W, 3)."""
        planes = self._encoder.to_input(image)
        graph, features = self._encoder_graph(planes.shape[2:])
        moments = graph.moments(features, epsilon=_EPSILON, unbiased=True)
        return self._engine.compile(graph, [moments]).run({"image": planes})[0]

    def paint(
        self,
        content: Array,
        moments: Array,
        strength: Array,
        tile: int | None = None,
        progress: str | None = None,
    ) -> Array:
        """Return a photograph with the statistics of a style.

        Parameters
        ----------
        content : float32 (H, W, 3)
            The photograph; at least `SMALLEST` pixels high and wide.
        moments : float32 (1, C, 1, 2)
            What `moments` gave for the style.
        strength : float32 (h, w)
            Share of the style per feature, of the shape that `grid` gives.
        tile : int, optional
            Side of the tiles in pixels. By default the whole picture where memory suffices.
        progress : str, optional
            Name of a progress bar over the tiles.

        Returns
        -------
        float32 (H, W, 3)
            Values in [0, 1].

        Raises
        ------
        NumericalError
            The result is not finite.
        """
        planes = self._encoder.to_input(content)
        if tile is None:
            tile = self._choose_tile(planes.shape[2:])
        feeds = {"moments": moments, "strength": strength[None, None]}
        if max(planes.shape[2:]) <= tile:
            plan = self._whole_plan(planes.shape[2:])
            painted = plan.run({"image": planes, **feeds})[0]
        else:
            painted = self._paint_tiles(planes, feeds, max(tile // STRIDE, 1), progress)
        height, width = content.shape[:2]
        image = painted[0, :, :height, :width].transpose(1, 2, 0)
        if not np.isfinite(image).all():
            raise NumericalError("the decoder's picture is not finite; check the weights")
        return np.clip(image, 0, 1, order="C")

    def _encoder_graph(self, size: tuple[int, int]) -> tuple[Any, Any]:
        graph = _core.Graph()
        return graph, self._encode(graph, graph.input("image", (1, 3, *size), kind="map"))

    def _encode(self, graph: Any, image: Any) -> Any:
        return self._encoder.features(graph, image, self._weights.encoder, [LAYER])[LAYER]

    def _decode(self, graph: Any, features: Any) -> Any:
        return self._decoder.add(graph, features, self._weights.decoder, ["image"])["image"]

    def _adain(self, graph: Any, features: Any) -> Any:
        moments = graph.input("moments", (1, self.channels, 1, 2), kind="plain")
        strength = graph.input("strength", (1, 1, *features.shape[2:]), kind="map")
        return graph.adain(features, moments, strength, epsilon=_EPSILON, unbiased=True)

    def _whole_plan(self, size: tuple[int, int]) -> Any:
        """Return the plan from picture to picture; those of the last sizes are kept."""
        if size in self._plans:
            self._plans.move_to_end(size)
            return self._plans[size]
        while len(self._plans) >= _MOST_PLANS:
            self._plans.popitem(last=False)
        self._plans[size] = self._engine.compile(*self._whole_graph(size))
        return self._plans[size]

    def _whole_graph(self, size: tuple[int, int]) -> tuple[Any, list[Any]]:
        graph, features = self._encoder_graph(size)
        return graph, [self._decode(graph, self._adain(graph, features))]

    def _choose_tile(self, size: tuple[int, int]) -> int:
        """Return the side of the largest tiles whose plan fits into half of the free memory."""
        try:
            needed, placed = self._whole_plan(size).bytes, self._engine.on_gpu
        except DeviceOutOfMemory:
            needed, placed = self._engine.compile(*self._whole_graph(size), dry=True).bytes, False
        budget = self._engine.free_memory() / 2
        if placed or needed <= budget:
            return max(size)
        self._plans.pop(size, None)
        pixels, margins = size[0] * size[1] * budget / needed, 2 * _MARGIN * STRIDE
        fitting = (side for side in _TILES if (side + margins) ** 2 <= pixels)
        return next(fitting, _TILES[-1])

    def _paint_tiles(
        self, planes: Array, feeds: dict[str, Array], tile: int, progress: str | None
    ) -> Array:
        grid = self.grid(planes.shape[2:])
        rows, columns = (_windows(count, tile) for count in grid)
        windows = [(row, column) for row in rows for column in columns]
        bar = progress_bar(
            total=2 * len(windows),
            desc=progress,
            delay=2,
            disable=progress is None,
            leave=False,
        )
        with bar:
            features = np.empty((1, self.channels, *grid), np.float32)
            self._map_tiles(self._encode, planes, STRIDE, features, 1, windows, bar)
            graph = _core.Graph()
            node = self._adain(graph, graph.input("features", features.shape, kind="map"))
            plan = self._engine.compile(graph, [node])
            features = plan.run({"features": features, **feeds})[0]
            painted = np.empty((1, 3, STRIDE * grid[0], STRIDE * grid[1]), np.float32)
            self._map_tiles(self._decode, features, 1, painted, STRIDE, windows, bar)
        return painted

    def _map_tiles(
        self,
        add: Callable[[Any, Any], Any],
        source: Array,
        reads: int,
        target: Array,
        writes: int,
        windows: list[tuple[_Window, _Window]],
        bar: Any,
    ) -> None:
        """Fill `target` with what the nodes of `add` make of `source`, tile by tile.

        `reads` and `writes` are the pixels of `source` and `target` per feature.
        """
        plans: dict[tuple[int, ...], Any] = {}
        for row, column in windows:
            part = source[(..., *(window.computed(reads) for window in (row, column)))]
            if part.shape not in plans:
                graph = _core.Graph()
                node = add(graph, graph.input("part", part.shape, kind="map"))
                plans[part.shape] = self._engine.compile(graph, [node])
            made = plans[part.shape].run({"part": np.ascontiguousarray(part)})[0]
            inner = made[(..., *(window.kept_of_computed(writes) for window in (row, column)))]
            target[(..., *(window.kept(writes) for window in (row, column)))] = inner
            bar.update()


def _windows(count: int, tile: int) -> list[_Window]:
    """Cut an axis of `count` features into tiles, each computed with a margin to both sides."""
    length = min(tile + 2 * _MARGIN, count)
    windows = []
    for first in range(0, count, tile):
        start = min(max(first - _MARGIN, 0), count - length)
        windows.append(_Window(start, start + length, first, min(first + tile, count)))
    return windows
