"""The hourglass of Chen et al. 2016, which MegaDepth of Li and Snavely uses too.

Four levels, one inside the other; each halves the map, sends it through inception modules, doubles
it again and adds what a second branch makes of the map before. An inception module joins a 1x1
branch and three branches of a 1x1 and a larger convolution along the channels. The module takes
RGB in [0, 1]. Chen's returns depth, MegaDepth's the logarithm of depth.

Keys are those of MegaDepth: numbers on the way through nested modules, from 0. Chen's Torch7 file
has the same modules, counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.network import (
    ConvNorm,
    Name,
    Network,
    Weights,
    add_conv,
    fold_batch_norms,
)

_NARROW, _WIDE = (3, 5, 7), (3, 7, 11)
"""Sizes of the larger convolutions of an inception module."""

_Modules = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Level:
    pooling: str
    before: _Modules
    """The inception modules between the pooling and the inner level."""
    after: _Modules
    skip: _Modules
    main: int
    """The place of the branch with the pooling: 0 or 1."""


_LEVELS = (
    _Level("max_pool", (_NARROW, _NARROW), (_NARROW, _WIDE), (_WIDE,), 0),
    _Level("max_pool", (_NARROW, _NARROW), (_NARROW, _NARROW), (_NARROW, _WIDE), 0),
    _Level("avg_pool", (_NARROW, _NARROW), (_NARROW, _WIDE), (_NARROW, _WIDE), 1),
    _Level("avg_pool", (_NARROW,) * 3, (), (_NARROW, _NARROW), 1),
)
"""From the outermost to the innermost."""

_STEM, _HOURGLASS, _HEAD = "0", "3", "4"


def _branches(path: str, level: _Level) -> tuple[str, str]:
    """Return the paths of the branch with the pooling and of the other."""
    return f"{path}.0.{level.main}", f"{path}.0.{1 - level.main}"


def _inceptions(path: str, levels: tuple[_Level, ...]) -> Iterator[str]:
    """Yield the path of every inception module."""
    level = levels[0]
    main, skip = _branches(path, level)
    for index in range(len(level.skip)):
        yield f"{skip}.{index}"
    first = 1 + len(level.before)
    for index in range(1, first):
        yield f"{main}.{index}"
    if levels[1:]:
        yield from _inceptions(f"{main}.{first}", levels[1:])
    for index in range(len(level.after)):
        yield f"{main}.{first + 1 + index}"


def _norms() -> Iterator[ConvNorm]:
    yield ConvNorm(_STEM, "1")
    for path in _inceptions(_HOURGLASS, _LEVELS):
        for branch in range(4):
            yield ConvNorm(f"{path}.{branch}.0", f"{path}.{branch}.1", affine=False)
            if branch > 0:
                yield ConvNorm(f"{path}.{branch}.3", f"{path}.{branch}.4", affine=False)


def _prepare(weights: Weights) -> Weights:
    if any(key.startswith("modules.") for key in weights):
        weights = {_from_torch7(key): array for key, array in weights.items()}
    return fold_batch_norms(weights, _norms())


def _from_torch7(key: str) -> str:
    return re.sub(r"modules\.(\d+)", lambda found: str(int(found[1]) - 1), key)


def _to_torch7(key: str) -> str:
    return re.sub(r"(\d+)", lambda found: f"modules.{int(found[1]) + 1}", key)


def _add_relu_conv(graph: Any, x: Any, weights: Weights, key: str, kernel: int) -> Any:
    x = add_conv(graph, x, weights, key, None, kernel, pad=kernel // 2)
    return graph.activation(x, kind="relu")


def _add_inceptions(
    graph: Any, x: Any, weights: Weights, path: str, modules: _Modules, first: int = 0
) -> Any:
    for index, kernels in enumerate(modules, start=first):
        key = f"{path}.{index}"
        parts = [_add_relu_conv(graph, x, weights, f"{key}.0.0", 1)]
        for branch, kernel in enumerate(kernels, start=1):
            reduced = _add_relu_conv(graph, x, weights, f"{key}.{branch}.0", 1)
            parts.append(_add_relu_conv(graph, reduced, weights, f"{key}.{branch}.3", kernel))
        x = graph.concat(*parts)
    return x


def _add_level(
    graph: Any, x: Any, weights: Weights, path: str, levels: tuple[_Level, ...], found: list[Any]
) -> Any:
    """Add a level and those inside it; `found` gets the map before each inner level."""
    level = levels[0]
    main, skip = _branches(path, level)
    _, _, h, w = x.shape
    other = _add_inceptions(graph, x, weights, skip, level.skip)
    x = getattr(graph, level.pooling)(x, kernel=2, stride=2)
    x = _add_inceptions(graph, x, weights, main, level.before, 1)
    found.append(x)
    inner = 1 + len(level.before)
    if levels[1:]:
        x = _add_level(graph, x, weights, f"{main}.{inner}", levels[1:], found)
    x = _add_inceptions(graph, x, weights, main, level.after, inner + 1)
    return graph.add(graph.resize(x, h=h, w=w, mode="nearest"), other)


_FEATURES = tuple(f"level_{number}" for number in range(1, 1 + len(_LEVELS)))
_OUTPUT = "depth"


def _add_layers(graph: Any, x: Any, weights: Weights, last: Name) -> dict[Name, Any]:
    x = _add_relu_conv(graph, x, weights, _STEM, 7)
    found: list[Any] = []
    x = _add_level(graph, x, weights, _HOURGLASS, _LEVELS, found)
    depth = add_conv(graph, x, weights, _HEAD, 1, 3, pad=1)
    return {**dict(zip(_FEATURES, found, strict=True)), _OUTPUT: depth}


_KEY = "3.0.0.1.0.0"

HOURGLASS = Network(
    name="hourglass",
    layers=(*_FEATURES, _OUTPUT),
    add_layers=_add_layers,
    recognise=lambda weights: (
        f"{_KEY}.weight" in weights or f"{_to_torch7(_KEY)}.weight" in weights
    ),
    prepare=_prepare,
    multiple=16,
    smallest=16,
)


def depth_network(weights: Weights) -> DepthNetwork:
    """Return Chen's depth network for the arrays of a Torch7 file, and MegaDepth for others."""
    return CHEN_DEPTH if f"{_to_torch7(_KEY)}.weight" in weights else MEGADEPTH


def _chen_size(h: int, w: int) -> tuple[int, int]:
    return 240, 320


def _megadepth_size(h: int, w: int) -> tuple[int, int]:
    return 384, 512


CHEN_DEPTH = DepthNetwork(
    network=HOURGLASS,
    input_size=_chen_size,
    output=_OUTPUT,
    features=_FEATURES,
    nearness=False,
    resize_in={"mode": "bilinear", "antialias": True},
    resize_out={"mode": "bilinear", "align_corners": True},
)

MEGADEPTH = DepthNetwork(
    network=HOURGLASS,
    input_size=_megadepth_size,
    output=_OUTPUT,
    features=_FEATURES,
    nearness=False,
    logarithmic=True,
    resize_in={"mode": "bilinear"},
    resize_out={"mode": "bilinear"},
)
