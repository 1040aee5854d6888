"""The published networks whose feature maps the losses compare, one per file.

`build` gives a network by its name, `identify` tells which network some weights belong to.
"""

from __future__ import annotations

from depthstyle.errors import WeightsError
from depthstyle.networks.network import Network, Weights
from depthstyle.networks.squeezenet import SQUEEZENET1_1
from depthstyle.networks.vgg import ENCODER, VGG16, VGG19, VGG19_CAFFE

__all__ = ["Network", "Weights", "build", "identify", "names"]

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
