"""What is behind `depthstyle.kernels`: checked arguments, and small compiled graphs to run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import _core
from depthstyle.errors import NumericalError

Array = NDArray[np.floating[Any]]

# From arguments to (N, C, H, W) arrays ----------------------------------------------------------


def as_real(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array of finite real numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: dtype {array.dtype} holds no real numbers; convert it")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: has NaN or infinite values; replace them")
    return array


def as_maps(values: ArrayLike, name: str, dtype: np.dtype[Any] | None = None) -> Array:
    """Return a batch of maps in `dtype`, or in float64 or float32 as it comes."""
    array = as_real(values, name)
    if array.ndim not in (3, 4) or array.size == 0:
        raise ValueError(
            f"{name}: has shape {array.shape}; it must be (C, H, W) or (N, C, H, W), none of them 0"
        )
    wanted = dtype or (np.float64 if array.dtype == np.float64 else np.float32)
    return array.reshape((1, *array.shape)[-4:]).astype(wanted, copy=False)


def as_pair(features: ArrayLike, target: ArrayLike) -> list[Array]:
    """Return two batches of maps of one shape."""
    x = as_maps(features, "features")
    p = as_maps(target, "target", x.dtype)
    if np.shape(target) != np.shape(features):
        raise ValueError(
            f"target: has shape {np.shape(target)}; it must be that of features, "
            f"{np.shape(features)}"
        )
    return [x, p]


def as_mask(values: ArrayLike, x: Array, name: str) -> Array:
    """Return a weight per pixel of x, (1 or N, 1, H, W)."""
    array = as_real(values, name)
    n, _, h, w = x.shape
    if array.shape not in ((h, w), (1, h, w), (1, 1, h, w), (n, 1, h, w)):
        raise ValueError(
            f"{name}: has shape {array.shape}; it must be {(h, w)} or {(n, 1, h, w)}: resize it "
            f"to the maps"
        )
    return array.reshape(-1, 1, h, w).astype(x.dtype, copy=False)


def as_style_mask(values: ArrayLike, x: Array) -> Array:
    """Return a mask whose eta is not 0."""
    mask = as_mask(values, x, "mask")
    if not mask.mean((1, 2, 3), dtype=np.float64).all():
        raise ValueError("mask: has the mean 0, by which the Gram matrix is divided; widen it")
    return mask


def as_adain_inputs(
    content: ArrayLike, style: ArrayLike, strength: ArrayLike | None
) -> list[Array]:
    """Return content, style and, where there is one, the strength map."""
    x = as_maps(content, "content")
    s = as_maps(style, "style", x.dtype)
    if s.shape[1] != x.shape[1] or s.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"style: has shape {np.shape(style)}; it must have the {x.shape[1]} channels of "
            f"content, and one picture or {x.shape[0]}"
        )
    if strength is None:
        return [x, s]
    if np.ndim(strength) == 0:
        strength = np.full(x.shape[2:], strength)
    return [x, s, as_mask(strength, x, "strength")]


def as_number(value: float, name: str) -> float:
    """Return one finite number."""
    if np.ndim(value) != 0:
        raise ValueError(f"{name}: has shape {np.shape(value)}; it must be one number")
    as_real(value, name)
    return float(value)


def as_pools(pool: int | Sequence[int], x: Array) -> list[int]:
    """Return one or several sides of pooling blocks that leave 3 x 3 of the maps x."""
    pools = np.atleast_1d(np.asarray(pool))
    if pools.ndim != 1 or pools.size == 0 or pools.dtype.kind not in "iu" or pools.min() < 1:
        raise ValueError(f"pool: {pool!r} must be a whole number from 1, or several")
    if 3 * int(pools.max()) > min(x.shape[2:]):
        raise ValueError(
            f"pool: {pools.max()} leaves less than 3 x 3 of {x.shape[2]} x {x.shape[3]} pixels; "
            f"use at most {min(x.shape[2:]) // 3}, or a larger picture"
        )
    return [int(p) for p in pools]


def as_gradient(
    gradient: ArrayLike, shape: tuple[int, ...], shown: tuple[int, ...] | None = None
) -> Array:
    """Return the gradient to a result of `shape`; N = 1 and single channels may be left out."""
    array = as_real(gradient, "gradient")
    n, c, h, w = shape
    allowed = {shape, (n, h, w) if c == 1 else shape, (c, h, w) if n == 1 else shape}
    if n == c == 1:
        allowed.add((h, w))
    if array.shape not in allowed:
        fit = shown or min(allowed, key=len)
        raise ValueError(f"gradient: has shape {array.shape}; it must be that of the result, {fit}")
    return array.reshape(shape)


def as_matrix_gradient(gradient: ArrayLike, x: Array) -> Array:
    """Return the gradient to the Gram matrices of x."""
    return as_gradient(gradient, (x.shape[0], 1, x.shape[1], x.shape[1]))


def as_scalar_gradient(gradient: float) -> Array:
    """Return the gradient to a loss."""
    return np.full((1, 1, 1, 1), as_number(gradient, "gradient"))


def drop_channel(result: Array, given: ArrayLike) -> Array:
    """Drop the channel, and the batch where the caller had none."""
    return result[0, 0] if np.ndim(given) == 3 else result[:, 0]


# From arrays to plans ---------------------------------------------------------------------------


class Program:
    """An op made ready to run, or with `wrt` its gradient to those inputs. One run at a time."""

    def __init__(
        self,
        op: str,
        shapes: tuple[tuple[int, ...], ...],
        dtype: str,
        settings: tuple[tuple[str, Any], ...],
        wrt: tuple[int, ...],
    ) -> None:
        graph = _core.Graph()
        inputs = [graph.input(str(i), shape) for i, shape in enumerate(shapes)]
        operands = list(inputs)
        if op == "adain":
            operands[1] = graph.moments(inputs[1], **dict(settings))
        result = getattr(graph, op)(*operands, **dict(settings))
        outputs = [result]
        if wrt:
            gradient = graph.input("gradient", result.shape, kind=result.kind)
            outputs = graph.gradient(graph.dot(result, gradient), [inputs[i] for i in wrt])
        backend = "ref" if dtype == "float64" else "cpu"
        self._plan = graph.compile(outputs, backend=backend, dtype=dtype)
        self._op = op
        self._lock = Lock()

    def __call__(self, inputs: Sequence[Array], **gradient: Array) -> list[Array]:
        """Run on arrays of the shapes given at the start."""
        arrays = {str(i): array for i, array in enumerate(inputs)}
        with self._lock:
            results = self._plan.run(arrays | gradient)
        if not all(np.isfinite(result).all() for result in results):
            raise NumericalError(f"{self._op}: the result overflows; scale the arrays down")
        return results


@lru_cache(maxsize=4)
def program(process: int, *key: Any) -> Program:
    """Compile, or find again. A plan belongs to its process: a fork does not copy its threads."""
    return Program(*key)


def forward(op: str, inputs: list[Array], **settings: Any) -> Array:
    """Return the result of an op."""
    key = tuple(x.shape for x in inputs), inputs[0].dtype.name, tuple(settings.items())
    return program(os.getpid(), op, *key, ())(inputs)[0]


def backward(
    op: str, gradient: Array, inputs: list[Array], wrt: tuple[int, ...] = (0,), **settings: Any
) -> list[Array]:
    """Return the gradients to the inputs of these numbers, given that to the result."""
    key = tuple(x.shape for x in inputs), inputs[0].dtype.name, tuple(settings.items())
    return program(os.getpid(), op, *key, wrt)(inputs, gradient=gradient)
