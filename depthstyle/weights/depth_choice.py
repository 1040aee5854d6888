"""Which depth network and weights are used, and what a recipe says of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depthstyle import networks, weights
from depthstyle.errors import WeightsError
from depthstyle.networks.depth_network import DepthNetwork
from depthstyle.networks.network import Owned
from depthstyle.weights import cache
from depthstyle.weights.registry import PUBLISHED

AUTO = "auto"

_NETWORKS = ("midas-large", "midas-small", "hourglass", "pydnet", "monodepth2")
"""The depth networks, from the most to the least accurate on photographs of any kind."""

MODELS = tuple(
    file.name for network in _NETWORKS for file in PUBLISHED.values() if file.network == network
)
"""The published weights of depth networks, in the order in which ``"auto"`` looks for them."""

_SMALL = "midas-small"

Path = str | os.PathLike[str]
Source = networks.Weights | Path | Sequence[Path]


@dataclass(frozen=True)
class DepthChoice:
    """A depth network, its weights, and where they are from.

    Attributes
    ----------
    network : DepthNetwork
    arrays : mapping of str to array
        As ``network.network.prepare`` returns them.
    origin : mapping of str to str, or None
        The names and SHA-256 of the files; None for arrays of the caller's.
    """

    network: DepthNetwork
    arrays: networks.Weights
    origin: Mapping[str, str] | None


def is_model(name: str) -> bool:
    """Tell whether a text names a depth network, or ``"auto"``, and no file."""
    return name in (AUTO, *_NETWORKS, *MODELS)


def choose_depth(source: Source | None, model: str = AUTO) -> DepthChoice:
    """Return the depth network that the caller gave, or one from the cache.

    Parameters
    ----------
    source : mapping of str to array, path, or sequence of paths, or None
        The caller's weights; of monodepth2 the encoder's and the decoder's file, or the folder
        that holds them.
    model : str, optional
        Without them: a name of `MODELS`, ``"monodepth2"`` for any of its variants, or ``"auto"``
        for the first of `MODELS` that is in the cache.

    Returns
    -------
    DepthChoice

    Raises
    ------
    WeightsError
        The files cannot be used or are not those of a depth network, or nothing fitting is in the
        cache.
    """
    if source is None:
        source = _cached(model)
    if isinstance(source, Mapping):
        return _choice(source, None)
    paths = [source] if isinstance(source, str | os.PathLike) else list(source)
    arrays = Owned(weights.load_all(paths))
    files = [file for path in paths for file in weights.files_of(path)]
    origin = {
        "file": ", ".join(file.name for file in files),
        "sha256": ", ".join(cache.sha256(file) for file in files),
    }
    try:
        return _choice(arrays, origin)
    except WeightsError as error:
        raise WeightsError(f"{', '.join(map(str, paths))}: {error}") from error


def _choice(arrays: networks.Weights, origin: Mapping[str, str] | None) -> DepthChoice:
    network = networks.depth_network(arrays)
    return DepthChoice(network, network.network.prepare(arrays), origin)


def _cached(model: str) -> Path:
    if not is_model(model):
        raise WeightsError(
            f"depth network {model!r}: unknown; choose from auto, {', '.join(MODELS)}, or give a "
            "file of weights"
        )
    if model in MODELS:
        names = [model]
    else:
        names = [name for name in MODELS if model in (AUTO, PUBLISHED[name].network)]
    for name in names:
        path = cache.find(name)
        if path is not None:
            return path
    wanted = PUBLISHED[_SMALL if model == AUTO else names[0]]
    confirm = " --accept-non-commercial" if wanted.non_commercial else ""
    what = "no depth network" if model == AUTO else f"no weights of {model}"
    raise WeightsError(
        f"depth: {what} in the cache; run depthstyle weights get {wanted.name}{confirm}, or give "
        "a file of weights"
    )
