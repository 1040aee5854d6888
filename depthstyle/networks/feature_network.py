"""Networks whose feature maps the losses of the Gatys family compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.networks.network import Network, Weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork(Network):
    """A published network, seen as a source of feature maps.

    Its `layers` have canonical names (``relu1_1``, ``fire2``), and its `add_layers` takes the
    keyword ``pooling``.

    Attributes
    ----------
    minimum_sizes : mapping of str to int
        Smallest height and width of a picture that reaches a layer, by canonical name.
    content_layer : str
        The layer of the content loss by default.
    style_layers : tuple of str
        The layers of the style loss by default.
    mean, std : (float, float, float)
        The network is fed (rgb - mean) / std, rgb in [0, 1].
    bgr : bool
        The network wants its channels in the order blue, green, red.
    """

    minimum_sizes: Mapping[str, int]
    content_layer: str
    style_layers: tuple[str, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False

    def minimum_size(self, names: Iterable[str], weights: Weights | None = None) -> int:
        """Return the smallest height and width of a picture for which every layer has a pixel."""
        return max(self.minimum_sizes[self.layer(name)] for name in names)

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
        return self.add(graph, image, weights, layers, pooling=pooling)

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

    def add_rgb(self, graph: Any, image: Any) -> Any:
        """Add what turns the network's input back into RGB in [0, 1], unclipped.

        Parameters
        ----------
        graph : Graph
            Gets the nodes.
        image : Node (N, 3, H, W)
            Pictures in the network's input range.

        Returns
        -------
        Node (N, 3, H, W)
        """
        if self.bgr:
            blue, green, red = (graph.slice(image, axis=1, begin=i, end=i + 1) for i in range(3))
            image = graph.concat(red, green, blue)
        mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (self.mean, self.std))
        return graph.add(graph.multiply(image, graph.constant(std)), graph.constant(mean))

    def input_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what black and white become: two arrays (1, 3, 1, 1)."""
        black, white = np.zeros((1, 1, 3), np.float32), np.ones((1, 1, 3), np.float32)
        return self.to_input(black), self.to_input(white)
