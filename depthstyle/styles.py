"""Style pictures that the module paints itself: brush strokes along a flow field.

A picture is painted in layers, large strokes first.  Every stroke is a strip of a brush texture
(bristles, a rounded start, a dry end) laid along a streamline of a flow field, so later strokes
cover earlier ones as on a canvas.  The paint's height is lit from the upper left.  Everything is
drawn at twice the size and averaged down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SUPERSAMPLING = 2
_REFERENCE_SIZE = 512  # stroke lengths and widths below are pixels of a picture this large
_FIELD_SIZE = 256
_BRUSHES = 24
_CHUNK_POINTS = 1 << 19
_MIN_SIZE = 32


@dataclass(frozen=True)
class _Strokes:
    """One layer of strokes; lengths and widths in pixels of a 512-pixel picture."""

    length: float
    width: float
    coverage: float  # painted area over picture area, overlaps counted
    jitter: float = 0.06  # spread of a stroke's colour
    turn: float = 0.0  # angle between the strokes and the flow, radians
    wobble: float = 0.1  # spread of that angle
    bristles: float = 0.12  # contrast between the bristles
    relief: float = 1.0  # height of the paint


@dataclass(frozen=True)
class _Scene:
    """What is painted: where strokes go and which colour they take, on a coarse square grid."""

    angle: Array  # (G, G) radians, direction of the flow
    colour: Array  # (G, G, 3)
    tone: Array  # (G, G) in [0, 1], how much paint is wanted


class _Canvas:
    """Colour and paint height at the supersampled size."""

    def __init__(self, size: int, ground: tuple[float, float, float]) -> None:
        self.side = size * _SUPERSAMPLING
        self.scale = self.side / _REFERENCE_SIZE
        self.colour = np.empty((self.side * self.side, 3), np.float32)
        self.colour[:] = ground
        self.height = np.zeros(self.side * self.side, np.float32)

    def paint(
        self, scene: _Scene, strokes: _Strokes, rng: np.random.Generator, above: float = 0.0
    ) -> None:
        """Lay one layer of strokes wherever the scene's tone exceeds `above`."""
        length, width = strokes.length * self.scale, max(strokes.width * self.scale, 1.5)
        span = self.side + length  # strokes also enter from outside, so the border is covered
        count = int(strokes.coverage * span**2 / (length * width)) + 1
        start = rng.random((count, 2), dtype=np.float32) * span - length / 2
        start = start[_sample(scene.tone, start / self.side) > above]
        # a finer step than one pixel leaves no holes between neighbouring samples of a strip
        across = int(np.ceil(width / 0.8))
        along = int(np.ceil(length / 0.8))
        paths = self._streamlines(scene, strokes, start, length, along, rng)
        brushes = _brush_textures(along, across, width / length, rng)
        brush_of = rng.integers(_BRUSHES, size=len(paths))
        top = self._topmost(paths, brushes > 0, brush_of, width)

        drawn = np.flatnonzero(top >= 0)
        stroke, within = np.divmod(top[drawn], along * across)
        paint = brushes.reshape(_BRUSHES, -1)[brush_of[stroke], within]
        middle = paths[:, along // 2] / self.side
        tint = rng.normal(0, strokes.jitter, (len(paths), 3)).astype(np.float32)
        tint = 0.5 * tint + tint.mean(1, keepdims=True)
        colour = _sample(scene.colour, middle) + tint
        self.colour[drawn] = colour[stroke] * (1 + strokes.bristles * (paint - 0.6))[:, None]
        self.height[drawn] = 0.4 * self.height[drawn] + strokes.relief * paint

    def _streamlines(
        self,
        scene: _Scene,
        strokes: _Strokes,
        start: Array,
        length: float,
        samples: int,
        rng: np.random.Generator,
    ) -> Array:
        """Follow the flow from each start: (strokes, samples, 2) positions (x, y)."""
        knots = min(samples, 16)
        step = length / (knots - 1)
        turn = rng.normal(strokes.turn, strokes.wobble, len(start)).astype(np.float32)
        position, path = start, [start]
        for _ in range(knots - 1):
            angle = _sample(scene.angle, position / self.side) + turn
            position = position + step * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
            path.append(position)
        knot = np.stack(path, axis=1)
        place = np.linspace(0, knots - 1, samples, dtype=np.float32)
        left = np.minimum(place.astype(np.intp), knots - 2)
        weight = (place - left)[None, :, None].astype(np.float32)
        return knot[:, left] * (1 - weight) + knot[:, left + 1] * weight

    def _topmost(
        self, paths: Array, covers: NDArray[np.bool_], brush_of: NDArray[np.intp], width: float
    ) -> NDArray[np.int32]:
        """Return for each pixel the last strip sample laid on it, or -1."""
        along, across = covers.shape[1:]
        outside = self.side * self.side
        top = np.full(outside + 1, -1, np.int32)
        offset = np.linspace(-0.5, 0.5, across, dtype=np.float32) * width
        batch = max(_CHUNK_POINTS // (along * across), 1)
        for first in range(0, len(paths), batch):
            path = paths[first : first + batch]
            tangent = np.gradient(path, axis=1)
            normal = tangent[..., ::-1] / (np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-6)
            x = (path[..., :1] - normal[..., :1] * offset).astype(np.int32)
            y = (path[..., 1:] + normal[..., 1:] * offset).astype(np.int32)
            inside = (x >= 0) & (x < self.side) & (y >= 0) & (y < self.side)
            inside &= covers[brush_of[first : first + batch]]
            pixel = np.where(inside, y * self.side + x, outside)
            identity = np.arange(pixel.size, dtype=np.int32) + first * along * across
            top[pixel.ravel()] = identity
        return top[:outside]

    def finish(self, light: float, weave: float) -> Array:
        """Light the relief, add the canvas weave and average down to the picture's size."""
        from scipy.ndimage import gaussian_filter

        shape = (self.side, self.side)
        height = gaussian_filter(self.height.reshape(shape), 0.5 * _SUPERSAMPLING)
        rise_y, rise_x = np.gradient(height)
        row, column = np.ogrid[: self.side, : self.side]
        period = 2 * np.pi / (3.0 * _SUPERSAMPLING)
        threads = weave * np.sin(row * period) * np.sin(column * period)
        shade = 1 + light * np.tanh(rise_x + rise_y) + threads
        picture = self.colour.reshape(*shape, 3) * shade[..., None].astype(np.float32)
        half = self.side // _SUPERSAMPLING
        blocks = picture.reshape(half, _SUPERSAMPLING, half, _SUPERSAMPLING, 3)
        return np.clip(blocks.mean(axis=(1, 3)), 0, 1).astype(np.float32)


def _sample(grid: Array, position: Array) -> Array:
    """Read a (G, G, ...) grid at positions (x, y) in [0, 1], the nearest node, edges held."""
    side = grid.shape[0]
    index = np.clip((position * side).astype(np.intp), 0, side - 1)
    return grid[index[..., 1], index[..., 0]]


def _brush_textures(along: int, across: int, aspect: float, rng: np.random.Generator) -> Array:
    """Return (brushes, along, across) paint heights in [0, 1]; 0 where the canvas shows."""
    from scipy.ndimage import gaussian_filter1d

    bristle = rng.random((_BRUSHES, across), dtype=np.float32)
    bristle = 0.35 + 0.65 * gaussian_filter1d(bristle, 0.7, axis=1, mode="nearest")
    u = np.linspace(0, 1, along, dtype=np.float32)[None, :, None]
    v = np.linspace(-1, 1, across, dtype=np.float32)[None, None, :]
    rounded = 0.5 * aspect * (1 - np.sqrt(np.maximum(1 - v**2, 0)))
    starts = rounded + 0.04 * rng.random((_BRUSHES, 1, across), dtype=np.float32)
    ends = 1 - rounded - 0.18 * rng.random((_BRUSHES, 1, across), dtype=np.float32)
    ridge = (1 - 0.6 * np.abs(v) ** 3) * (1 - 0.35 * u)
    inside = (u >= starts) & (u <= ends)
    return np.where(inside, np.maximum(bristle[:, None, :] * ridge, 0.05), 0).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, scale: float) -> Array:
    """Return smooth noise of zero mean and unit deviation; `scale` is a share of the picture."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=(_FIELD_SIZE, _FIELD_SIZE)), scale * _FIELD_SIZE)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _vortices(rng: np.random.Generator, count: int) -> Array:
    """Return (G, G) a sum of round hills of random place and size, far from each other."""
    y, x = np.mgrid[:_FIELD_SIZE, :_FIELD_SIZE].astype(np.float32) / _FIELD_SIZE
    places = rng.random((40 * count, 2))
    chosen = [places[0]]
    for place in places[1:]:
        if len(chosen) < count and min(np.hypot(*(place - c)) for c in chosen) > 0.3:
            chosen.append(place)
    hills = np.zeros_like(x)
    for centre in chosen:
        radius = rng.uniform(0.05, 0.13)
        hills += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * radius**2))
    return hills


def _along_contours(potential: Array) -> Array:
    """Return the direction of the level lines: the flow is the curl of the potential."""
    rise_y, rise_x = np.gradient(potential)
    return np.arctan2(rise_x, -rise_y).astype(np.float32)


def _mix(palette: list[tuple[int, int, int]], place: Array) -> Array:
    """Interpolate 8-bit colours at places 0 (first) to 1 (last)."""
    knots = np.linspace(0, 1, len(palette))
    colours = np.asarray(palette, np.float32) / 255
    channels = [np.interp(place, knots, colours[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _wave(value: Array) -> Array:
    """Fold any value to [0, 1] back and forth."""
    return np.abs((value + 1) % 2 - 1).astype(np.float32)


def _swirls(size: int, rng: np.random.Generator) -> Array:
    hills = _vortices(rng, 7)
    potential = _smooth_noise(rng, 0.13) + 3.0 * hills
    warmth = np.clip(1.15 * hills + 0.12 * _smooth_noise(rng, 0.08), 0, 1)
    night = [(14, 24, 66), (24, 52, 122), (44, 92, 160), (98, 148, 190), (176, 204, 196)]
    glow = [(70, 120, 150), (150, 180, 130), (232, 190, 70), (246, 222, 130), (236, 150, 40)]
    bands = _wave(1.6 * potential + 0.3 * _smooth_noise(rng, 0.03))
    warmth = warmth[..., None]
    colour = _mix(night, bands) * (1 - warmth) + _mix(glow, bands) * warmth
    scene = _Scene(_along_contours(potential), colour, np.ones_like(potential))
    canvas = _Canvas(size, (0.10, 0.14, 0.28))
    canvas.paint(scene, _Strokes(80, 18, 2.6, jitter=0.04, bristles=0.25), rng)
    canvas.paint(scene, _Strokes(60, 10, 1.6, jitter=0.08, bristles=0.3), rng)
    canvas.paint(scene, _Strokes(34, 5, 0.5, jitter=0.14, bristles=0.4, relief=1.3), rng)
    return canvas.finish(light=0.45, weave=0.015)


def _hatching(size: int, rng: np.random.Generator) -> Array:
    potential = _smooth_noise(rng, 0.14)
    tone = _wave(0.8 * potential + 0.35 * _smooth_noise(rng, 0.05))
    paper = np.asarray((0.93, 0.89, 0.80), np.float32)
    wash = _mix([(226, 214, 190), (196, 178, 150), (120, 132, 140)], tone)
    ink = np.broadcast_to(np.float32([0.10, 0.09, 0.13]), wash.shape)
    angle = _along_contours(potential)
    canvas = _Canvas(size, tuple(paper))
    canvas.paint(_Scene(angle, wash, tone), _Strokes(70, 26, 1.6, 0.02, relief=0.1), rng, 0.3)
    drawing = _Scene(angle, ink, tone)
    for turn, above, coverage in ((0.0, 0.15, 0.40), (1.0, 0.55, 0.30), (2.1, 0.78, 0.30)):
        strokes = _Strokes(40, 1.7, coverage, 0.04, turn, wobble=0.05, relief=0.2)
        canvas.paint(drawing, strokes, rng, above)
    return canvas.finish(light=0.12, weave=0.03)


def _dabs(size: int, rng: np.random.Generator) -> Array:
    potential = _smooth_noise(rng, 0.10)
    garden = [(52, 70, 120), (74, 130, 110), (150, 176, 84), (238, 206, 120), (232, 128, 96)]
    blossom = [(120, 70, 130), (206, 96, 130), (246, 190, 180), (250, 236, 200), (120, 180, 200)]
    share = (1 / (1 + np.exp(-4 * _smooth_noise(rng, 0.11))))[..., None].astype(np.float32)
    place = _wave(0.7 * potential + 0.25 * _smooth_noise(rng, 0.03))
    colour = _mix(garden, place) * share + _mix(blossom, place) * (1 - share)
    scene = _Scene(_along_contours(potential), colour, np.ones_like(potential))
    canvas = _Canvas(size, (0.62, 0.55, 0.48))
    canvas.paint(scene, _Strokes(34, 18, 1.6, jitter=0.05), rng)
    canvas.paint(scene, _Strokes(17, 9, 1.5, jitter=0.09, wobble=0.4), rng)
    canvas.paint(scene, _Strokes(10, 6, 0.6, jitter=0.17, wobble=0.6, relief=1.2), rng)
    return canvas.finish(light=0.30, weave=0.04)


def _mosaic(size: int, rng: np.random.Generator) -> Array:
    from scipy.spatial import cKDTree

    canvas = _Canvas(size, (0.0, 0.0, 0.0))
    spacing = 15 * canvas.scale
    row, column = np.mgrid[-1 : canvas.side / spacing + 1, -1 : canvas.side / spacing + 1]
    centres = np.stack([column + 0.5 * (row % 2), row], axis=-1).reshape(-1, 2) * spacing
    centres = centres + rng.normal(0, 0.14 * spacing, centres.shape)
    potential = _smooth_noise(rng, 0.12) + 1.5 * _vortices(rng, 4)
    stones = [(28, 60, 92), (40, 128, 140), (226, 214, 180), (214, 150, 60), (160, 52, 40)]
    place = _wave(0.9 * potential)
    tiles = _sample(_mix(stones, place), (centres / canvas.side).astype(np.float32))
    tiles = tiles * (1 + rng.normal(0, 0.13, (len(tiles), 1))) + rng.normal(0, 0.02, tiles.shape)

    y, x = np.mgrid[: canvas.side, : canvas.side]
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)
    distance, nearest = cKDTree(centres).query(pixels, k=2)
    inside = (distance[:, 1] - distance[:, 0]) / spacing
    grout = np.float32([0.16, 0.14, 0.13])
    canvas.colour[:] = np.where((inside > 0.14)[:, None], tiles[nearest[:, 0]], grout)
    grain = rng.normal(0, 0.25, inside.shape)
    canvas.height[:] = 6 * np.minimum(inside, 0.3) + grain
    return canvas.finish(light=0.25, weave=0.0)


_PAINTERS: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "swirls": _swirls,
    "hatching": _hatching,
    "dabs": _dabs,
    "mosaic": _mosaic,
}

STYLE_NAMES: tuple[str, ...] = tuple(_PAINTERS)
"""The names that `make_style` knows."""


def make_style(name: str, size: int = 512, seed: int = 0) -> Array:
    """Paint a style picture; the same arguments give the same picture again.

    Parameters
    ----------
    name : str
        ``"swirls"`` (thick oil strokes in eddies, night blues and yellows), ``"hatching"``
        (crossed ink strokes over a thin wash), ``"dabs"`` (pastel touches of broken colour) or
        ``"mosaic"`` (stone tiles set in dark grout).
    size : int
        Height and width in pixels, at least 32.  Strokes grow with the picture.
    seed : int
        Seed of the composition and of every stroke, not negative.

    Returns
    -------
    numpy.ndarray
        Picture of shape (size, size, 3), float32, RGB in [0, 1].

    Raises
    ------
    ValueError
        If the name is unknown, the size below 32 or the seed negative.
    """
    if name not in _PAINTERS:
        raise ValueError(f"name: unknown style {name!r}; choose from {', '.join(STYLE_NAMES)}")
    if size < _MIN_SIZE:
        raise ValueError(f"size: {size} is too small; give at least {_MIN_SIZE} pixels")
    if seed < 0:
        raise ValueError(f"seed: {seed} is negative; give 0 or more")
    return _PAINTERS[name](size, np.random.default_rng(seed))
