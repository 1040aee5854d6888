"""A network with its weights as a function of arrays, and its gradient."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core
from depthstyle.engine import Engine
from depthstyle.networks.network import Name, Network, Weights

Array = NDArray[np.float32]

_MOST_PLANS = 4
"""Plans kept for sizes used before; each holds memory for its feature maps."""


class LoadedNetwork:
    """A network with its weights, to be called on arrays.

    Parameters
    ----------
    network : Network
    weights : mapping of str to array
        The weights under their published keys.
    engine : Engine
        What computes, and how precisely.

    Attributes
    ----------
    device : str
        What computes, in words.
    precision : str
        What runs: never ``"auto"``.
    network : Network
        Its ``layers`` and ``aliases`` are the names that `outputs` takes.
    weights : mapping of str to array
        As the network's `prepare` returns them.

    Raises
    ------
    WeightsError
        A key is missing or has another shape.
    """

    def __init__(self, network: Network, weights: Weights, engine: Engine) -> None:
        self._engine = engine
        self.device, self.precision = engine.description, engine.effective_precision
        self.network, self.weights = network, network.prepare(weights)
        self._channels = network.input_channels(self.weights)
        self._returned = network.returns or network.layers[-1:]
        self._forget_plans()
        size = network.minimum_size(self._returned, self.weights)
        self._nodes((1, self._channels, size, size), self._returned)  # checks keys and shapes

    def __call__(
        self, x: Array, outputs: Sequence[Name] | None = None
    ) -> Array | dict[Name, Array]:
        """Return what the published module returns, or chosen outputs.

        Parameters
        ----------
        x : float32 (N, C, H, W)
            The input of the published module.
        outputs : sequence of str or tuple, optional
            The wanted outputs, by published (``"features.20"``, ``("disp", 0)``) or canonical
            (``"relu4_1"``) name; by default what the module returns.

        Returns
        -------
        float32 (N, C, h, w), or dict of str or tuple to such arrays
            What the module returns (those of MiDaS leave out C, which is 1), or each of `outputs`
            under the name that it was asked by.

        Raises
        ------
        ValueError
            `x` is no finite float32 (N, C, H, W), too small or of no size that the network takes,
            or a name is unknown.
        Busy
            Another thread runs this network on arrays of this size.
        """
        names = self._returned if outputs is None else self._names(outputs)
        x = self._checked_input(x, names)
        plan, _ = self._plan(x.shape, names, gradient=False)
        maps = plan.run({"x": x})
        if outputs is None and not self.network.returns:
            return maps[0][:, 0] if self.network.planar else maps[0]
        return dict(zip(names, maps, strict=True))

    def gradient(self, x: Array, dy: Array | Mapping[Name, Array]) -> Array:
        """Return the gradient of sum(y * dy) with respect to x, where y is ``net(x)``.

        Parameters
        ----------
        x : float32 (N, C, H, W)
            As for the call.
        dy : float32 (N, C, h, w), or mapping of str or tuple to such arrays
            One array for the last output, or one for each named output, whose sums are added.

        Returns
        -------
        float32 (N, C, H, W)

        Raises
        ------
        ValueError
            `x` is as in the call, or an array of `dy` is not finite, not float32, or not of its
            output's shape.
        Busy
            As for the call.
        """
        given = dy if isinstance(dy, Mapping) else {self.network.layers[-1]: dy}
        planar = self.network.planar and given is not dy
        names = self._names(given)
        x = self._checked_input(x, names)
        plan, shapes = self._plan(x.shape, names, gradient=True)
        feeds = {"x": x}
        for name, shape in zip(names, shapes, strict=True):
            label = f"dy[{name!r}]" if isinstance(dy, Mapping) else "dy"
            array = _checked(given[name], label)
            wanted = (shape[0], *shape[2:]) if planar else shape
            if array.shape != wanted:
                raise ValueError(f"{label}: shape {array.shape}, the output has {wanted}")
            feeds[f"dy {name}"] = array.reshape(shape)
        return plan.run(feeds)[0]

    def _names(self, names: Any) -> tuple[Name, ...]:
        if isinstance(names, str) or not names:
            raise ValueError(f"outputs={names!r}: give a list of one or more names")
        for name in names:
            self.network.layer(name)
        return tuple(dict.fromkeys(names))

    def _checked_input(self, x: Array, names: Sequence[Name]) -> Array:
        x = _checked(x, "x")
        if x.ndim != 4 or x.shape[1] != self._channels or 0 in x.shape:
            raise ValueError(f"x: shape {x.shape}, expected (N, {self._channels}, H, W)")
        height, width = x.shape[2:]
        least = self.network.minimum_size(names, self.weights)
        if min(height, width) < least:
            raise ValueError(
                f"x: {height}x{width} pixels, {', '.join(map(str, names))} of "
                f"{self.network.name} need at least {least}x{least}"
            )
        multiple = self.network.multiple
        if height % multiple or width % multiple:
            raise ValueError(
                f"x: {height}x{width} pixels, {self.network.name} needs multiples of {multiple}; "
                "resize it"
            )
        return x

    def _nodes(self, shape: tuple[int, ...], names: Sequence[Name]) -> tuple[Any, Any, list[Any]]:
        graph = _core.Graph()
        x = graph.input("x", shape, kind="map")
        maps = self.network.add(graph, x, self.weights, names)
        return graph, x, [maps[name] for name in names]

    def _forget_plans(self) -> None:
        """Start without plans: a fork copies neither their threads nor the one that locked."""
        self._plans: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _plan(self, shape: tuple[int, ...], names: tuple[Name, ...], *, gradient: bool) -> Any:
        """Return the compiled plan and the shapes of the outputs.

        The plan that was not used for longest is forgotten.
        """
        key = (shape, names, gradient)
        if self._process != os.getpid():
            self._forget_plans()
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
                return self._plans[key]
            graph, x, nodes = self._nodes(shape, names)
            shapes = [node.shape for node in nodes]
            if gradient:
                nodes = graph.gradient(_weighted_sum(graph, names, nodes), [x])
            while len(self._plans) >= _MOST_PLANS:
                self._plans.popitem(last=False)
            self._plans[key] = self._engine.compile(graph, nodes), shapes
            return self._plans[key]


def _weighted_sum(graph: Any, names: Sequence[Name], nodes: Sequence[Any]) -> Any:
    """Add sum(y * dy) over all outputs; the arrays dy are inputs."""
    total = None
    for name, node in zip(names, nodes, strict=True):
        dy = graph.input(f"dy {name}", node.shape, kind="map")
        part = graph.sum_to(graph.multiply(node, dy))
        total = part if total is None else graph.add(total, part)
    return total


def _checked(value: Any, name: str) -> Array:
    array = np.asarray(value)
    if array.dtype != np.float32:
        raise ValueError(f"{name}: type {array.dtype}, expected float32; use astype(np.float32)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds NaN or infinity; give finite numbers")
    return np.ascontiguousarray(array)
