"""What a network is: a function that adds its nodes to a graph, and how to feed it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import WeightsError

Weights = Mapping[str, NDArray[Any]]
"""Arrays under their published keys."""

Name = Hashable
"""What an output is called: a string (``"relu4_1"``) or what the module uses, ``("disp", 0)``."""


class ConvNorm(NamedTuple):
    """What the keys of a convolution, and of the batch norm after it, begin with."""

    conv: str
    norm: str
    affine: bool = True
    """The norm has a gamma and a beta."""


class Owned(dict[str, NDArray[Any]]):
    """Arrays under their published keys that nobody else wants; what takes them may empty it."""


class Prepared(dict[str, NDArray[Any]]):
    """Weights that a network has prepared: `prepare` leaves them as they are."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A published network: what its module takes and returns, and how its nodes are added.

    Attributes
    ----------
    name : str
        Its name in the registry.
    layers : tuple of str or tuple
        The outputs that can be asked for, in the order in which `add_layers` makes them.
    add_layers : callable
        ``add_layers(graph, x, weights, last)`` adds the nodes up to the output `last` and returns
        the node of each output on the way by its name.
    aliases : mapping of str to str
        Other published names (``features.1``) and the name in `layers` of each.
    returns : tuple of str or tuple, optional
        The outputs that the module returns, as a dict by name. By default it returns the last of
        `layers` alone.
    channels : int or str
        Channels of its input; or the key of the weight (O, I, k, k) whose I they are.
    multiple : int
        Height and width of the input are multiples of this.
    smallest : int or callable
        Least height and width of the input; or ``smallest(weights)``.
    recognise : callable
        ``recognise(weights)`` tells whether arrays have the network's published keys.
    prepare : callable
        ``prepare(weights)`` turns the published arrays into those that `add_layers` takes; for
        arrays that were prepared already it returns them. `fold_batch_norms` is one.
    planar : bool
        The module leaves the one channel of its output out: it returns (N, H, W).
    files : tuple of str
        What its published files are called, where they are more than one.
    """

    name: str
    layers: tuple[Name, ...]
    add_layers: Callable[..., dict[Name, Any]]
    recognise: Callable[[Weights], bool]
    aliases: Mapping[str, str] = field(default_factory=dict)
    returns: tuple[Name, ...] = ()
    channels: int | str = 3
    multiple: int = 1
    smallest: int | Callable[[Weights], int] = 1
    prepare: Callable[[Weights], Weights] = lambda weights: weights
    planar: bool = False
    files: tuple[str, ...] = ()

    def layer(self, name: Name) -> Name:
        """Return the name in `layers` of an output.

        Raises
        ------
        ValueError
            The network has no such output.
        """
        canonical = self.aliases.get(name, name) if isinstance(name, str) else name
        if canonical not in self.layers:
            raise ValueError(
                f"layer {name!r}: {self.name} has none of that name; choose from "
                f"{', '.join(map(str, self.layers))}"
            )
        return canonical

    def input_channels(self, weights: Weights) -> int:
        """Return the number of channels of the input.

        Raises
        ------
        WeightsError
            The weights lack the key that says it.
        """
        if isinstance(self.channels, int):
            return self.channels
        return take(weights, self.channels, (None,) * 4).shape[1]

    def minimum_size(self, names: Iterable[Name], weights: Weights) -> int:
        """Return the smallest height and width of an input for which the outputs have a pixel."""
        return self.smallest if isinstance(self.smallest, int) else self.smallest(weights)

    def add(
        self, graph: Any, x: Any, weights: Weights, names: Iterable[Name], **options: Any
    ) -> dict[Name, Any]:
        """Add the network's nodes to a graph, up to the deepest of the asked outputs.

        Parameters
        ----------
        graph : Graph
            Gets the nodes.
        x : Node (N, C, H, W)
            The input of the published module.
        weights : mapping of str to array
            The weights under their published keys; those of deeper layers may be missing.
        names : iterable of str or tuple
            The wanted outputs; published aliases are accepted.
        **options
            Go to `add_layers`.

        Returns
        -------
        dict of str or tuple to Node
            Each asked output under the name that it was asked by.

        Raises
        ------
        ValueError
            An unknown name.
        WeightsError
            A key is missing or has another shape.
        """
        wanted = {name: self.layer(name) for name in names}
        last = max(wanted.values(), key=self.layers.index)
        outputs = self.add_layers(graph, x, self.prepare(weights), last, **options)
        return {name: outputs[canonical] for name, canonical in wanted.items()}


def take(weights: Weights, key: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return one array of the weights after checking it.

    Parameters
    ----------
    weights : mapping of str to array
        The weights under their published keys.
    key : str
        The wanted key.
    shape : tuple of int or None
        The expected shape; None takes any number.

    Raises
    ------
    WeightsError
        The key is missing or its array has another shape.
    """
    if key not in weights:
        some = ", ".join(list(weights)[:3]) or "nothing"
        raise WeightsError(f"{key}: missing from the weights, which begin with {some}")
    array = weights[key]
    matches = len(array.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not matches:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise WeightsError(f"{key}: shape {tuple(array.shape)}, expected ({expected})")
    return array


def add_conv(
    graph: Any,
    x: Any,
    weights: Weights,
    key: str,
    channels: int | None,
    kernel: int,
    *,
    bias: bool = True,
    groups: int = 1,
    **attributes: Any,
) -> Any:
    """Add a convolution of `key`.weight (O, I / groups, k, k) and, unless told, `key`.bias (O,).

    Parameters
    ----------
    graph : Graph
        Gets the node.
    x : Node (N, I, H, W)
        The input.
    weights : mapping of str to array
        Holds the two arrays.
    key : str
        What their keys begin with.
    channels : int or None
        The expected O; None takes any.
    kernel : int
        The expected k.
    bias : bool, optional
        False where the convolution has none.
    groups : int, optional
        Groups of channels that do not see each other.
    **attributes
        ``stride``, ``pad`` and ``pad_mode`` of the op conv2d.

    Raises
    ------
    WeightsError
        A key is missing or has another shape.
    """
    weight = take(weights, f"{key}.weight", (channels, x.shape[1] // groups, kernel, kernel))
    inputs = [x, graph.constant(_real(weight), name=f"{key}.weight")]
    if bias:
        values = take(weights, f"{key}.bias", (weight.shape[0],))
        inputs.append(graph.constant(_real(values).reshape(1, -1, 1, 1), name=f"{key}.bias"))
    return graph.conv2d(*inputs, groups=groups, **attributes)


def add_same_conv(
    graph: Any, x: Any, weights: Weights, key: str, kernel: int, stride: int, **options: Any
) -> Any:
    """Add a convolution with TensorFlow's SAME padding; see `add_conv`.

    A side of n pixels becomes one of ceil(n / stride); the far border is the wider one.
    """
    top, bottom = _same_border(x.shape[2], kernel, stride)
    left, right = _same_border(x.shape[3], kernel, stride)
    pad = top
    if not top == bottom == left == right:
        x = graph.pad(x, top=top, bottom=bottom, left=left, right=right, mode="zero")
        pad = 0
    return add_conv(graph, x, weights, key, None, kernel, stride=stride, pad=pad, **options)


def _same_border(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def fold_batch_norms(
    weights: Weights, pairs: Iterable[ConvNorm], epsilon: float = 1e-5
) -> Prepared:
    """Make each batch norm part of the convolution before it.

    gamma (w * x + b - mean) / sqrt(var + epsilon) + beta is the convolution with the weight s w
    and the bias s (b - mean) + beta, where s = gamma / sqrt(var + epsilon). It is computed in
    float64.

    Parameters
    ----------
    weights : mapping of str to array
        The weights under their published keys; returned as they are if they were folded before.
    pairs : iterable of ConvNorm
        Each convolution and its norm.
    epsilon : float, optional
        That of the norms.

    Returns
    -------
    Prepared
        A new mapping without the norms, in which each of the convolutions has a bias.

    Raises
    ------
    WeightsError
        A key is missing or has another shape, or a variance is negative.
    """
    if isinstance(weights, Prepared):
        return weights
    folded = Prepared(weights)
    if isinstance(weights, Owned):
        weights.clear()  # so that each array goes as soon as it is folded
    for conv, norm, affine in pairs:
        weight = take(folded, f"{conv}.weight", (None,) * 4)
        outputs = weight.shape[:1]
        mean, var = (
            take(folded, f"{norm}.{part}", outputs).astype(np.float64)
            for part in ("running_mean", "running_var")
        )
        if (var < 0).any():
            raise WeightsError(f"{norm}.running_var: has negative values; the file is damaged")
        scale = 1 / np.sqrt(var + epsilon)
        shift = -mean * scale
        if f"{conv}.bias" in folded:
            shift += take(folded, f"{conv}.bias", outputs) * scale
        if affine:
            gamma, beta = (take(folded, f"{norm}.{part}", outputs) for part in ("weight", "bias"))
            scale, shift = scale * gamma, shift * gamma + beta
        folded[f"{conv}.weight"] = (weight * scale[:, None, None, None]).astype(weight.dtype)
        folded[f"{conv}.bias"] = shift.astype(weight.dtype)
        for part in ("running_mean", "running_var", "weight", "bias"):
            folded.pop(f"{norm}.{part}", None)
    return folded


def _real(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32)
