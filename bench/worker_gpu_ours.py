"""Worker: the parts of bench_gpu.py in depthstyle.

Arguments: precision, and for tests the library of the emulated backend.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace

import gpu_problem as problem
import numpy as np
from gpu_problem import CHECKED, Part
from gpu_worker import Work, serve

import depthstyle
from depthstyle import _core, devices, networks, objective, optimisers
from depthstyle.networks.midas_small import MIDAS_SMALL_DEPTH
from depthstyle.presets import Preset

PRECISION = sys.argv[1]
if sys.argv[2:]:
    _core.load_cuda(sys.argv[2])
ENGINE = objective.Engine("cuda", precision=PRECISION)


class Gatys:
    """The iterations of an optimisation."""

    def __init__(self, part: Part) -> None:
        self.weights = {"content": problem.CONTENT_WEIGHT, "style": 1.0}
        see = None
        if part.depth:
            self.weights["depth"] = problem.DEPTH_WEIGHT
            midas = MIDAS_SMALL_DEPTH.network
            arrays = midas.prepare(problem.weights("midas-small"))
            side = part.depth_side
            network = replace(MIDAS_SMALL_DEPTH, input_size=lambda h, w: (side, side))
            see = objective.DepthPerception(network, arrays, {network.output: 1})
        vgg = networks.build("vgg19")
        preset = Preset(
            balance=False, schedule=((0, problem.RATE),), optimizer=part.optimizer, scales=1
        )
        start = vgg.to_input(problem.start(part))
        made = objective.build_objective(
            objective.Perception(vgg, problem.weights("vgg19")),
            preset,
            start,
            problem.content(part),
            [objective.StyleTarget(problem.style(part))],
            content_masks=None,
            depth=see,
            extra={},
            weights=self.weights,
            engine=ENGINE,
        )
        if part.optimizer == "adam":
            ends = vgg.input_range()
            self.optimiser = optimisers.Adam(made, start, preset, *ends, ENGINE)
        else:
            self.optimiser = optimisers.Lbfgs(made, start, problem.HISTORY, ENGINE)
        self.losses: list[float] = []

    @property
    def bytes(self) -> int:
        """Device memory that it takes."""
        return self.optimiser.bytes

    def check(self) -> np.ndarray:
        """Return the losses of the first iterations."""
        self.run(max(0, CHECKED - len(self.losses)))
        return np.array(self.losses[:CHECKED])

    def run(self, count: int) -> None:
        """Do some iterations."""
        end = len(self.losses) + count
        while len(self.losses) < end:
            found = self.optimiser.step(self.weights, 0, end - len(self.losses))
            self.losses.extend(found[:, 0])


class Network:
    """A network on one input."""

    def __init__(self, part: Part) -> None:
        graph = _core.Graph()
        x = problem.network_input(part)
        image = graph.input("x", x.shape, kind="map")
        if part.kind == "adain":
            output = add_adain(graph, image)
        else:
            network = networks.build(part.kind)
            weights = network.prepare(problem.weights(part.kind))
            (name,) = network.returns or network.layers[-1:]
            output = network.add(graph, image, weights, [name])[name]
        self.planar = part.kind == "midas-small"
        self.plan = ENGINE.compile(graph, [output])
        self.fed = {"x": x}

    @property
    def bytes(self) -> int:
        """Device memory that it takes."""
        return self.plan.bytes

    def check(self) -> np.ndarray:
        """Return the output."""
        (output,) = self.plan.run()
        return output[:, 0] if self.planar else output

    def run(self, count: int) -> None:
        """Do some runs on the input that is there."""
        self.plan.repeat(count, self.fed)
        self.fed = {}


def add_adain(graph: _core.Graph, image: _core.Node) -> _core.Node:
    """Add encoder, AdaIN with the cached moments of a style, and decoder."""
    encoder, decoder = problem.adain_weights()
    features = networks.build("adain-encoder").features(graph, image, encoder, ["relu4_1"])
    moments = graph.constant(problem.style_moments())
    mixed = graph.adain(features["relu4_1"], moments, epsilon=problem.EPSILON, unbiased=True)
    return networks.build("adain-decoder").add(graph, mixed, decoder, ["image"])["image"]


SIDES = (256, 512, 1024)
COPIES = 10
"""Convolutions in a graph: a replay of one alone would be timed with its launch."""
TURNS = 9


def time_layers(request: dict) -> dict[str, object]:
    """Time each kind of convolution of VGG19 with its ends, forward and backward."""
    if request["tiny"]:
        return {"layers": [time_layer("conv1_1", 3, 64, problem.TINY, copies=1)]}
    rows = []
    for side in SIDES:
        inputs = 3
        for block, width in enumerate(problem.seeded.VGG_WIDTHS, start=1):
            for name in (f"conv{block}_1", f"conv{block}_2")[: 1 if block == 5 else 2]:
                rows.append(time_layer(name, inputs, width, side >> (block - 1)))
                inputs = width
    return {"layers": rows}


def time_layer(
    name: str, inputs: int, width: int, side: int, copies: int = COPIES
) -> dict[str, object]:
    """Return the seconds of a 3x3 convolution, and what it computes and moves at least."""
    random = np.random.default_rng(3)
    x, y = (
        random.standard_normal((1, channels, side, side), np.float32)
        for channels in (inputs, width)
    )
    shape = (copies, width, inputs, 3, 3)
    weights = random.standard_normal(shape, np.float32) / np.float32(3 * inputs**0.5)
    element = 2 if PRECISION == "bf16" else 4
    moved = (x.size * (4 if inputs == 3 else element)) + element * (y.size + weights[0].size)
    return {
        "layer": name,
        "side": side,
        "flop": 2 * weights[0].size * side * side,
        "forward": time_forward(x, weights),
        "forward bytes": moved,
        "backward": time_backward(x, y, weights),
        # The ReLU's gate is read too; the picture has none.
        "backward bytes": moved + (0 if inputs == 3 else element * x.size),
    }


def time_forward(x: np.ndarray, weights: np.ndarray) -> float:
    """Return the seconds of a convolution with bias and ReLU."""
    graph = _core.Graph()
    image = graph.input("x", x.shape, kind="map")
    bias = graph.constant(np.full((1, weights.shape[1], 1, 1), 0.1, np.float32))
    maps = [graph.conv2d(image, graph.constant(weight), bias, pad=1) for weight in weights]
    return time_plan(graph, [graph.activation(y, kind="relu") for y in maps], {"x": x})


def time_backward(x: np.ndarray, dy: np.ndarray, weights: np.ndarray) -> float:
    """Return the seconds of a convolution's gradient and the gate of the ReLU before it."""
    graph = _core.Graph()
    gradient = graph.input("dy", dy.shape, kind="map")
    size = {"h": x.shape[2], "w": x.shape[3]}
    found = [
        graph.conv2d_backward_input(gradient, graph.constant(weight), pad=1, **size)
        for weight in weights
    ]
    if x.shape[1] == 3:
        return time_plan(graph, found, {"dy": dy})
    gate = graph.input("x", x.shape, kind="map")
    found = [graph.activation_backward(node, gate, kind="relu") for node in found]
    return time_plan(graph, found, {"dy": dy, "x": x})


def time_plan(graph: _core.Graph, outputs: list[_core.Node], fed: dict[str, np.ndarray]) -> float:
    """Return the median seconds of one of the outputs."""
    plan = ENGINE.compile(graph, outputs)
    plan.repeat(1, fed)
    begin = time.perf_counter()
    plan.repeat(2)
    count = max(1, round(0.01 / (time.perf_counter() - begin)))
    turns = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        plan.repeat(count)
        turns.append((time.perf_counter() - begin) / (count * len(outputs)))
    return statistics.median(turns)


def make(part: Part) -> Work:
    """Return a part, ready to run."""
    return (Gatys if part.kind == "gatys" else Network)(part)


def describe(request: dict) -> dict[str, object]:
    """Return versions."""
    versions = {"depthstyle": depthstyle.__version__}
    if not sys.argv[2:]:
        versions["cuDNN"] = devices.cudnn_text(devices.load_cudnn().version)
    return versions


if __name__ == "__main__":
    serve(make, {"describe": describe, "layers": time_layers})
