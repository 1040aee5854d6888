"""Worker: one Gatys iteration in depthstyle.

Arguments: size, threads, precision, and problem: "no", "style" or "content" masks, "depth" with a
depth loss, or "network" for forward and backward without losses.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gatys_problem import CONTENT, PLAN, STYLES, picture, weights
from side_by_side import resident_peak, serve

from depthstyle import _core

size, threads, precision, problem = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
before = resident_peak()
arrays = weights()


def add_features(graph: _core.Graph, x: _core.Node) -> dict[str, _core.Node]:
    """Add the network and return its tapped feature maps."""
    found = {}
    layers = iter(arrays)
    for name in PLAN:
        if name == "pool":
            x = graph.max_pool(x)
            continue
        w, b = next(layers)
        bias = graph.constant(b.reshape(1, -1, 1, 1))
        x = graph.activation(graph.conv2d(x, graph.constant(w), bias, pad=1), kind="relu")
        found[name] = x
    return found


def mask(node: _core.Node) -> np.ndarray:
    """Return a mask of the map's size, from 0.2 at the left to 1 at the right."""
    height, width = node.shape[2:]
    return np.float32(np.tile(np.linspace(0.2, 1, width), (height, 1)))[None, None]


def targets(seed: int, names: tuple[str, ...], gram: bool) -> list[np.ndarray]:
    """Return feature maps or Gram matrices of a picture."""
    graph = _core.Graph()
    found = add_features(graph, graph.input("image", (1, 3, size, size)))
    nodes = [
        graph.gram(found[n], scale=1 / np.prod(found[n].shape[2:])) if gram else found[n]
        for n in names
    ]
    plan = graph.compile(nodes, threads=threads, precision=precision)
    return plan.run({"image": picture(size, seed)})


def add_losses(graph: _core.Graph, found: dict[str, _core.Node]) -> _core.Node:
    """Add the content and style losses and return their sum."""
    (content,) = targets(1, (CONTENT,), gram=False)
    grams = targets(2, STYLES, gram=True)
    weight = graph.constant(mask(found[CONTENT])) if problem == "content" else None
    target = graph.constant(content, kind="map")
    total = graph.feature_loss(found[CONTENT], target, weight, scale=1 / content.size)
    for name, matrix in zip(STYLES, grams, strict=True):
        weight = graph.constant(mask(found[name])) if problem == "style" else None
        gram = graph.gram(found[name], weight, scale=1 / np.prod(found[name].shape[2:]))
        loss = graph.feature_loss(gram, graph.constant(matrix), scale=1 / matrix.size)
        total = graph.add(total, loss)
    return graph.add(total, add_depth_loss(graph)) if problem == "depth" else total


def add_depth_loss(graph: _core.Graph) -> _core.Node:
    """Add the depth loss of MiDaS small, at its own input size, with the tests' seeded weights."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    import depth_weights

    from depthstyle import losses, networks
    from depthstyle.engine import Engine
    from depthstyle.networks.midas_small import MIDAS_SMALL_DEPTH
    from depthstyle.objective import DepthPerception

    weights = MIDAS_SMALL_DEPTH.network.prepare(depth_weights.weights("midas-small"))
    output = MIDAS_SMALL_DEPTH.output
    depth = DepthPerception(MIDAS_SMALL_DEPTH, weights, {output: 1.0})
    vgg = networks.build("vgg19")
    seen = depth.add(graph, vgg.add_rgb(graph, image))[output]
    engine = Engine("cpu", threads, precision)
    target = depth.targets(vgg.from_input(picture(size, 1)), engine)[output]
    return losses.depth_loss(graph, seen, target)


graph = _core.Graph()
image = graph.input("image", (1, 3, size, size))
found = add_features(graph, image)
total = graph.sum_to(found[PLAN[-1]]) if problem == "network" else add_losses(graph, found)
(gradient,) = graph.gradient(total, [image])
plan = graph.compile([total, gradient], threads=threads, precision=precision, check=[total])
x = picture(size, 3)
serve(lambda: plan.run({"image": x}), before)
