"""Stylise a picture step by step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import checkpoint, session_state
from depthstyle.checkpoint import Contents
from depthstyle.colour import match_colour, match_luminance
from depthstyle.depth import as_depth
from depthstyle.engine import Engine
from depthstyle.errors import Busy, ImageError, NumericalError
from depthstyle.estimates import check_memory
from depthstyle.fingerprint import digest
from depthstyle.images import as_image, check_size, resize, scaled_size
from depthstyle.interrupts import HeldInterrupt
from depthstyle.masks import MaskSpec, layer_mask
from depthstyle.memory import give_back_memory
from depthstyle.objective import (
    Loss,
    Objective,
    Perception,
    StyleTarget,
    build_objective,
    style_groups,
)
from depthstyle.optimisers import Adam, Lbfgs, Optimiser, Pictures
from depthstyle.presets import Options, Preset, check_choice, check_count, check_number
from depthstyle.presets import preset as find_preset
from depthstyle.session_inputs import WeightsSource, as_list, as_styles, fit, see_depth
from depthstyle.weights.choice import choose

Array = NDArray[np.float32]

_SAME_SHAPE = 0.02  # by how much the proportions of depth and photograph may differ
_LARGEST_STYLE_SCALE = 100
_MINIMUM_POOLS = 3  # of a Laplacian loss: its kernel is 3 x 3 pools and has no border


@dataclass(frozen=True)
class Stage:
    """One size of the coarse-to-fine sequence."""

    size: tuple[int, int]
    content_masks: Mapping[str, Array] | None
    style_masks: list[Mapping[str, Array] | None]


class Session:
    """Stylise a picture step by step, changing the weights on the way if wanted.

    Parameters
    ----------
    content : array (H, W, 3)
        The photograph, as for `as_image`.
    styles : array (h, w, 3) or sequence of such arrays
        One style picture or several, of any sizes.
    depth : array (h, w), optional
        Depth of the photograph in its proportions, 0 nearest to 1 farthest; masks are functions
        of it.
    style_masks : mask or sequence of mask, optional
        Where each style counts: what `depth_mask` accepts, or None for everywhere.
    content_mask : mask, optional
        Where the content counts.
    preset : str, optional
        A name of `presets.PRESETS`; the settings below change it.
    weights : mapping of str to array, or path, optional
        Weights of a network of `networks.names`; by default the published VGG19 where it is in
        the cache (``depthstyle weights get vgg19``), otherwise the embedded encoder.
    depth_network_weights : mapping of str to array, or path, optional
        Weights of the depth network of a depth loss; by default those in the cache.
    size : int, optional
        Longer side of the result in pixels; by default that of the photograph.
    style_scale : float, optional
        Longer side of the style pictures over that of the result: more gives larger strokes.
    start : array (H, W, 3), optional
        A picture to start from, in place of the preset's `init`.
    seed : int, optional
        Seed of the noise that `init="noise"` starts from.
    preserve_colour : {"luminance", "covariance"}, optional
        Keep the photograph's colours: take only the luminance of the result, or give the style
        the photograph's colour statistics first.
    extra : mapping of str to callable, optional
        Losses of your own by name, functions (graph, image node, feature nodes by layer) to a
        scalar node; their weights are 1 until changed.
    threads : int, optional
        Number of threads.
    device : str, optional
        What computes: ``"auto"`` is the first GPU where there is one and the CPU otherwise,
        ``"cuda"`` and ``"cuda:1"`` ask for a GPU, ``"cpu"`` for the CPU.
    precision : {"auto", "fp32", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`.
    **options
        The settings of `presets.Preset`.

    Attributes
    ----------
    weights : dict of str to float
        The weight of each loss; change the values between steps. A loss whose weight is 0 at the
        start is left out.
    losses : dict of str to list of float
        The weighted value of each loss and their ``"total"``, one entry for each iteration.
    iteration : int
        How many iterations are done.

    Raises
    ------
    ValueError
        A parameter, mask or depth map cannot be used.
    ImageError
        A picture cannot be used or is too small.
    WeightsError
        The weights are missing or do not fit the network.
    """

    def __init__(
        self,
        content: ArrayLike,
        styles: ArrayLike | Sequence[ArrayLike],
        *,
        depth: ArrayLike | None = None,
        style_masks: MaskSpec | Sequence[MaskSpec | None] | None = None,
        content_mask: MaskSpec | None = None,
        preset: str = "size-invariant",
        weights: WeightsSource | None = None,
        depth_network_weights: WeightsSource | None = None,
        size: int | None = None,
        style_scale: float = 1.0,
        start: ArrayLike | None = None,
        seed: int = 0,
        preserve_colour: Literal["luminance", "covariance"] | None = None,
        extra: Mapping[str, Loss] | None = None,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        **options: Unpack[Options],
    ) -> None:
        check_count("seed", seed, least=0)
        if preserve_colour is not None:
            check_choice("preserve_colour", preserve_colour, ("luminance", "covariance"))
        check_number("style_scale", style_scale)
        if not 0 < style_scale <= _LARGEST_STYLE_SCALE:
            raise ValueError(
                f"style_scale={style_scale!r}: must be above 0, at most {_LARGEST_STYLE_SCALE}"
            )
        self.preset: Preset = find_preset(preset).with_options(options)
        self._preset_name = preset
        chosen = choose(weights, self.preset.network)
        network, self._weights_origin = chosen.network, chosen.origin
        self.perception = Perception(network, chosen.arrays, self.preset.pooling)
        self._engine = Engine(device, threads, precision, self.preset.optimizer)
        self._layers = self.preset.layer_weights(network.content_layer, network.style_layers)

        content = as_image(content, "content")
        self._content = fit(content, size)
        self._styles = as_styles(styles)
        if preserve_colour == "covariance":
            self._styles = [match_colour(style, self._content) for style in self._styles]
        self._preserve_luminance = preserve_colour == "luminance"
        self._style_scale, self._seed = style_scale, seed
        self._extra = dict(extra or {})
        self._check_sizes()
        self.depth_perception = see_depth(self.preset, depth_network_weights)
        masks = as_list(style_masks, len(self._styles))
        self._stages = self._plan_stages(depth, content.shape[:2], content_mask, masks)

        self.weights: dict[str, float] = self._first_weights()
        self.losses: dict[str, list[float]] = {}
        self.iteration = 0
        self._best_weights: dict[str, float] = {}
        self._stage = self._stage_iteration = 0
        self._optimiser: Optimiser | None = None
        self._objective: Objective | None = None
        self._user: dict[str, object] = {}
        first = self._stages[0].size
        picture = network.to_input(self._start_picture(start, first))
        self._pictures: Pictures | None = Pictures(picture, picture, picture)
        self._start_digest = digest(picture)

    @property
    def iterations(self) -> int:
        """How many iterations the preset asks for, all scales together."""
        return self.preset.iterations * len(self._stages)

    @property
    def image(self) -> NDArray[np.float32]:
        """The present picture, or the last good one after an error; float32 (H, W, 3) in [0, 1].

        Busy where another thread does iterations.
        """
        return self._finish(self._picture("image"))

    @property
    def best(self) -> NDArray[np.float32]:
        """The picture of the lowest loss at the present scale, float32 (H, W, 3) in [0, 1]."""
        return self._finish(self._picture("best"))

    @property
    def device(self) -> str:
        """What computes, in words."""
        return self._engine.description

    @cached_property
    def _weights_digest(self) -> str | None:
        return digest(self.perception.weights)

    @cached_property
    def _depth_weights_digest(self) -> str | None:
        return None if self.depth_perception is None else digest(self.depth_perception.weights)

    @property
    def recipe(self) -> dict[str, Any]:
        """What makes the picture, as JSON values: preset, settings, network, seed, iterations."""
        settings = self.preset.as_dict()
        contents, styles = self._layers
        return {
            "preset": self._preset_name,
            **settings,
            "network": self.perception.network.name,
            "network_weights": self._weights_origin,
            **({} if self.depth_perception is None else self.depth_perception.recipe),
            "content_layers": contents,
            "style_layers": styles,
            "weights": dict(self.weights),
            "size": list(self._content.shape[:2]),
            "style_scale": self._style_scale,
            "seed": self._seed,
            **self._engine.recipe,
            "iteration": self.iteration,
        }

    def step(self, count: int = 1) -> NDArray[np.float32]:
        """Do some iterations; past `iterations` they go on at full size.

        Parameters
        ----------
        count : int, optional
            How many.

        Returns
        -------
        float32 (H, W, 3)
            The picture after them, in [0, 1].

        Raises
        ------
        NumericalError
            A loss became NaN or infinite; it names the iteration and the layer, and `image` is
            the last good picture.
        OutOfMemory, DeviceOutOfMemory
            Before the first iteration: the run needs more memory than there is.
        DeviceLost
            The GPU failed; `image` is the picture before, and this process cannot go on.
        """
        check_count("count", count)
        with HeldInterrupt() as interrupt, self._alone():
            last = self.iteration + count
            while self.iteration < last:
                self._advance(last - self.iteration, interrupt)
        return self.image

    def advance(self, most: int) -> None:
        """Do some iterations: one on the CPU, on a GPU as many as take it about 50 ms.

        The losses of each are there afterwards; `best` and an error are those of single ones.
        What is not done is to look at Ctrl-C and to call back in between.

        Parameters
        ----------
        most : int
            How many at most.

        Raises
        ------
        NumericalError, OutOfMemory
            As `step`.
        """
        check_count("most", most)
        with HeldInterrupt() as interrupt, self._alone():
            self._advance(most, interrupt)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which `resume` goes on, bit for bit.

        It holds the pictures, the optimiser's state and the losses; of photograph, styles, masks
        and weights of the network only their SHA-256. The one before stays as ``NAME.previous``.

        Parameters
        ----------
        path : path
            The file to write.

        Raises
        ------
        CheckpointError
            It cannot be written; what was there stays.
        Busy
            Another thread uses this session, or another run this checkpoint.
        """
        with HeldInterrupt() as interrupt, self._alone(), checkpoint.Lock(path):
            contents = self.state()
            with interrupt.released():
                checkpoint.write(path, contents)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint; this session must have been made as the saved one was.

        Parameters
        ----------
        path : path
            The file that `save` wrote. Where it is damaged the previous one is taken, with a
            warning.

        Raises
        ------
        CheckpointError
            It is missing or damaged, or was made from other pictures, weights or settings; the
            message names them.
        Busy
            Another thread uses this session.

        Warns
        -----
        ReproducibilityWarning
            It was made by another version or on another processor.
        """
        self.restore(checkpoint.read(path), path)

    def state(self) -> Contents:
        """Return what `save` writes; its arrays are views."""
        return session_state.of(self)

    def restore(self, contents: Contents, path: str | os.PathLike[str]) -> None:
        """Go on from what `state` returned; `path` is for messages. Errors as `resume`."""
        with HeldInterrupt() as interrupt, self._alone():
            session_state.restore(self, contents, path, interrupt)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second thread. Ctrl-C must be held: it could come before the end is noted."""
        token = object()
        if self._user.setdefault("thread", token) is not token:
            raise Busy("session: is in use by another thread; wait for it or make another session")
        try:
            yield
        finally:
            del self._user["thread"]

    def _advance(self, most: int, interrupt: HeldInterrupt) -> None:
        interrupt.check()
        if self._stage < len(self._stages) - 1:
            if self._stage_iteration == self.preset.iterations:
                self._leave_stage()
                self._stage, self._stage_iteration = self._stage + 1, 0
            most = min(most, self.preset.iterations - self._stage_iteration)
        if self._optimiser is None:
            with interrupt.released():
                if self.iteration == 0:
                    check_memory(self)
                prepared = self._prepare_stage(self._stage, self._picture("image"), self._engine)
            self._enter_stage(*prepared)
        assert self._optimiser is not None
        weights = self._checked_weights()
        if weights != self._best_weights:
            self._optimiser.forget_best()
        try:
            seen = self._optimiser.step(weights, self._stage_iteration, most, interrupt.check)
        except NumericalError as error:
            assert error.seen is not None
            self._record(weights, error.seen[:-1])
            raise self._failure(error.seen[-1]) from error
        if not self._optimiser.is_finite:
            self._record(weights, seen[:-1])
            raise self._failure(seen[-1])
        self._record(weights, seen)

    def _record(self, weights: Mapping[str, float], seen: Array) -> None:
        """Note what some iterations found."""
        assert self._objective is not None
        for total, *terms in seen.tolist():
            sums = dict.fromkeys(self._objective.groups, 0.0)
            for term, value in zip(self._objective.terms, terms, strict=True):
                sums[term.group] += weights[term.group] * value
            for name, value in {"total": total, **sums}.items():
                self.losses.setdefault(name, []).append(value)
            self._best_weights = dict(weights)
        self._stage_iteration += len(seen)
        self.iteration += len(seen)

    def _failure(self, seen: Array) -> NumericalError:
        """Go back to the last good picture, from which a next step starts anew; make the error.

        `seen` is what the iteration found that went wrong.
        """
        assert self._objective is not None
        total, *terms = seen.tolist()
        layer, reason = "total", f"the total loss is {total}"
        for term, value in zip(self._objective.terms, terms, strict=True):
            if not np.isfinite(value):
                layer, reason = term.layer, f"{term.group} loss at {term.layer} is {value}"
                break
        if np.isfinite(total):
            layer, reason = "gradient", "the gradient is not finite"
        pictures = self._leave_stage()
        usable = np.isfinite(total) and np.isfinite(pictures.image).all()
        good = pictures.image if usable else pictures.good
        self._pictures = replace(pictures, image=good, good=good)
        return NumericalError(
            f"iteration {self.iteration}: {reason}; lower the learning rate or the weights",
            iteration=self.iteration,
            layer=layer,
        )

    def _checked_weights(self) -> dict[str, float]:
        assert self._objective is not None
        for name in self.weights:
            if name not in self._objective.groups:
                raise ValueError(
                    f"weights[{name!r}]: no such loss in this session; it has "
                    f"{', '.join(self._objective.groups)}"
                )
            check_number(f"weights[{name!r}]", self.weights[name])
        return dict(self.weights)

    def _prepare_stage(
        self, index: int, start: Array, engine: Engine
    ) -> tuple[Objective, Optimiser]:
        """Build the plan of a size."""
        stage, network = self._stages[index], self.perception.network
        if start.shape[2:] != stage.size:
            start = network.to_input(resize(network.from_input(start), stage.size, "bicubic"))
        longest = max(stage.size)
        styles = [
            StyleTarget(self._fit_style(image, longest), masks)
            for image, masks in zip(self._styles, stage.style_masks, strict=True)
        ]
        objective = build_objective(
            self.perception,
            self.preset,
            start,
            resize(self._content, stage.size),
            styles,
            content_masks=stage.content_masks,
            depth=self.depth_perception,
            extra=self._extra,
            weights=self.weights,
            engine=engine,
        )
        if self.preset.optimizer == "adam":
            low, high = network.input_range()
            return objective, Adam(objective, start, self.preset, low, high, engine)
        return objective, Lbfgs(objective, start, self.preset.history, engine)

    def _enter_stage(self, objective: Objective, optimiser: Optimiser) -> None:
        self._objective, self._optimiser = objective, optimiser
        start, before = optimiser.picture("image"), self._pictures
        if before is not None and before.best.shape == start.shape:
            optimiser.pictures = replace(before, image=start, good=start)
        self._pictures = None
        give_back_memory()  # of the targets and of the size before

    def _leave_stage(self) -> Pictures:
        """Take the pictures out of the optimiser, and drop it."""
        self._pictures = self._present_pictures()
        self._optimiser = self._objective = None
        return self._pictures

    def _present_pictures(self) -> Pictures:
        if self._optimiser is not None:
            return self._optimiser.pictures
        assert self._pictures is not None
        return self._pictures

    def _picture(self, name: str) -> Array:
        """Return one of `Pictures`."""
        if self._optimiser is not None:
            return self._optimiser.picture(name)
        return getattr(self._pictures, name)

    def _finish(self, planes: Array) -> NDArray[np.float32]:
        image = self.perception.network.from_input(planes)
        size = self._content.shape[:2]
        if image.shape[:2] != size:
            image = resize(image, size, "bicubic")
        return match_luminance(self._content, image) if self._preserve_luminance else image

    def _start_picture(self, start: ArrayLike | None, size: tuple[int, int]) -> Array:
        if start is not None:
            picture = as_image(start, "start")
            if picture.shape != self._content.shape:
                raise ImageError(
                    f"start: {picture.shape[0]}x{picture.shape[1]} pixels, must have the result's "
                    f"{self._content.shape[0]}x{self._content.shape[1]}; resize it"
                )
            return resize(picture, size)
        if self.preset.init == "noise":
            noise = np.random.default_rng(self._seed).random((*size, 3), np.float32)
            return noise
        return resize(self._content, size)

    def _first_weights(self) -> dict[str, float]:
        preset, count = self.preset, len(self._styles)
        style_weights = preset.style_weights(count)
        if len(style_weights) != count:
            raise ValueError(
                f"style_weight={preset.style_weight!r}: {len(style_weights)} weights for {count} "
                "styles; give one for each"
            )
        for name in self._extra:
            if name in ("content", "tv", "laplacian", "depth", "total", *style_groups(count)):
                raise ValueError(f"extra[{name!r}]: is the name of a built-in loss; rename it")
        weights = {"content": preset.content_weight}
        weights.update(zip(style_groups(count), style_weights, strict=True))
        weights.update(tv=preset.tv_weight, laplacian=preset.laplacian_weight)
        weights.update(depth=0.0 if preset.depth_loss is None else preset.depth_weight)
        weights.update(dict.fromkeys(self._extra, 1.0))
        built = {name: weight for name, weight in weights.items() if weight > 0}
        if not built:
            raise ValueError("content_weight, style_weight: all weights are 0; raise one")
        return built

    def _check_sizes(self) -> None:
        network = self.perception.network
        least = network.minimum_size([*self._layers[0], *self._layers[1]])
        if self.preset.laplacian_weight > 0:
            least = max(least, _MINIMUM_POOLS * max(self.preset.laplacian_pools))
        self._least = max(least, 2)
        check_size(self._content, self._least, "content")
        for name, style in zip(style_groups(len(self._styles)), self._styles, strict=True):
            check_size(style, network.minimum_size(self._layers[1]), name)

    def _fit_style(self, style: Array, longest: int) -> Array:
        """Resize a style picture for a result of some length, but not below the minimum."""
        wanted = scaled_size(*style.shape[:2], longest=max(1, round(longest * self._style_scale)))
        least = self.perception.network.minimum_size(self._layers[1])
        if min(wanted) < least:
            wanted = scaled_size(*style.shape[:2], shortest=least)
        return resize(style, wanted)

    def _plan_stages(
        self,
        depth: ArrayLike | None,
        content_size: tuple[int, int],
        content_mask: MaskSpec | None,
        style_masks: Sequence[MaskSpec | None],
    ) -> list[Stage]:
        """Choose the sizes and compute every mask, so that a bad one is found before the work."""
        distance, (height, width) = None, content_size
        if depth is not None:
            distance = as_depth(depth)
            if abs(distance.shape[0] * width / (distance.shape[1] * height) - 1) > _SAME_SHAPE:
                raise ImageError(
                    f"depth: {distance.shape[0]}x{distance.shape[1]} pixels, must have the "
                    f"proportions of the content's {height}x{width}; cut or resize it"
                )
        full = self._content.shape[:2]
        sizes = [full]
        for halvings in range(1, self.preset.scales):
            size = scaled_size(*full, longest=max(1, round(max(full) / 2**halvings)))
            if min(size) >= self._least:
                sizes.insert(0, size)
        contents, styles = self._layers
        stages = []
        for size in sizes:
            shapes = self.perception.shapes(size, list({**contents, **styles}))

            def at(
                mask: MaskSpec | None, name: str, layers: Mapping[str, float], shapes: Any = shapes
            ) -> Mapping[str, Array] | None:
                if mask is None:
                    return None
                return {
                    layer: layer_mask(mask, distance, shapes[layer][2:], name, layer)
                    for layer in layers
                }

            names = style_groups(len(self._styles))
            stages.append(
                Stage(
                    size,
                    at(content_mask, "content_mask", contents),
                    [
                        at(mask, f"mask of {name}", styles)
                        for mask, name in zip(style_masks, names, strict=True)
                    ],
                )
            )
        return stages
