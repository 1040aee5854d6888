"""Worker: one run of a network in depthstyle. Arguments: name, folder, threads, precision."""

from __future__ import annotations

import sys

import numpy as np
from network_problem import MOMENTS, Problem, architecture
from side_by_side import resident_peak, serve

from depthstyle import _core, networks
from depthstyle.weights import load

name, folder, threads, precision = *sys.argv[1:3], int(sys.argv[3]), sys.argv[4]
before = resident_peak()
problem = Problem(folder)
x = problem.input


def adain() -> _core.Plan:
    """Return encoder, AdaIN and decoder as one plan."""
    graph = _core.Graph()
    image = graph.input("x", x.shape)
    weights = load(problem.folder / "encoder.pth")
    features = networks.build("adain-encoder").add(graph, image, weights, ["relu4_1"])["relu4_1"]
    moments = graph.constant(np.load(problem.folder / MOMENTS))
    features = graph.adain(features, moments, epsilon=1e-5, unbiased=True)
    weights = load(problem.folder / "decoder.pth")
    picture = networks.build("adain-decoder").add(graph, features, weights, ["image"])["image"]
    return graph.compile([picture], threads=threads, precision=precision)


if name == "adain":
    plan = adain()

    def work() -> np.ndarray:
        """Run once."""
        return plan.run({"x": x})[0]
else:
    file = problem.folder / "weights.pth"
    net = networks.load(architecture(name), file, threads=threads, precision=precision)
    finest = [("disp", 0)] if name == "monodepth2" else None

    def work() -> np.ndarray:
        """Run once."""
        found = net(x, outputs=finest)
        return found if finest is None else found[finest[0]]


problem.check(work(), "bf16" if precision == "bf16" else "fp32")
serve(work, before)
