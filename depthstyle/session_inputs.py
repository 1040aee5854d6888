"""What a `Session` is given, made ready."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import networks
from depthstyle.images import as_image, resize, scaled_size
from depthstyle.objective import DepthPerception, style_groups
from depthstyle.presets import Preset, check_count
from depthstyle.weights.depth_choice import choose_depth

Array = NDArray[np.float32]
WeightsSource = networks.Weights | str | os.PathLike[str]


def see_depth(preset: Preset, weights: WeightsSource | None) -> DepthPerception | None:
    """Return what the depth loss compares, or None where there is none."""
    if preset.depth_loss is None or preset.depth_weight == 0:
        if weights is not None:
            raise ValueError("depth_network_weights: there is no depth loss; give depth_loss")
        return None
    chosen = choose_depth(weights, preset.depth_network)
    outputs = preset.depth_outputs(chosen.network)
    return DepthPerception(chosen.network, chosen.arrays, outputs, chosen.origin)


def as_styles(styles: ArrayLike | Sequence[ArrayLike]) -> list[Array]:
    """Return one style picture or several as a list."""
    several = isinstance(styles, list | tuple) and len(styles) > 0 and np.ndim(styles[0]) > 1
    listed: list[Any] = list(styles) if several else [styles]
    names = style_groups(len(listed))
    return [as_image(style, name) for style, name in zip(listed, names, strict=True)]


def as_list(masks: Any, count: int) -> list[Any]:
    """Return one mask for each style."""
    several = isinstance(masks, list | tuple)
    listed = list(masks) if several else [masks] * count
    if len(listed) != count:
        raise ValueError(
            f"style_masks: {len(listed)} masks for {count} styles; give one for each, None for "
            "everywhere"
        )
    return listed


def fit(content: Array, size: int | None) -> Array:
    """Resize a photograph to the length of its longer side, where one is given."""
    if size is None:
        return content
    check_count("size", size)
    return resize(content, scaled_size(*content.shape[:2], longest=size))
