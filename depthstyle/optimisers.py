"""The optimisers of the Gatys family: one plan each that evaluates and improves a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.objective import Engine, Objective
from depthstyle.presets import Preset

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """What one iteration found before it changed the picture.

    Attributes
    ----------
    image : float32 (1, 3, H, W)
        The picture that was evaluated, in the network's input range.
    total : float
        The objective.
    terms : list of float
        The value of each term, without the weight of its group.
    """

    image: Array
    total: float
    terms: list[float]


class Optimiser(Protocol):
    """Improves the picture of an objective step by step."""

    image: Array
    """The present picture (1, 3, H, W) in the network's input range."""

    def step(self, weights: Mapping[str, float], iteration: int) -> Evaluation:
        """Evaluate the picture, then change it; `weights` by group, `iteration` from 0."""


class Adam:
    """Adam with a schedule; step, moments and clamping are part of the plan.

    Parameters
    ----------
    objective : Objective
        Gets the update nodes.
    start : float32 (1, 3, H, W)
        The first picture, in the network's input range.
    preset : Preset
        Schedule, weight decay and clamping.
    low, high : float32 (1, 3, 1, 1)
        Black and white in the network's input range.
    engine : Engine
        Where the plan runs.
    """

    def __init__(
        self,
        objective: Objective,
        start: Array,
        preset: Preset,
        low: Array,
        high: Array,
        engine: Engine,
    ) -> None:
        graph, image = objective.graph, objective.image
        (gradient,) = graph.gradient(objective.total, [image])
        moments = [
            graph.variable(name, np.zeros_like(start), kind="map") for name in ("mean", "square")
        ]
        count = graph.variable("step", np.zeros((1, 1, 1, 1), np.float32), kind="plain")
        rate = graph.input("rate", (1, 1, 1, 1), kind="plain")
        update = graph.adam_update(
            image, *moments, count, gradient, rate, weight_decay=preset.weight_decay
        )
        if preset.clamp:
            update = graph.clamp_update(update, graph.constant(low), graph.constant(high))
        self._preset = preset
        self._plan = engine.compile(
            graph, [objective.total, *(term.node for term in objective.terms), update]
        )
        self.image = start

    def step(self, weights: Mapping[str, float], iteration: int) -> Evaluation:
        """Evaluate the picture, then take one step of Adam."""
        before = self.image
        rate = self._preset.learning_rate(iteration)
        total, *terms, self.image = self._plan.run({**weights, "rate": rate})
        return Evaluation(before, float(total.item()), [float(term.item()) for term in terms])


class Lbfgs:
    """L-BFGS, one evaluation per iteration.

    Parameters
    ----------
    objective : Objective
        What to minimise.
    start : float32 (1, 3, H, W)
        The first picture, in the network's input range.
    history : int
        Steps to remember.
    engine : Engine
        Where the plan runs.
    """

    def __init__(self, objective: Objective, start: Array, history: int, engine: Engine) -> None:
        (gradient,) = objective.graph.gradient(objective.total, [objective.image])
        self._plan = engine.compile(
            objective.graph, [objective.total, *(term.node for term in objective.terms), gradient]
        )
        self._lbfgs: Any = None
        self._history, self._threads = history, engine.threads
        self._weights: dict[str, float] = {}
        self.image = start

    def step(self, weights: Mapping[str, float], iteration: int) -> Evaluation:
        """Evaluate the picture, then take one step of L-BFGS."""
        before = self.image
        if weights != self._weights:  # gradients of another function would mislead it
            self._lbfgs = _core.LBFGS(before.size, self._history, threads=self._threads)
            self._weights = dict(weights)
        self._plan.set("image", before)
        total, *terms, gradient = self._plan.run(dict(weights))
        value = float(total.item())
        if np.isfinite(value):
            after = before.ravel().copy()
            self._lbfgs.step(after, value, gradient.ravel())
            self.image = after.reshape(before.shape)
        return Evaluation(before, value, [float(term.item()) for term in terms])
