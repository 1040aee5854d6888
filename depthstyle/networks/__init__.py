"""The published networks, one per file.

`build` gives a network by its name, `identify` tells which network some weights belong to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from depthstyle.engine import Engine
from depthstyle.errors import WeightsError
from depthstyle.networks import hourglass, monodepth2
from depthstyle.networks.adain import ADAIN_DECODER, ADAIN_ENCODER
from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.feature_network import FeatureNetwork
from depthstyle.networks.hourglass import HOURGLASS
from depthstyle.networks.johnson import JOHNSON
from depthstyle.networks.loaded import LoadedNetwork
from depthstyle.networks.midas_large import MIDAS_LARGE, MIDAS_LARGE_DEPTH
from depthstyle.networks.midas_small import MIDAS_SMALL, MIDAS_SMALL_DEPTH
from depthstyle.networks.monodepth2 import MONODEPTH2
from depthstyle.networks.network import Network, Owned, Weights
from depthstyle.networks.pydnet import PYDNET, PYDNET_DEPTH
from depthstyle.networks.squeezenet import SQUEEZENET1_1
from depthstyle.networks.vgg import ENCODER, VGG16, VGG19, VGG19_CAFFE

__all__ = [
    "FeatureNetwork",
    "LoadedNetwork",
    "Network",
    "Weights",
    "build",
    "depth_network",
    "identify",
    "load",
    "names",
]

_NETWORKS = {
    network.name: network
    for network in (
        ENCODER,
        VGG16,
        VGG19,
        VGG19_CAFFE,
        SQUEEZENET1_1,
        JOHNSON,
        ADAIN_ENCODER,
        ADAIN_DECODER,
        MONODEPTH2,
        MIDAS_SMALL,
        MIDAS_LARGE,
        HOURGLASS,
        PYDNET,
    )
}

_DEPTH_NETWORKS: dict[str, Callable[[Weights], DepthNetwork]] = {
    MONODEPTH2.name: monodepth2.depth_network,
    MIDAS_SMALL.name: lambda weights: MIDAS_SMALL_DEPTH,
    MIDAS_LARGE.name: lambda weights: MIDAS_LARGE_DEPTH,
    HOURGLASS.name: hourglass.depth_network,
    PYDNET.name: lambda weights: PYDNET_DEPTH,
}
"""What each depth network is, by the name of its module and the weights."""


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
        with any number of channels, such as the network that is part of the package;
        ``"johnson"`` is a transformation network in any of its published forms;
        ``"adain-encoder"`` and ``"adain-decoder"`` take those of Huang and Belongie in PyTorch's
        and in Torch7's form; ``"monodepth2"``, ``"midas-small"``, ``"midas-large"``,
        ``"hourglass"`` and ``"pydnet"`` estimate depth.

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
    for network in _NETWORKS.values():
        if network.recognise(weights):
            return network
    found = ", ".join(list(weights)[:3]) or "nothing"
    raise WeightsError(
        f"weights: no known network has keys such as {found}; known are {', '.join(_NETWORKS)}"
    )


def depth_network(weights: Weights) -> DepthNetwork:
    """Return the depth network whose published keys the weights have.

    Parameters
    ----------
    weights : mapping of str to array
        The weights under their published keys, and those beside them: the encoder of monodepth2
        says at which size the network sees pictures.

    Returns
    -------
    DepthNetwork

    Raises
    ------
    WeightsError
        They belong to no depth network.
    """
    network = identify(weights)
    if network.name not in _DEPTH_NETWORKS:
        raise WeightsError(
            f"weights: those of {network.name}, which estimates no depth; give those of "
            f"{', '.join(_DEPTH_NETWORKS)}"
        )
    return _DEPTH_NETWORKS[network.name](weights)


def load(
    name: str,
    *files: str | os.PathLike[str] | Weights,
    threads: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
) -> LoadedNetwork:
    """Return a network with its weights, to be called on arrays.

    Parameters
    ----------
    name : str
        What `build` takes.
    *files : path or mapping of str to array
        The published files in any format that `depthstyle.weights.open` reads, or their arrays.
    threads : int, optional
        Number of threads; by default what the engine is set to.
    device : str, optional
        What computes: ``"auto"`` is the first GPU where there is one and the CPU otherwise,
        ``"cuda"`` and ``"cuda:1"`` ask for a GPU, ``"cpu"`` for the CPU.
    precision : {"fp32", "auto", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`. Unlike the methods' the default is ``"fp32"``:
        outputs and gradients as exact as the published module's.

    Returns
    -------
    LoadedNetwork
        ``net(x)`` gives what the published module gives, and ``net.gradient(x, dy)`` the gradient.

    Raises
    ------
    ValueError
        The name, the device or the precision is unknown, or no file is given.
    BackendUnavailable
        That GPU cannot be used.
    WeightsError
        A file cannot be read, two hold the same array, or they do not hold the network's arrays.

    Examples
    --------
    >>> net = load("vgg19", "vgg19-dcbb9e9d.pth")  # doctest: +SKIP
    >>> net(x, outputs=["features.20"])["features.20"].shape  # doctest: +SKIP
    (1, 512, 28, 28)
    """
    from depthstyle.weights import load_all

    network = build(name)
    if not files:
        raise ValueError(f"files: give {' and '.join(network.files) or 'the file'} of {name}")
    engine = Engine(device, threads, precision)
    arrays = Owned(load_all(files, without="classifier."))
    try:
        return LoadedNetwork(network, arrays, engine)
    except WeightsError as error:
        paths = ", ".join(str(file) for file in files if not isinstance(file, Mapping))
        if not paths:
            raise
        needs = f"; it takes {' and '.join(network.files)}" if network.files else ""
        raise WeightsError(f"{paths}: not the weights of {name}{needs}; {error}") from error
