"""What a network is: a function that adds its nodes to a graph, and how to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import WeightsError

Weights = Mapping[str, NDArray[Any]]
"""Arrays under their published keys."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A published network, seen as a source of feature maps.

    Attributes
    ----------
    name : str
        Its name in the registry.
    layers : tuple of str
        The feature maps in order, under their canonical names (``relu1_1``, ``fire2``).
    aliases : mapping of str to str
        Other published names (``features.1``) and the canonical name of each.
    minimum_sizes : mapping of str to int
        Smallest height and width of a picture that reaches a layer, by canonical name.
    content_layer : str
        The layer of the content loss by default.
    style_layers : tuple of str
        The layers of the style loss by default.
    add_layers : callable
        ``add_layers(graph, image, weights, last, pooling)`` adds the nodes up to the layer `last`
        and returns the feature maps by canonical name.
    mean, std : (float, float, float)
        The network is fed (rgb - mean) / std, rgb in [0, 1].
    bgr : bool
        The network wants its channels in the order blue, green, red.
    """

    name: str
    layers: tuple[str, ...]
    aliases: Mapping[str, str]
    minimum_sizes: Mapping[str, int]
    content_layer: str
    style_layers: tuple[str, ...]
    add_layers: Callable[[Any, Any, Weights, str, str], dict[str, Any]]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False

    def layer(self, name: str) -> str:
        """Return the canonical name of a layer.

        Raises
        ------
        ValueError
            The network has no such layer.
        """
        canonical = self.aliases.get(name, name)
        if canonical not in self.layers:
            raise ValueError(
                f"layer {name!r}: {self.name} has none of that name; choose from "
                f"{', '.join(self.layers)}"
            )
        return canonical

    def minimum_size(self, layers: Iterable[str]) -> int:
        """Return the smallest height and width of a picture for which every layer has a pixel."""
        return max(self.minimum_sizes[self.layer(name)] for name in layers)

    def features(
        self, graph: Any, image: Any, weights: Weights, layers: Iterable[str], pooling: str = "max"
    ) -> dict[str, Any]:
        """Add the network's nodes to a graph, up to the deepest of the asked layers.

        Parameters
        ----------
        graph : Graph
            Gets the nodes.
        image : Node (N, 3, H, W)
            The pictures in the network's input range; see `to_input`.
        weights : mapping of str to array
            The weights under their published keys; those of deeper layers may be missing.
        layers : iterable of str
            The wanted layers; published aliases are accepted.
        pooling : {"max", "average"}, optional
            How the network halves its maps.

        Returns
        -------
        dict of str to Node
            The feature map of each asked layer, under the name that it was asked by.

        Raises
        ------
        ValueError
            An unknown layer or pooling.
        WeightsError
            A key is missing or has another shape.
        """
        if pooling not in ("max", "average"):
            raise ValueError(f"pooling={pooling!r}: choose 'max' or 'average'")
        wanted = {name: self.layer(name) for name in layers}
        last = max(wanted.values(), key=self.layers.index)
        maps = self.add_layers(graph, image, weights, last, pooling)
        return {name: maps[canonical] for name, canonical in wanted.items()}

    def to_input(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn a picture (H, W, 3) of RGB in [0, 1] into the network's input (1, 3, H, W)."""
        scaled = (image - np.float32(self.mean)) / np.float32(self.std)
        planes = scaled.transpose(2, 0, 1)[None]
        return np.ascontiguousarray(planes[:, ::-1] if self.bgr else planes, dtype=np.float32)

    def from_input(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        """Turn a network's input (1, 3, H, W) back into a picture (H, W, 3), clipped to [0, 1]."""
        rgb = planes[0, ::-1] if self.bgr else planes[0]
        image = rgb.transpose(1, 2, 0) * np.float32(self.std) + np.float32(self.mean)
        return np.clip(image, 0, 1).astype(np.float32)

    def input_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what black and white become: two arrays (1, 3, 1, 1)."""
        black, white = np.zeros((1, 1, 3), np.float32), np.ones((1, 1, 3), np.float32)
        return self.to_input(black), self.to_input(white)


def take(weights: Weights, key: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return one array of the weights after checking it.

    Parameters
    ----------
    weights : mapping of str to array
        The weights under their published keys.
    key : str
        The wanted key.
    shape : tuple of int or None
        The expected shape; None takes any number.

    Raises
    ------
    WeightsError
        The key is missing or its array has another shape.
    """
    if key not in weights:
        some = ", ".join(list(weights)[:3]) or "nothing"
        raise WeightsError(f"{key}: missing from the weights, which begin with {some}")
    array = weights[key]
    matches = len(array.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not matches:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise WeightsError(f"{key}: shape {tuple(array.shape)}, expected ({expected})")
    return array


def add_conv(
    graph: Any,
    x: Any,
    weights: Weights,
    key: str,
    channels: int | None,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
) -> Any:
    """Add a convolution with bias from `key`.weight (O, I, k, k) and `key`.bias (O,)."""
    weight = take(weights, f"{key}.weight", (channels, x.shape[1], kernel, kernel))
    bias = take(weights, f"{key}.bias", (weight.shape[0],))
    return graph.conv2d(
        x,
        graph.constant(_real(weight), name=f"{key}.weight"),
        graph.constant(_real(bias).reshape(1, -1, 1, 1), name=f"{key}.bias"),
        stride=stride,
        pad=pad,
    )


def _real(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32)
