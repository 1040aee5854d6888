"""The optimisers of the Gatys family: one plan each that evaluates and improves a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.checkpoint import Contents
from depthstyle.objective import Engine, Objective
from depthstyle.presets import Preset

Array = NDArray[np.float32]
Poll = Callable[[], object] | None


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

    @property
    def bytes(self) -> int:
        """Memory that it takes from its first steps on."""

    def unused_after(self, iterations: int) -> int:
        """Return the part of that memory to which so many iterations write nothing."""

    def step(self, weights: Mapping[str, float], iteration: int, poll: Poll = None) -> Evaluation:
        """Evaluate the picture, then change it; `weights` by group, `iteration` from 0.

        `poll` is called now and then; what it raises ends the step, and nothing has changed.
        """

    def state(self) -> Contents:
        """Return all that the next step depends on besides the picture; arrays may be views."""

    def restore(self, contents: Contents) -> None:
        """Go on from a state; KeyError or ValueError where it is none of this optimiser."""


_MOMENTS = ("mean", "square", "step")
"""Adam's variables in the plan."""


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
        mean, square, step = _MOMENTS
        moments = [
            graph.variable(name, np.zeros_like(start), kind="map") for name in (mean, square)
        ]
        count = graph.variable(step, np.zeros((1, 1, 1, 1), np.float32), kind="plain")
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

    @property
    def bytes(self) -> int:
        """Memory of the plan, in which the moments are, and of their first values."""
        return self._plan.bytes + 2 * self.image.nbytes

    def unused_after(self, iterations: int) -> int:
        """Return 0: the first iteration writes to all of it."""
        return 0

    def step(self, weights: Mapping[str, float], iteration: int, poll: Poll = None) -> Evaluation:
        """Evaluate the picture, then take one step of Adam."""
        before = self.image
        rate = self._preset.learning_rate(iteration)
        total, *terms, self.image = self._plan.run({**weights, "rate": rate}, poll=poll)
        return Evaluation(before, float(total.item()), [float(term.item()) for term in terms])

    def state(self) -> Contents:
        """Return the moments and the number of steps."""
        return Contents({}, {name: self._plan.get(name) for name in _MOMENTS})

    def restore(self, contents: Contents) -> None:
        """Go on from a state."""
        for name in _MOMENTS:
            self._plan.set(name, contents.tensors[name])


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

    @property
    def bytes(self) -> int:
        """Memory of the plan and of a full history."""
        return self._plan.bytes + (2 * self._history + 2) * self.image.nbytes

    def unused_after(self, iterations: int) -> int:
        """Return the bytes of the pairs that are still to come, one for each iteration."""
        return 2 * max(self._history - max(iterations - 1, 0), 0) * self.image.nbytes

    def step(self, weights: Mapping[str, float], iteration: int, poll: Poll = None) -> Evaluation:
        """Evaluate the picture, then take one step of L-BFGS."""
        before = self.image
        if weights != self._weights:  # gradients of another function would mislead it
            self._begin(weights)
        self._plan.set("image", before)
        total, *terms, gradient = self._plan.run(dict(weights), poll=poll)
        value = float(total.item())
        if np.isfinite(value):
            after = before.ravel().copy()
            self._lbfgs.step(after, value, gradient.ravel())
            self.image = after.reshape(before.shape)
        return Evaluation(before, value, [float(term.item()) for term in terms])

    def _begin(self, weights: Mapping[str, float]) -> None:
        """Start without history on the function that these weights make."""
        self._lbfgs = None  # two would not fit where one does
        self._lbfgs = _core.LBFGS(self.image.size, self._history, threads=self._threads)
        self._weights = dict(weights)

    def state(self) -> Contents:
        """Return the history, as views of the optimiser's own memory."""
        if self._lbfgs is None:
            return Contents({"weights": {}}, {})
        started, newest, diagonal, length, pairs = self._lbfgs.state
        memory, kept = np.asarray(self._lbfgs), len(pairs)
        steps, changes = memory[2 : 2 + kept], memory[2 + self._history :][:kept]
        scalars = {"started": started, "newest": newest, "diagonal": diagonal, "length": length}
        tensors = {"last": memory[: 2 * started], "steps": steps, "changes": changes}
        return Contents(
            {"weights": self._weights, **scalars}, {**tensors, "pairs": np.array(pairs)}
        )

    def restore(self, contents: Contents) -> None:
        """Go on from a state."""
        values, tensors = contents.values, contents.tensors
        if not values["weights"]:
            return
        self._begin(values["weights"])
        memory, kept = np.asarray(self._lbfgs), len(tensors["steps"])
        memory[: len(tensors["last"])] = tensors["last"]
        memory[2 : 2 + kept] = tensors["steps"]
        memory[2 + self._history :][:kept] = tensors["changes"]
        scalars = (values[name] for name in ("started", "newest", "diagonal", "length"))
        self._lbfgs.state = (*scalars, tuple(tensors["pairs"].tolist()))
