"""Which weights a method runs with, and what its recipe says of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from depthstyle import networks, weights
from depthstyle.errors import WeightsError
from depthstyle.networks import adain
from depthstyle.weights import cache

_BEST = "vgg19"
"""Takes the place of the embedded encoder, its small copy, where it is in the cache."""

_CLASSIFIER = "classifier."

_EYES, _HAND = "adain-encoder", "adain-decoder"

Source = Mapping[str, NDArray[Any]] | str | os.PathLike[str]


@dataclass(frozen=True)
class Choice:
    """Weights, the network that they belong to, and where they are from.

    Attributes
    ----------
    network : FeatureNetwork
    arrays : mapping of str to array
    origin : mapping of str to str, or None
        The name and SHA-256 of the file; None for arrays of the caller's.
    """

    network: networks.FeatureNetwork
    arrays: networks.Weights
    origin: Mapping[str, str] | None


@dataclass(frozen=True)
class AdainChoice:
    """Weights of AdaIN's two networks, and where they are from.

    Attributes
    ----------
    encoder, decoder : mapping of str to array
        Weights of the networks ``"adain-encoder"`` and ``"adain-decoder"``.
    origin : mapping of str to (mapping of str to str, or None)
        For ``"encoder"`` and ``"decoder"`` the name and SHA-256 of the file; None for arrays of
        the caller's.
    """

    encoder: networks.Weights
    decoder: networks.Weights
    origin: Mapping[str, Mapping[str, str] | None]


def choose(source: Source | None, network: str) -> Choice:
    """Return the weights that the caller gave, or the best ones at hand for a network.

    Parameters
    ----------
    source : mapping of str to array, or path, or None
        The caller's weights.
    network : str
        Without them: the network that is wanted. ``"encoder"`` is the published VGG19 where it is
        in the cache, and otherwise the embedded encoder.

    Returns
    -------
    Choice

    Raises
    ------
    WeightsError
        The file cannot be used, or the network's is not in the cache.
    """
    if isinstance(source, Mapping):
        return Choice(_feature_network(source), source, None)
    if source is not None:
        return _of_file(source)
    cached = cache.find(_BEST if network == "encoder" else network)
    if cached is not None:
        return _of_file(cached)
    if network != "encoder":
        raise WeightsError(
            f"weights: this preset needs those of {network}, which are not part of the package; "
            f"run depthstyle weights get {network}, or give their file"
        )
    origin = {"file": weights.EMBEDDED.name, "sha256": cache.sha256(weights.EMBEDDED)}
    return Choice(networks.build("encoder"), weights.embedded(), origin)


def choose_adain(encoder: Source | None, decoder: Source | None) -> AdainChoice:
    """Return the networks of AdaIN that the caller gave, or the best ones at hand.

    Parameters
    ----------
    encoder, decoder : mapping of str to array, or path, or None
        The caller's weights, both or none. Without them the published ones where both are in the
        cache, and otherwise those that are part of the package.

    Returns
    -------
    AdainChoice

    Raises
    ------
    WeightsError
        One of two is given, or a file cannot be used.
    """
    if (encoder is None) != (decoder is None):
        given, missing = ("weights", "decoder") if decoder is None else ("decoder", "weights")
        raise WeightsError(f"{missing}: missing; {given} alone is half a pair, give both or none")
    if encoder is None or decoder is None:
        encoder, decoder = cache.find(_EYES), cache.find(_HAND)
    if encoder is None or decoder is None:
        encoder, decoder = weights.EMBEDDED, weights.EMBEDDED_DECODER
    eyes, eyes_from = (encoder, None) if isinstance(encoder, Mapping) else _read(encoder)
    hand, hand_from = (decoder, None) if isinstance(decoder, Mapping) else _read(decoder)
    if networks.identify(eyes).name == "encoder":
        eyes = adain.from_vgg(eyes)
    for argument, arrays, name in (("weights", eyes, _EYES), ("decoder", hand, _HAND)):
        found = networks.identify(arrays).name
        if found != name:
            raise WeightsError(f"{argument}: those of {found}; give those of {name}")
    return AdainChoice(eyes, hand, {"encoder": eyes_from, "decoder": hand_from})


def _of_file(path: str | os.PathLike[str]) -> Choice:
    arrays, origin = _read(path)
    return Choice(_feature_network(arrays), arrays, origin)


def _read(path: str | os.PathLike[str]) -> tuple[networks.Weights, dict[str, str]]:
    """Return the arrays of a file, and its name and SHA-256."""
    if not isinstance(path, str | os.PathLike):
        raise WeightsError(f"weights: {type(path).__name__} is neither a path nor a mapping")
    arrays = weights.load(path, without=_CLASSIFIER)
    origin = {"file": os.path.basename(path)}
    if os.path.isfile(path):
        origin["sha256"] = cache.sha256(path)
    return arrays, origin


def _feature_network(arrays: networks.Weights) -> networks.FeatureNetwork:
    network = networks.identify(arrays)
    if not isinstance(network, networks.FeatureNetwork):
        raise WeightsError(
            f"weights: those of {network.name}, which has no feature maps to compare; give those "
            "of VGG or SqueezeNet"
        )
    return network
