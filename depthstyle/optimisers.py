"""The optimisers of the Gatys family: one plan each that evaluates and improves a picture."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.checkpoint import Contents
from depthstyle.engine import Engine
from depthstyle.objective import Objective
from depthstyle.presets import Preset

Array = NDArray[np.float32]
Poll = Callable[[], object] | None

_SECONDS = 0.05
"""How long a device may work without a look at Ctrl-C."""

_MOST = 64
"""Iterations that a device does in one go, at most; see ds_plan_repeat."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run, float32 (1, 3, H, W) in the network's input range.

    Attributes
    ----------
    image : array
        The present one.
    good : array
        The one before, the last whose loss was finite.
    best : array
        The one of the lowest loss.
    least : float
        That loss.
    """

    image: Array
    good: Array
    best: Array
    least: float = np.inf


class Optimiser(ABC):
    """Improves the picture of an objective, and keeps the best one on the way.

    All of that is one plan, whose pictures stay where it runs until somebody asks for them.

    Parameters
    ----------
    objective : Objective
        Gets nodes that keep the last and the best picture.
    start : float32 (1, 3, H, W)
        The first picture, in the network's input range.
    engine : Engine
        Where the plan runs.
    gradient, update : Node
        The gradient of the objective, and the picture after an iteration.
    """

    def __init__(
        self, objective: Objective, start: Array, engine: Engine, gradient: Any, update: Any
    ) -> None:
        graph, image = objective.graph, objective.image
        good, best = (graph.variable(name, start, kind="map") for name in ("good", "best"))
        least = graph.variable("least", np.full((1, 1, 1, 1), np.inf, np.float32), kind="plain")
        # These go before the update, which changes what they copy.
        kept = [
            graph.keep_update(good, image),
            graph.keep_update(best, image, least, objective.total),
        ]
        self._watched = [objective.total, *(term.node for term in objective.terms)]
        self._plan = engine.compile(
            graph, [*self._watched, *kept, update], check=[objective.total, gradient]
        )
        self._waits = engine.backend != "cuda"
        self._pace = 1
        self._size = start.nbytes

    @property
    def pictures(self) -> Pictures:
        """The pictures; setting them changes those of the plan."""
        image, good, best, least = map(self._plan.get, ("image", "good", "best", "least"))
        return Pictures(image, good, best, float(least.item()))

    @pictures.setter
    def pictures(self, pictures: Pictures) -> None:
        for name in ("image", "good", "best", "least"):
            self._plan.set(name, getattr(pictures, name))

    def picture(self, name: str) -> Array:
        """Return one of the pictures."""
        return self._plan.get(name)

    @property
    def is_finite(self) -> bool:
        """Whether the present picture is."""
        return self._plan.is_finite("image")

    def forget_best(self) -> None:
        """Let the next picture be the best one."""
        self._plan.set("least", np.inf)

    def step(
        self, weights: Mapping[str, float], iteration: int, most: int, poll: Poll = None
    ) -> Array:
        """Do some iterations: one on the CPU, on a device as many as take it about 50 ms.

        Each evaluates the picture, keeps it, and changes it.

        Parameters
        ----------
        weights : mapping of str to float
            The weights by group.
        iteration : int
            The number of the first one, from 0.
        most : int
            How many to do at most.
        poll : callable, optional
            Called now and then; what it raises ends the work, and nothing has changed.

        Returns
        -------
        float32 (done, 1 + terms)
            What each iteration found: the objective, and the value of each term without the
            weight of its group.

        Raises
        ------
        NumericalError
            The objective or its gradient is not finite; `iteration` counts from the first one
            and `seen` is as above, up to that one, which has changed nothing.
        """
        count = min(most, self._pace)
        begin = time.perf_counter()
        seen = self._do(count, weights, iteration, poll)
        if not self._waits:
            fitting = int(count * _SECONDS / max(time.perf_counter() - begin, 1e-9))
            self._pace = max(1, min(fitting, 2 * count, _MOST))
        return seen

    @abstractmethod
    def _do(self, count: int, weights: Mapping[str, float], iteration: int, poll: Poll) -> Array:
        """Do `count` iterations, or fewer; as `step`."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Memory that it takes from its first steps on."""

    @abstractmethod
    def unused_after(self, iterations: int) -> int:
        """Return the part of that memory to which so many iterations write nothing."""

    @abstractmethod
    def state(self) -> Contents:
        """Return all that the next step depends on besides the pictures; arrays may be views."""

    @abstractmethod
    def restore(self, contents: Contents) -> None:
        """Go on from a state; KeyError or ValueError where it is none of this optimiser."""


