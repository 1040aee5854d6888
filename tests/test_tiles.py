"""Convolutions and Gram matrices on bf16 tiles, on the levels that this processor has."""

import numpy as np
import pytest
from levels import BF16_LEVELS
from tile_cases import CONVOLUTIONS, ENDS, GRAMS, gram, network, pooled

from depthstyle import _core

LEVELS = [level for level in _core.cpu_levels() if level in BF16_LEVELS]

if not LEVELS:
    pytest.skip("this processor has no instructions for bf16", allow_module_level=True)


def check(network, level: str) -> None:
    """Compare with the definition, with one thread and with several."""
    graph, outputs, feed = network
    expected = graph.compile(outputs, backend="ref", precision="bf16").run(feed)
    for threads in (1, 3):
        options = {"cpu_level": level, "threads": threads, "precision": "bf16", "poison": True}
        plan = graph.compile(outputs, **options)
        if "tiles" not in plan.dump():
            pytest.skip(f"{level} has a faster kernel for this one")
        for found, wanted in zip(plan.run(feed), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, level):
    check(network(CONVOLUTIONS[name]), level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["strided", "1x1 where it lies", "large kernel"])
def test_beginnings_and_ends(name, end, level):
    check(network(CONVOLUTIONS[name], end), level)


@pytest.mark.parametrize("level", LEVELS)
def test_weights_that_are_inputs(level):
    check(network(CONVOLUTIONS["strided"], constant=False), level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["strided", "1x1 with a tail", "large kernel"])
def test_gradients_of_pools(name, level):
    check(pooled(CONVOLUTIONS[name]), level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sizes", GRAMS)
def test_gram(sizes, level):
    check(gram(*sizes), level)
