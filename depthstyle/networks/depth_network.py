"""What a depth network is beyond its module: its pre-processing and the meaning of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.networks.network import Name, Network, Weights

_SHARE_BEYOND = 0.1
"""Per cent of the readings that may lie nearer than near, and as many beyond far."""


@dataclass(frozen=True, kw_only=True)
class DepthNetwork:
    """A network that estimates depth from a photograph, with its published pre-processing.

    Attributes
    ----------
    network : Network
        The published module.
    input_size : callable
        ``input_size(h, w)`` is the height and width at which the network sees a picture of h x w
        pixels.
    output : str or tuple
        The output of the module that is the depth, (N, 1, h, w).
    features : tuple of str
        The outputs of the module's encoder, from fine to coarse.
    nearness : bool
        The output grows with the nearness (disparity, inverse depth) and not with the distance.
    logarithmic : bool
        The output is the logarithm of the depth.
    mean, std : (float, float, float)
        The module is fed (rgb - mean) / std, rgb in [0, 1].
    resize_in, resize_out : dict
        Attributes of the op resize with which a picture is brought to the network, and its output
        back to the picture.
    """

    network: Network
    input_size: Callable[[int, int], tuple[int, int]]
    output: Name
    features: tuple[Name, ...]
    nearness: bool
    logarithmic: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize_in: dict[str, Any]
    resize_out: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the network."""
        return self.network.name

    def add(self, graph: Any, image: Any, weights: Weights) -> Any:
        """Add the network to a graph, from a picture to the raw output; see `add_outputs`.

        Returns
        -------
        Node (N, 1, h, w)
            The module's output at the size at which it saw the picture, or a part of that size.
        """
        return self.add_outputs(graph, image, weights, [self.output])[self.output]

    def add_outputs(
        self, graph: Any, image: Any, weights: Weights, names: Iterable[Name]
    ) -> dict[Name, Any]:
        """Add the network to a graph, from a picture to outputs of the module.

        Every step is a node, so that gradients flow from the outputs to the picture.

        Parameters
        ----------
        graph : Graph
            Gets the nodes.
        image : Node (N, 3, H, W)
            Pictures of any size, RGB in [0, 1].
        weights : mapping of str to array
            The weights under their published keys, or what ``network.prepare`` made of them.

        names : iterable of str or tuple
            The wanted outputs, as `output` and `features`.

        Returns
        -------
        dict of str or tuple to Node

        Raises
        ------
        WeightsError
            A key is missing or has another shape.
        """
        h, w = self.input_size(*image.shape[2:])
        x = graph.resize(image, h=h, w=w, **self.resize_in)
        x = _normalise(graph, x, self.mean, self.std)
        return self.network.add(graph, x, weights, names)

    def add_output_resize(self, graph: Any, raw: Any, size: tuple[int, int]) -> Any:
        """Add the resizing of the raw output (N, 1, h, w) to a picture's height and width."""
        return graph.resize(raw, h=size[0], w=size[1], **self.resize_out)

    def to_readings(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Turn the raw output into depth or disparity, not to scale."""
        return np.exp(raw, dtype=np.float64) if self.logarithmic else raw.astype(np.float64)

    def find_range(self, raw: NDArray[Any]) -> tuple[float, float]:
        """Return the readings that become 0 and 1: near and far.

        They are the ends of the readings without the 0.1 % at either end, which networks get wrong
        at the borders of a picture, as `read_depth_map` does with a sensor's.
        """
        ends = np.percentile(self.to_readings(raw), [_SHARE_BEYOND, 100 - _SHARE_BEYOND])
        low, high = float(ends[0]), float(ends[1])
        return (high, low) if self.nearness else (low, high)

    def to_depth(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Turn the raw output into depth: 0 nearest to 1 farthest.

        d = (r - near) / (far - near), clipped to [0, 1], where r are the readings. For outputs
        that grow with the nearness 1 - d is thus the raw output scaled to [0, 1].

        Parameters
        ----------
        raw : float array of any shape
            Finite values.

        Returns
        -------
        float32 array of the same shape
            0.5 everywhere where nearly all readings are equal.
        """
        near, far = self.find_range(raw)
        if near == far:
            return np.full(raw.shape, 0.5, np.float32)
        return np.clip((self.to_readings(raw) - near) / (far - near), 0, 1).astype(np.float32)


def _normalise(
    graph: Any, x: Any, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Any:
    if not any(mean) and all(value == 1 for value in std):
        return x
    scale = np.reshape([1 / value for value in std], (1, 3, 1, 1))
    shift = np.reshape([-m / s for m, s in zip(mean, std, strict=True)], (1, 3, 1, 1))
    return graph.add(graph.multiply(x, graph.constant(scale)), graph.constant(shift))
