"""A transformation network on a picture too large for memory, in strips of whole rows.

A convolution sees few rows, but an instance norm needs mean and variance of the whole map. So the
network runs in passes over the picture, one for each convolution: a pass computes, strip by strip,
what lies between the last map that was kept and this convolution, with the norms on the way as the
constants that earlier passes found. Kept are the maps at a quarter of the picture's size, which
are small, and the last one. The picture goes through the large layers at the beginning and at the
end up to three times, through all others once. The result is that of a single run up to the
rounding of the norms' sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.engine import Engine
from depthstyle.networks.johnson import (
    JOHNSON,
    TANH,
    JohnsonWeights,
    Layer,
    add_affine,
    add_convolution,
)
from depthstyle.networks.network import take
from depthstyle.progress import progress_bar

Array = NDArray[np.float32]

_QUARTER = 4
"""Rows of the picture for one row of the maps that are kept."""

_KEPT = 3
"""Maps at a quarter of the size at one time: of a residual block, of its middle, and the new."""

_PICTURES = 4
"""Arrays of the picture's size: itself, the network's input, that with a margin, the output."""

_AROUND = 32
"""Rows of the picture that a strip reads beyond its own, at most."""

_TINY = 1e-12
"""What the op `moments` adds to a variance."""


@dataclass(frozen=True)
class _Strip:
    """A part of a pass.

    Attributes
    ----------
    read : slice
        The rows of the source that are read.
    made : slice
        The rows of the result that it is for.
    kept : slice
        Where these are among all rows that come out.
    """

    read: slice
    made: slice
    kept: slice


class StripRunner:
    """Runs a transformation network in strips.

    Parameters
    ----------
    weights : JohnsonWeights
    engine : Engine
    rows : int
        Rows of a strip in pixels of the picture, at least 4.
    """

    def __init__(self, weights: JohnsonWeights, engine: Engine, rows: int) -> None:
        self._weights, self._engine = weights, engine
        self._layers, self._epsilon = weights.form.layers, weights.form.epsilon
        self._quarter_rows = max(rows // _QUARTER, 1)
        self._moments: dict[int, tuple[Array, Array]] = {}

    def bytes(self, height: int, width: int) -> tuple[int, int]:
        """Return about how much memory the arrays of a picture take, and the plans of a strip."""
        margin = 2 * self._weights.form.margin
        quarter = -(-(height + margin) // _QUARTER) * -(-(width + margin) // _QUARTER)
        weights = (self._weights[f"{layer.conv}.weight"] for layer in self._layers if layer.conv)
        maps = _KEPT * max(weight.shape[0] for weight in weights) * quarter
        pictures = _PICTURES * 3 * height * width
        rows = max(self._quarter_rows * _QUARTER + _AROUND, self._weights.form.smallest)
        graph = _core.Graph()
        strip = graph.input("strip", (1, 3, min(rows, height), width))
        output = JOHNSON.add(graph, strip, self._weights, JOHNSON.layers)
        plan = self._engine.compile(graph, list(output.values()), dry=True)
        return 4 * (maps + pictures), plan.bytes

    def run(self, planes: Array, progress: str | None = None) -> Array:
        """Return what the network makes of planes (1, 3, H, W).

        `progress` names a bar that shows after two seconds; without it there is none.
        """
        margin = self._weights.form.margin
        source = np.pad(planes, [(0, 0), (0, 0), (margin, margin), (margin, margin)], "reflect")
        before, first, quarters = source, 0, -(-source.shape[2] // _QUARTER)
        total = len(self._layers) * -(-quarters // self._quarter_rows)
        with progress_bar(
            total=total, desc=progress, delay=2, disable=progress is None, leave=False
        ) as bar:
            for last in range(len(self._layers)):
                made = self._pass(source, first, last, bar)
                if made is not None:
                    self._end(made, last, before)
                    before, source, first = source, made, last + 1
        return source

    def _pass(self, source: Array, first: int, last: int, bar: Any) -> Array | None:
        """Find the moments of the last convolution's map and return the map if it is kept."""
        graph = _core.Graph()
        shape = self._add(graph, graph.input("source", source.shape), first, last).shape
        keep = last == len(self._layers) - 1 or self._scale(0, last) * _QUARTER <= 1
        made = np.empty(shape, np.float32) if keep else None
        plans: dict[tuple[int, ...], Any] = {}
        moments = _Moments()
        for strip in self._strips(source.shape[2], shape[2], first, last):
            rows = source[:, :, strip.read]
            key = (rows.shape[2], strip.kept.start, strip.kept.stop)
            if key not in plans:
                plans[key] = self._plan(rows.shape, strip.kept, first, last, keep)
            found, *out = plans[key].run({"source": np.ascontiguousarray(rows)})
            moments.add(found, (strip.made.stop - strip.made.start) * shape[3])
            if made is not None:
                made[:, :, strip.made] = out[0]
            bar.update()
        self._moments[last] = moments.mean_and_variance()
        return made

    def _plan(self, shape: tuple[int, ...], kept: slice, first: int, last: int, keep: bool) -> Any:
        graph = _core.Graph()
        x = self._add(graph, graph.input("source", shape), first, last)
        x = graph.slice(x, axis=2, begin=kept.start, end=kept.stop)
        moments = graph.moments(x, epsilon=_TINY, unbiased=False)
        return self._engine.compile(graph, [moments, x] if keep else [moments])

    def _add(self, graph: Any, x: Any, first: int, last: int) -> Any:
        """Add the layers from `first` up to the convolution of `last`."""
        for index in range(first, last):
            layer = self._layers[index]
            x = add_convolution(graph, x, self._weights, layer)
            if layer.norm is not None:
                moments = [graph.constant(array) for array in self._moments[index]]
                affine = add_affine(graph, self._weights, layer, x.shape[1])
                x = graph.batch_norm(x, *moments, *affine, epsilon=self._epsilon)
            x = graph.activation(x, kind="relu") if layer.relu else x
        return add_convolution(graph, x, self._weights, self._layers[last])

    def _strips(self, height: int, made: int, first: int, last: int) -> Iterator[_Strip]:
        """Yield strips that make all `made` rows of a pass out of `height` rows."""
        scale = self._scale(first, last)
        rows = round(self._quarter_rows * _QUARTER * self._scale(0, last))
        for start in range(0, made, rows):
            stop = min(start + rows, made)
            low, high = start, stop
            for layer in self._layers[last : first - 1 if first else None : -1]:
                low, high = _rows_before(layer, low, high)
            # strides of two, and TensorFlow's border, want strips to begin and end on fours
            low = max(low // _QUARTER * _QUARTER, 0)
            high = min(-(-high // _QUARTER) * _QUARTER, height)
            offset = round(low * scale)
            yield _Strip(slice(low, high), slice(start, stop), slice(start - offset, stop - offset))

    def _scale(self, first: int, last: int) -> float:
        """Return the rows that layers make of one row."""
        scale = 1.0
        for layer in self._layers[first : last + 1]:
            scale *= (1 if layer.doubling is None else 2) / layer.stride
        return scale

    def _end(self, made: Array, index: int, block: Array) -> None:
        """Do in place what follows a convolution whose whole map is there."""
        layer, form = self._layers[index], self._weights.form
        if layer.norm is not None:
            mean, variance = self._moments[index]
            gamma, beta = (
                take(self._weights, f"{layer.norm}.{part}", mean.shape[1:2]).reshape(mean.shape)
                for part in ("weight", "bias")
            )
            factor = gamma / np.sqrt(variance + np.float32(self._epsilon))
            made *= factor
            made += beta - mean * factor
        if layer.residual:
            eaten = (block.shape[2] - made.shape[2]) // 2
            made += block[:, :, eaten : eaten + made.shape[2], eaten : eaten + made.shape[3]]
        if layer.relu:
            np.maximum(made, 0, out=made)
        if index == len(self._layers) - 1 and form.shift is not None:
            np.tanh(made, out=made)
            made *= TANH
            made += np.float32(form.shift)


class _Moments:
    """Mean and variance of the pixels of each channel, strip by strip."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, found: Array, count: int) -> None:
        """Add `count` pixels with the mean and deviation `found` (1, C, 1, 2), as Chan et al."""
        mean, deviation = found[..., :1].astype(np.float64), found[..., 1:].astype(np.float64)
        total, apart = self._count + count, mean - self._mean
        self._squares = self._squares + deviation**2 * count
        self._squares += apart**2 * (self._count * count / total)
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def mean_and_variance(self) -> tuple[Array, Array]:
        """Return both, each (1, C, 1, 1)."""
        return self._mean.astype(np.float32), (self._squares / self._count).astype(np.float32)


def _rows_before(layer: Layer, low: int, high: int) -> tuple[int, int]:
    """Return rows that surely hold all that a layer needs for its rows from `low` to `high`."""
    if layer.doubling in ("torch", "tensorflow"):
        return low // 2 - 1, high // 2 + 1
    if layer.conv is not None:
        above = 0 if layer.border == "none" else layer.kernel // 2
        low, high = low * layer.stride - above, high * layer.stride + layer.kernel - 1 - above
    if layer.doubling == "nearest":
        low, high = low // 2, -(-high // 2)
    return low, high
