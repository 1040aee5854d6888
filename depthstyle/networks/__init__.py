"""The published networks whose feature maps the losses compare, one per file.

`build` gives a network by its name, `identify` tells which network some weights belong to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from depthstyle.errors import WeightsError
from depthstyle.networks.loaded import LoadedNetwork
from depthstyle.networks.network import Network, Weights
from depthstyle.networks.squeezenet import SQUEEZENET1_1
from depthstyle.networks.vgg import ENCODER, VGG16, VGG19, VGG19_CAFFE

__all__ = ["LoadedNetwork", "Network", "Weights", "build", "identify", "load", "names"]

_NETWORKS = {
    network.name: network for network in (ENCODER, VGG16, VGG19, VGG19_CAFFE, SQUEEZENET1_1)
}


def names() -> tuple[str, ...]:
    """Return the names that `build` knows."""
    return tuple(_NETWORKS)


def build(name: str) -> Network:
    """Return a network by its name.

    Parameters
    ----------
    name : str
        ``"vgg16"``, ``"vgg19"`` and ``"squeezenet1_1"`` take torchvision's keys and input range,
        ``"vgg19-caffe"`` those of the original Caffe model; ``"encoder"`` is VGG19 up to relu4_1
        with any number of channels, such as the network that is part of the package.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        The name is unknown.
    """
    if name not in _NETWORKS:
        raise ValueError(f"network {name!r}: unknown; choose from {', '.join(_NETWORKS)}")
    return _NETWORKS[name]


def identify(weights: Weights) -> Network:
    """Return the network whose published keys and shapes the weights have.

    Parameters
    ----------
    weights : mapping of str to array
        The weights under their published keys.

    Returns
    -------
    Network

    Raises
    ------
    WeightsError
        They belong to no network that is known here.
    """
    if "conv1_1.weight" in weights:
        return VGG19_CAFFE
    if "features.3.squeeze.weight" in weights:
        return SQUEEZENET1_1
    first = weights.get("features.0.weight")
    if first is None:
        found = ", ".join(list(weights)[:3]) or "nothing"
        raise WeightsError(
            f"weights: no known network has keys such as {found}; known are {', '.join(_NETWORKS)}"
        )
    if first.shape[0] != 64:
        return ENCODER
    return VGG19 if "features.16.weight" in weights else VGG16


def load(
    name: str, weights: str | os.PathLike[str] | Weights, *, threads: int | None = None
) -> LoadedNetwork:
    """Return a network with its weights, to be called on arrays.

    Parameters
    ----------
    name : str
        What `build` takes.
    weights : path or mapping of str to array
        The published file in any format that `depthstyle.weights.open` reads, or its arrays.
    threads : int, optional
        Number of threads; by default what the engine is set to.

    Returns
    -------
    LoadedNetwork
        ``net(x)`` gives feature maps and ``net.gradient(x, dy)`` the gradient.

    Raises
    ------
    ValueError
        The name is unknown.
    WeightsError
        The file cannot be read, or does not hold the network's arrays.

    Examples
    --------
    >>> net = load("vgg19", "vgg19-dcbb9e9d.pth")  # doctest: +SKIP
    >>> net(x, outputs=["features.20"])["features.20"].shape  # doctest: +SKIP
    (1, 512, 28, 28)
    """
    from depthstyle.weights import load as load_weights

    network = build(name)
    if isinstance(weights, Mapping):
        return LoadedNetwork(network, weights, threads=threads)
    try:
        return LoadedNetwork(network, load_weights(weights, without="classifier."), threads=threads)
    except WeightsError as error:
        if str(weights) in str(error):
            raise
        raise WeightsError(f"{weights}: not the weights of {name}; {error}") from error