_MOMENTS = ("mean", "square", "step")
"""Adam's variables in the plan."""


class Adam(Optimiser):
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
        super().__init__(objective, start, engine, gradient, update)

    @property
    def bytes(self) -> int:
        """Memory of the plan, in which the moments are, and of their first values."""
        return self._plan.bytes + 2 * self._size

    def unused_after(self, iterations: int) -> int:
        """Return 0: the first iteration writes to all of it."""
        return 0

    def _do(self, count: int, weights: Mapping[str, float], iteration: int, poll: Poll) -> Array:
        rates = [self._preset.learning_rate(iteration + i) for i in range(count)]
        return self._plan.repeat(
            count, dict(weights), feeds={"rate": rates}, watch=self._watched, poll=poll
        )

    def state(self) -> Contents:
        """Return the moments and the number of steps."""
        return Contents({}, {name: self._plan.get(name) for name in _MOMENTS})

    def restore(self, contents: Contents) -> None:
        """Go on from a state."""
        for name in _MOMENTS:
            self._plan.set(name, contents.tensors[name])


class Lbfgs(Optimiser):
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
        graph = objective.graph
        (gradient,) = graph.gradient(objective.total, [objective.image])
        slope = graph.variable("slope", start, kind="map")
        super().__init__(objective, start, engine, gradient, graph.keep_update(slope, gradient))
        self._on_gpu, self._waits = not self._waits, True
        self._lbfgs: Any = None
        self._history, self._threads, self._length = history, engine.threads, start.size
        self._weights: dict[str, float] = {}

    @property
    def bytes(self) -> int:
        """Memory of the plan and of a full history, vectors and their products."""
        products = 2 * self._history**2 * np.dtype(np.float64).itemsize
        return self._plan.bytes + (2 * self._history + 2) * self._size + products

    def unused_after(self, iterations: int) -> int:
        """Return the bytes of the pairs that are still to come, one for each iteration."""
        return 2 * max(self._history - max(iterations - 1, 0), 0) * self._size

    def _do(self, count: int, weights: Mapping[str, float], iteration: int, poll: Poll) -> Array:
        if weights != self._weights:  # gradients of another function would mislead it
            self._begin(weights)
        seen = self._plan.repeat(1, dict(weights), watch=self._watched, poll=poll)
        self._lbfgs.step("image", float(seen[0, 0]), "slope")
        return seen

    def _begin(self, weights: Mapping[str, float]) -> None:
        """Start without history on the function that these weights make."""
        self._lbfgs = None  # two would not fit where one does
        self._lbfgs = _core.LBFGS(
            self._length, self._history, threads=self._threads, plan=self._plan
        )
        self._weights = dict(weights)

    def _rows(self, begin: int, count: int) -> Array:
        """Return rows of the optimiser's memory: a view of it, or a copy from a GPU."""
        if not self._on_gpu:
            return np.asarray(self._lbfgs)[begin : begin + count]
        rows = np.empty((count, self._length), np.float32)
        for row in range(count):
            rows[row] = self._lbfgs.get_row(begin + row, "image").ravel()
        return rows

    def _set_rows(self, begin: int, rows: Array) -> None:
        if not self._on_gpu:
            np.asarray(self._lbfgs)[begin : begin + len(rows)] = rows
            return
        for row, values in enumerate(rows, start=begin):
            self._lbfgs.set_row(row, "image", np.ascontiguousarray(values, np.float32))

    def state(self) -> Contents:
        """Return the history: views of the optimiser's own memory, or copies from a GPU."""
        if self._lbfgs is None:
            return Contents({"weights": {}}, {})
        started, newest, products = self._lbfgs.state
        kept = products.shape[-1]
        steps, changes = self._rows(2, kept), self._rows(2 + self._history, kept)
        tensors = {"last": self._rows(0, 2 * started), "steps": steps, "changes": changes}
        return Contents(
            {"weights": self._weights, "started": started, "newest": newest},
            {**tensors, "products": products},
        )

    def restore(self, contents: Contents) -> None:
        """Go on from a state."""
        values, tensors = contents.values, contents.tensors
        if not values["weights"]:
            return
        self._begin(values["weights"])
        for begin, name in ((0, "last"), (2, "steps"), (2 + self._history, "changes")):
            self._set_rows(begin, tensors[name])
        self._lbfgs.state = (values["started"], values["newest"], tensors["products"])
