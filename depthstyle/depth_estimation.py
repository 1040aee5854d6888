"""Depth from a photograph, by a published network."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle import _core
from depthstyle.depth import DepthMap, read_depth_map
from depthstyle.engine import Engine
from depthstyle.errors import DepthstyleWarning
from depthstyle.images import as_image
from depthstyle.weights.depth_choice import AUTO, Source, choose_depth, is_model

WEIGHTS_SUFFIXES = (".pth", ".pt", ".t7", ".safetensors", ".tflite")


class DepthEstimator:
    """A depth network with its weights, for any number of photographs.

    It is fastest where photographs of one size follow each other.

    Parameters
    ----------
    model : str, path, sequence of paths, or mapping of str to array, optional
        A name of `depthstyle.weights.depth_choice.MODELS` whose weights are in the cache,
        ``"auto"`` for the best of those that are; or files of weights, or their arrays.
    threads : int, optional
        Number of threads; by default what the engine is set to.
    device : str, optional
        What computes: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; see `devices.choose`.
    precision : {"auto", "fp32", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`.

    Attributes
    ----------
    precision : str
        What runs: never ``"auto"``.
    name : str
        The network's name.
    origin : mapping of str to str, or None
        The files of the weights and their SHA-256.

    Raises
    ------
    ValueError
        The device or the precision is unknown.
    BackendUnavailable
        The GPU cannot be used.
    WeightsError
        Nothing fitting is in the cache (the message says what to type), or a file cannot be used.
    """

    def __init__(
        self,
        model: Source = AUTO,
        *,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._engine = Engine(device, threads, precision)
        self.precision = self._engine.effective_precision
        named = isinstance(model, str) and is_model(model)
        chosen = choose_depth(None, str(model)) if named else choose_depth(model)
        self._network, self._weights, self.origin = chosen.network, chosen.arrays, chosen.origin
        self._size: tuple[int, int] | None = None
        self._plan: Any = None
        self.name = chosen.network.name

    def raw(self, image: ArrayLike) -> NDArray[np.float32]:
        """Return the network's own output, resized to the photograph as its authors do.

        Parameters
        ----------
        image : array (H, W, 3)
            RGB: floats in [0, 1], uint8 or uint16.

        Returns
        -------
        float32 (H, W)
            Inverse depth (MiDaS), disparity in (0, 1) (monodepth2), depth or its logarithm (the
            hourglass), each up to an unknown scale.

        Raises
        ------
        ImageError
            `image` is no picture.
        NumericalError
            The weights give NaN or infinity.
        Busy
            Another thread uses the estimator.
        """
        picture = as_image(image)
        if picture.shape[:2] != self._size:
            self._plan, self._size = self._compile(picture.shape[:2]), picture.shape[:2]
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
        return self._plan.run({"image": planes})[0][0, 0]

    def _compile(self, size: tuple[int, int]) -> Any:
        graph = _core.Graph()
        image = graph.input("image", (1, 3, *size), kind="map")
        raw = self._network.add(graph, image, self._weights)
        raw = self._network.add_output_resize(graph, raw, size)
        return self._engine.compile(graph, [raw], check=[raw])

    def estimate(self, image: ArrayLike) -> DepthMap:
        """Return the depth of a photograph with the range of the network's output.

        Parameters
        ----------
        image : array (H, W, 3)
            As for `raw`.

        Returns
        -------
        DepthMap

        Raises
        ------
        ImageError, NumericalError
            As for `raw`.

        Warns
        -----
        DepthstyleWarning
            The network sees the same depth everywhere: 0.5.
        """
        return self.to_map(self.raw(image))

    def to_map(self, raw: NDArray[np.float32]) -> DepthMap:
        """Turn what `raw` returned into a depth map."""
        near, far = self._network.find_range(raw)
        if near == far:
            warnings.warn(
                f"{self.name}: sees the same depth everywhere; it is taken as 0.5",
                DepthstyleWarning,
                stacklevel=3,
            )
        valid = np.ones(raw.shape, bool)
        kind = "disparity" if self._network.nearness else "depth"
        return DepthMap(self._network.to_depth(raw), valid, near, far, kind)


def estimate_depth(
    image: ArrayLike,
    model: Source = AUTO,
    raw: bool = False,
    *,
    threads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> NDArray[np.float32]:
    """Estimate the depth of a photograph.

    The network's output r, resized to the photograph, becomes (r - near) / (far - near), clipped to
    [0, 1], where near and far are its ends without 0.1 % at either; an output that grows with the
    nearness is thus scaled to [0, 1] and taken from 1. To look at many photographs make one
    `DepthEstimator`.

    Parameters
    ----------
    image : array (H, W, 3)
        RGB: floats in [0, 1], uint8 or uint16.
    model : str, path, sequence of paths, or mapping of str to array, optional
        As for `DepthEstimator`.
    raw : bool, optional
        Return the network's own output instead; see `DepthEstimator.raw`.
    threads : int, optional
        Number of threads; by default what the engine is set to.
    device : str, optional
        What computes: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; see `devices.choose`.
    precision : {"auto", "fp32", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`.

    Returns
    -------
    float32 (H, W)
        0 nearest to 1 farthest.

    Raises
    ------
    ValueError
        The device or the precision is unknown.
    BackendUnavailable
        The GPU cannot be used.
    ImageError
        `image` is no picture.
    WeightsError
        Nothing fitting is in the cache (the message says what to type), or a file cannot be used.
    NumericalError
        The weights give NaN or infinity.
    """
    picture = as_image(image)
    estimator = DepthEstimator(model, threads=threads, device=device, precision=precision)
    return estimator.raw(picture) if raw else estimator.estimate(picture).depth


def resolve_depth(
    value: str | os.PathLike[str],
    image: ArrayLike,
    *,
    device: str = "auto",
    precision: str = "auto",
    **reading: Any,
) -> DepthMap:
    """Return the depth of a photograph from a file, or by a network.

    Parameters
    ----------
    value : str or path
        ``"auto"``, a name of `depthstyle.weights.depth_choice.MODELS`, a file of weights (by its
        suffix) or a folder of them: the depth is estimated. Any other path is a depth file.
    image : array (H, W, 3)
        The photograph.
    device : str, optional
        What a network computes on; see `devices.choose`.
    precision : {"auto", "fp32", "tf32", "bf16", "mixed"}, optional
        How precisely; see `precision.resolve`.
    **reading
        Options of `depthstyle.read_depth_map` for a depth file.

    Returns
    -------
    DepthMap

    Raises
    ------
    ImageError, WeightsError, NumericalError
        As for `depthstyle.read_depth_map` and `estimate_depth`.
    """
    path = Path(value)
    if is_model(str(value)) or path.suffix.lower() in WEIGHTS_SUFFIXES or path.is_dir():
        return DepthEstimator(value, device=device, precision=precision).estimate(image)
    return read_depth_map(value, **reading)
