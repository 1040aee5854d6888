"""The float64 reference against results of PyTorch and Pillow, in golden/ops.npz (make_ops.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

from depthstyle import _core

GOLDEN = np.load(Path(__file__).with_name("golden") / "ops.npz")
CASES = list(enumerate(json.loads(str(GOLDEN["cases"]))))
# Both sides sum at most some hundred float64 products of order one.
ERROR = 1e-12
# Pillow rounds its weights, below 1.5, to float32; a pixel sums them over two sides.
PILLOW_ERROR = 16 * 2.0**-24


@pytest.mark.parametrize("number, case", CASES, ids=[f"{i}-{case['op']}" for i, case in CASES])
def test_reference_agrees_with_pytorch(number, case):
    graph = _core.Graph()
    feed = {f"x{i}": GOLDEN[f"{number}/x{i}"] for i in range(len(case["kinds"]))}
    nodes = [
        graph.input(name, array.shape, kind=kind)
        for (name, array), kind in zip(feed.items(), case["kinds"], strict=True)
    ]
    y = getattr(graph, case["op"])(*nodes, **case["attrs"])
    weight = graph.input("weight", y.shape, kind=y.kind)
    loss = graph.sum_to(graph.multiply(y, weight))
    wrt = [i for i in range(len(nodes)) if f"{number}/g{i}" in GOLDEN]
    gradients = graph.gradient(loss, [nodes[i] for i in wrt])
    plan = graph.compile([y, *gradients], backend="ref", dtype="float64")
    found = plan.run({**feed, "weight": GOLDEN[f"{number}/r"]})
    error = PILLOW_ERROR if case["attrs"].get("antialias") else ERROR
    for name, array in zip(["y", *(f"g{i}" for i in wrt)], found, strict=True):
        expected = GOLDEN[f"{number}/{name}"]
        assert array.shape == expected.shape
        assert np.abs(array - expected).max() <= error * (1 + np.abs(expected).max()), name
