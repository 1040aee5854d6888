"""AdaIN and depth-aware AdaIN: any style in one run of two networks.

Huang and Belongie (2017), and Kitov et al. (2020), paper 002. With the encoder f and the decoder
g, content c and style s:

    x = g(S AdaIN(f(c), f(s)) + (1 - S) f(c))

where AdaIN gives each channel of f(c) the mean and the standard deviation of f(s). S is the
strength: one number in AdaIN, 1 - P with the strength map P of Algorithm 1 in depth-aware AdaIN.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.autoencoder import SMALLEST, Autoencoder
from depthstyle.colour import match_colour, match_luminance
from depthstyle.depth import as_depth, check_prominence, strength_map
from depthstyle.engine import Engine
from depthstyle.images import as_image, check_size, resize, scaled_size
from depthstyle.methods import Painted
from depthstyle.networks import Weights
from depthstyle.presets import check_choice, check_count, check_number, check_share
from depthstyle.weights.choice import choose_adain

Array = NDArray[np.float32]
WeightsSource = Weights | str | os.PathLike[str]

_LEAST_TILE = 64


class AdainPainter:
    """AdaIN: gives a photograph's features the mean and deviation of a style's, and decodes them.

    Parameters
    ----------
    styles : sequence of array (h, w, 3)
        One or several style pictures.
    strength : float, optional
        Share of the style, 0 to 1. (The alpha of paper 002's equation 4 is 1 - `strength`.)
    style_weight : float or sequence of float, optional
        The share of each style, at least 0; they are divided by their sum.
    style_size : int, optional
        Shorter side of the style pictures in pixels: less gives finer strokes. None takes them as
        they are.
    size, short_side : int, optional
        Longer or shorter side of the result in pixels; by default the photograph's.
    preserve_colour : {"luminance", "covariance"}, optional
        Keep the photograph's colours: take only the luminance of the result, or give the style
        the photograph's colour statistics first.
    weights, decoder : mapping of str to array, or path, optional
        The encoder's and the decoder's weights, both or none; by default the published ones,
        ``adain-encoder`` and ``adain-decoder``, where both are in the cache, otherwise those of
        the package.
    tile : int, optional
        Side in pixels of the tiles in which the picture is computed, which changes memory but
        not the picture. By default whole where memory suffices.
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
        A setting is out of range.
    ImageError
        A style picture cannot be used.
    WeightsError
        The weights cannot be read or do not fit together.
    """

    method = "adain"
    iterates = False

    def __init__(
        self,
        styles: Sequence[ArrayLike],
        *,
        strength: float = 1.0,
        style_weight: float | Sequence[float] = 1.0,
        style_size: int | None = 512,
        size: int | None = None,
        short_side: int | None = None,
        preserve_colour: Literal["luminance", "covariance"] | None = None,
        weights: WeightsSource | None = None,
        decoder: WeightsSource | None = None,
        tile: int | None = None,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if not styles:
            raise ValueError(f"style: method {self.method} needs a style picture; give one or more")
        check_share("strength", strength)
        self._strength = float(strength)
        self._shares = _shares(style_weight, len(styles))
        for name, value in {
            "style_size": style_size,
            "size": size,
            "short_side": short_side,
        }.items():
            if value is not None:
                check_count(name, value)
        if size is not None and short_side is not None:
            raise ValueError(f"size={size!r} and short_side={short_side!r}: give only one of them")
        if tile is not None:
            check_count("tile", tile, least=_LEAST_TILE)
        if preserve_colour is not None:
            check_choice("preserve_colour", preserve_colour, ("luminance", "covariance"))
        self._size, self._short_side, self._tile = size, short_side, tile
        self._preserve_colour = preserve_colour
        self._style_size = style_size
        self._styles = [self._fit_style(style, k) for k, style in enumerate(styles)]
        self._engine = Engine(device, threads, precision)
        chosen = choose_adain(weights, decoder)
        self._weights_origin = chosen.origin
        self._autoencoder = Autoencoder(chosen, self._engine)
        self._moments = None
        if preserve_colour != "covariance":
            self._moments = self._mix_moments(self._styles)

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
        """Paint a photograph; see `methods.Painter`. AdaIN itself does not look at the depth."""
        photograph = as_image(content, "content")
        picture = self._fit(photograph)
        check_size(picture, SMALLEST, "content")
        grid = self._autoencoder.grid(picture.shape[:2])
        strength = self._strength_map(depth, photograph.shape[:2], grid)
        moments = self._moments
        if moments is None:
            moments = self._mix_moments([match_colour(style, picture) for style in self._styles])
        image = self._autoencoder.paint(picture, moments, strength, self._tile, progress)
        if self._preserve_colour == "luminance":
            image = match_luminance(picture, image)
        return Painted(image, self._recipe(picture.shape[:2]))

    def _strength_map(
        self, depth: ArrayLike | None, size: tuple[int, int], grid: tuple[int, int]
    ) -> Array:
        """Return the share of the style for each feature of a photograph of a size."""
        return np.full(grid, self._strength, np.float32)

    def _fit(self, picture: Array) -> Array:
        if self._size is None and self._short_side is None:
            return picture
        size = scaled_size(*picture.shape[:2], longest=self._size, shortest=self._short_side)
        return resize(picture, size)

    def _fit_style(self, style: ArrayLike, index: int) -> Array:
        name = f"style {index + 1}"
        picture = as_image(style, name)
        if self._style_size is not None:
            size = scaled_size(*picture.shape[:2], shortest=self._style_size)
            picture = resize(picture, size)
        check_size(picture, SMALLEST, name)
        return picture

    def _mix_moments(self, styles: Sequence[Array]) -> Array:
        """Return the mean of the styles' moments; AdaIN is linear in them."""
        moments = [self._autoencoder.moments(style) for style in styles]
        return sum(share * m for share, m in zip(self._shares, moments, strict=True))

    def _recipe(self, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "method": self.method,
            "network_weights": self._weights_origin,
            "strength": self._strength,
            "style_weight": self._shares,
            "style_size": self._style_size,
            "size": list(size),
            "preserve_colour": self._preserve_colour,
            **self._engine.recipe,
        }


class DepthAdainPainter(AdainPainter):
    """Depth-aware AdaIN: what is near keeps the photograph, what is far takes the style.

    The strength is 1 - P with the map P of Algorithm 1; see `depth.strength_map`.

    Parameters
    ----------
    styles : sequence of array (h, w, 3)
        One or several style pictures.
    beta : float, optional
        Prominence of the nearness, at least 0. With 0 the strength is a half everywhere.
    epsilon : float, optional
        Style that even the nearest pixel takes, in [0, 1].
    **settings
        As for `AdainPainter`; a `strength` below 1 multiplies 1 - P.

    Raises
    ------
    ValueError, ImageError, WeightsError
        As for `AdainPainter`.
    """

    method = "da-adain"

    def __init__(
        self,
        styles: Sequence[ArrayLike],
        *,
        beta: float = 20.0,
        epsilon: float = 0.15,
        **settings: Any,
    ) -> None:
        check_prominence(beta, epsilon)
        self._beta, self._epsilon = float(beta), float(epsilon)
        super().__init__(styles, **settings)

    def at(self, beta: float, epsilon: float) -> DepthAdainPainter:
        """Return the same painter with other parameters; networks and styles are shared.

        Raises
        ------
        ValueError
            `beta` or `epsilon` is out of range.
        """
        check_prominence(beta, epsilon)
        other = copy.copy(self)
        other._beta, other._epsilon = float(beta), float(epsilon)
        return other

    def _strength_map(
        self, depth: ArrayLike | None, size: tuple[int, int], grid: tuple[int, int]
    ) -> Array:
        if depth is None:
            raise ValueError("depth: method da-adain needs the photograph's; give it, or use adain")
        fitted = as_depth(depth, size)
        nearness = strength_map(fitted, beta=self._beta, epsilon=self._epsilon, size=grid)
        return np.float32(self._strength) * (1 - nearness)

    def _recipe(self, size: tuple[int, int]) -> dict[str, Any]:
        return {**super()._recipe(size), "beta": self._beta, "epsilon": self._epsilon}


def _shares(weight: float | Sequence[float], count: int) -> list[float]:
    """Return the share of each of `count` styles; they add up to one."""
    weights = [weight] * count if np.ndim(weight) == 0 else list(weight)
    if len(weights) != count:
        raise ValueError(
            f"style_weight={weight!r}: {len(weights)} for {count} styles; give each one"
        )
    for value in weights:
        check_number("style_weight", value)
    if not any(weights):
        raise ValueError(f"style_weight={weight!r}: at least one must be above 0")
    parts = [float(value) / float(max(weights)) for value in weights]  # their sum is finite
    return [part / sum(parts) for part in parts]
