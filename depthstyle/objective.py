"""The function that the Gatys family minimises, as a graph over one picture size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import _core, losses
from depthstyle.engine import Engine
from depthstyle.networks import FeatureNetwork, Weights
from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.network import Name
from depthstyle.presets import Preset

Array = NDArray[np.float32]
Loss = Callable[[Any, Any, dict[str, Any]], Any]
"""A loss of the caller's own: (graph, image, features by layer) to a scalar node."""


@dataclass(frozen=True)
class Perception:
    """A network with its weights, ready to look at pictures.

    Attributes
    ----------
    network : FeatureNetwork
    weights : mapping of str to array
    pooling : {"max", "average"}
    """

    network: FeatureNetwork
    weights: Weights
    pooling: str = "max"

    def add(self, graph: Any, image: Any, layers: Sequence[str]) -> dict[str, Any]:
        """Add the network to a graph; see `FeatureNetwork.features`."""
        return self.network.features(graph, image, self.weights, layers, self.pooling)

    def shapes(self, size: tuple[int, int], layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return the shape (1, C, H, W) of each layer for pictures of a size."""
        graph = _core.Graph()
        maps = self.add(graph, graph.input("image", (1, 3, *size), kind="map"), layers)
        return {layer: node.shape for layer, node in maps.items()}

    def features(self, image: Array, layers: Sequence[str], engine: Engine) -> dict[str, Array]:
        """Return the feature maps (1, C, H, W) of a picture (H, W, 3)."""
        graph = _core.Graph()
        maps = self.add(graph, self._image_node(graph, image), layers)
        return self._run(graph, maps, engine)

    def mean_grams(self, image: Array, layers: Sequence[str], engine: Engine) -> dict[str, Array]:
        """Return the Gram matrix (1, 1, C, C) over the pixels of each layer of a picture."""
        graph = _core.Graph()
        maps = self.add(graph, self._image_node(graph, image), layers)
        grams = {
            layer: graph.gram(node, scale=1 / (node.shape[2] * node.shape[3]))
            for layer, node in maps.items()
        }
        return self._run(graph, grams, engine)

    def _image_node(self, graph: Any, image: Array) -> Any:
        return graph.variable("image", self.network.to_input(image), kind="map")

    def _run(self, graph: Any, nodes: Mapping[str, Any], engine: Engine) -> dict[str, Array]:
        values = engine.compile(graph, list(nodes.values())).run({})
        return dict(zip(nodes, values, strict=True))


@dataclass(frozen=True)
class DepthPerception:
    """A depth network with its weights, and what the depth loss compares of it.

    Attributes
    ----------
    network : DepthNetwork
    weights : mapping of str to array
        As ``network.network.prepare`` gives them.
    outputs : mapping of str or tuple to float
        The outputs compared and the weight of each.
    origin : mapping of str to str, or None
        The names and SHA-256 of the weights' files; None for arrays of the caller's.
    """

    network: DepthNetwork
    weights: Weights
    outputs: Mapping[Name, float]
    origin: Mapping[str, str] | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """Which network it is, as JSON values."""
        return {"depth_network": self.network.name, "depth_network_weights": self.origin}

    def add(self, graph: Any, rgb: Any) -> dict[Name, Any]:
        """Add the network to a graph, from RGB in [0, 1] to the outputs that are compared."""
        return self.network.add_outputs(graph, rgb, self.weights, self.outputs)

    def targets(self, content: Array, engine: Engine) -> dict[Name, Array]:
        """Return the compared outputs (1, C, h, w) of a picture (H, W, 3)."""
        graph = _core.Graph()
        planes = np.ascontiguousarray(content.transpose(2, 0, 1)[None])
        outputs = self.add(graph, graph.variable("image", planes, kind="map"))
        values = engine.compile(graph, list(outputs.values())).run({})
        return dict(zip(outputs, values, strict=True))


@dataclass(frozen=True)
class StyleTarget:
    """One style: what it looks like and where it counts.

    Attributes
    ----------
    image : float32 (h, w, 3)
        The style picture at the size at which its strokes are wanted.
    masks : mapping of str to float32 (H, W), or None
        The mask at the size of each style layer; None counts everywhere.
    """

    image: Array
    masks: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Term:
    """One summand of the objective.

    Attributes
    ----------
    group : str
        The loss that it belongs to, the key of its weight: ``"content"``, ``"style"`` ...
    layer : str
        The layer or detail, for messages.
    node : Node (1, 1, 1, 1)
    """

    group: str
    layer: str
    node: Any


@dataclass
class Objective:
    """The weighted sum of all losses of a picture, as nodes of a graph.

    ``total = sum over groups of weight(group) * sum of the group's terms``; the weights are inputs
    of the graph, named after their groups.

    Attributes
    ----------
    graph : Graph
    image : Node (1, 3, H, W)
        The variable ``image``, in the network's input range.
    terms : list of Term
    total : Node (1, 1, 1, 1)
    """

    graph: Any
    image: Any
    terms: list[Term] = field(default_factory=list)
    total: Any = None

    @property
    def groups(self) -> list[str]:
        """The groups of terms in order of appearance."""
        return list(dict.fromkeys(term.group for term in self.terms))


def style_groups(count: int) -> list[str]:
    """Return the name of each style's loss: ``style``, or ``style 1``, ``style 2`` ..."""
    return ["style"] if count == 1 else [f"style {i + 1}" for i in range(count)]


def build_objective(
    perception: Perception,
    preset: Preset,
    start: Array,
    content: Array,
    styles: Sequence[StyleTarget],
    *,
    content_masks: Mapping[str, Array] | None,
    depth: DepthPerception | None,
    extra: Mapping[str, Loss],
    weights: Mapping[str, float],
    engine: Engine,
) -> Objective:
    """Compute all targets and add all losses to a graph.

    Parameters
    ----------
    perception : Perception
        The network whose features are compared.
    preset : Preset
        Layers, their weights and the normalisation.
    start : float32 (1, 3, H, W)
        The first value of the variable ``image``, in the network's input range.
    content : float32 (H, W, 3)
        The photograph.
    styles : sequence of StyleTarget
        The styles.
    content_masks : mapping of str to float32 (H, W), or None
        The mask at the size of each content layer.
    depth : DepthPerception or None
        What the depth loss compares.
    extra : mapping of str to callable
        The caller's own losses by the name of their group.
    weights : mapping of str to float
        The weight of each group; a group that is missing is left out.
    engine : Engine
        Computes the targets.

    Returns
    -------
    Objective
    """
    network, norm = perception.network, losses.normalisation(preset.normalisation)
    contents, style_layers = preset.layer_weights(network.content_layer, network.style_layers)
    graph = _core.Graph()
    image = graph.variable("image", start, kind="map")
    features = perception.add(graph, image, list({**contents, **style_layers}))
    objective = Objective(graph, image)

    def add(group: str, layer: str, node: Any) -> None:
        objective.terms.append(Term(group, layer, node))

    if "content" in weights:
        targets = perception.features(content, list(contents), engine)
        for layer, weight in contents.items():
            target, mask = targets[layer], content_masks and content_masks[layer]
            weight = _balanced(weight, target, preset)
            node = losses.content_loss(
                graph, features[layer], target, norm, mask=mask, weight=weight
            )
            add("content", layer, node)
    for group, style in zip(style_groups(len(styles)), styles, strict=True):
        if group not in weights:
            continue
        grams = perception.mean_grams(style.image, list(style_layers), engine)
        for layer, weight in style_layers.items():
            mask = style.masks and style.masks[layer]
            weight = _balanced(weight, grams[layer] * losses.mask_share(mask, norm), preset)
            node = losses.style_loss(
                graph, features[layer], grams[layer], norm, mask=mask, weight=weight
            )
            add(group, layer, node)
    if "tv" in weights:
        add("tv", "image", losses.total_variation(graph, image, norm))
    if "laplacian" in weights:
        planes = network.to_input(content)
        for pool in preset.laplacian_pools:
            node = losses.laplacian_loss(graph, image, planes, pool, norm)
            add("laplacian", f"pool {pool}", node)
    if depth is not None and "depth" in weights:
        seen = depth.add(graph, network.add_rgb(graph, image))
        for output, target in depth.targets(content, engine).items():
            weight = _balanced(depth.outputs[output], target, preset)
            node = losses.depth_loss(graph, seen[output], target, weight=weight)
            add("depth", str(output), node)
    for name, loss in extra.items():
        add(name, "own loss", loss(graph, image, features))
    objective.total = _weighted_sum(objective)
    return objective


def _balanced(weight: float, target: Array, preset: Preset) -> float:
    """Divide a layer's weight by the mean square of its target where the preset says so."""
    if not preset.balance:
        return weight
    mean_square = float(np.mean(np.square(target, dtype=np.float64)))
    return weight / max(mean_square, np.finfo(np.float32).tiny)


def _weighted_sum(objective: Objective) -> Any:
    graph, total = objective.graph, None
    for group in objective.groups:
        nodes = [term.node for term in objective.terms if term.group == group]
        value = nodes[0]
        for node in nodes[1:]:
            value = graph.add(value, node)
        value = graph.multiply(graph.input(group, (1, 1, 1, 1), kind="plain"), value)
        total = value if total is None else graph.add(total, value)
    return total
