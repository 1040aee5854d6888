"""Measures of how well a pastiche keeps what its content image shows.

Every measure takes the content image and the pastiche as 8-bit pictures. The content image is
resized to the pastiche's size (bicubic, antialiased), never the other way round, so that the
pastiche is judged as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depthstyle.errors import ImageError, NumericalError
from depthstyle.images import as_image

DepthNetwork = Callable[[np.ndarray], np.ndarray]
"""From float32 (H, W, 3) RGB in [0, 1] to a depth map (H', W')."""

LUMA = (0.2989, 0.5870, 0.1140)
"""Weights of R, G and B in the grey image of Wang et al. 2004 and of MATLAB's rgb2gray."""

PEAK = 255.0
ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Protocol:
    """How the structural similarity (SSIM, Wang et al. 2004) is measured.

    The defaults are the protocol of Figure 2 of "Depth-Preserving Style Transfer": grey images,
    an 11 x 11 Gaussian window with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, mean over
    the positions where the window lies inside the image.

    Parameters
    ----------
    color : {"grey", "rgb"}
        Measure on rounded grey values, or on R, G and B and average the three.
    window : {"gaussian", "uniform"}
        Weights inside the window.
    sigma : float
        Standard deviation of the Gaussian window in pixels, 0.5 to 50. The window reaches 3.5
        standard deviations to each side, which is 11 x 11 for 1.5.
    size : int
        Side of the uniform window in pixels, odd, at least 3.
    k1, k2 : float
        The constants of Wang et al. 2004, both above 0.

    Raises
    ------
    ValueError
        If a value is outside the range given above.
    """

    color: str = "grey"
    window: str = "gaussian"
    sigma: float = 1.5
    size: int = 7
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self) -> None:
        if self.color not in ("grey", "rgb"):
            raise ValueError(f"color={self.color!r}: give 'grey' or 'rgb'")
        if self.window not in ("gaussian", "uniform"):
            raise ValueError(f"window={self.window!r}: give 'gaussian' or 'uniform'")
        if not 0.5 <= self.sigma <= 50:
            raise ValueError(f"sigma={self.sigma}: give a standard deviation from 0.5 to 50")
        if self.size < 3 or self.size % 2 == 0:
            raise ValueError(f"size={self.size}: give an odd number of pixels, at least 3")
        if not (self.k1 > 0 and self.k2 > 0):
            raise ValueError(f"k1={self.k1}, k2={self.k2}: both must be above 0")

    @property
    def window_size(self) -> int:
        """Side of the window in pixels."""
        if self.window == "uniform":
            return self.size
        return 2 * int(3.5 * self.sigma + 0.5) + 1

    def __str__(self) -> str:
        window = f"{self.window} {self.window_size} x {self.window_size}"
        if self.window == "gaussian":
            window += f" sigma {self.sigma:g}"
        return (
            f"SSIM on {self.color}, window {window}, K1 {self.k1:g}, K2 {self.k2:g}, L {PEAK:g}, "
            "content resized to the pastiche (bicubic, antialiased), mean over valid positions"
        )


FIGURE_2 = Protocol()


def to_8bit(image: np.ndarray, name: str) -> np.ndarray:
    """Round a picture to 8 bits.

    Parameters
    ----------
    image : ndarray
        What `depthstyle.as_image` accepts: (H, W, 3) RGB in [0, 1], uint8 and others.
    name : str
        What the error message calls the picture.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    ImageError
        If the array is not a picture.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return image
    return np.rint(as_image(image, name) * np.float32(PEAK)).astype(np.uint8)


def check_aspect(content: np.ndarray, pastiche: np.ndarray, name: str) -> None:
    """Raise ImageError unless both pictures' width-to-height ratios agree to 1 %."""
    ratio = (content.shape[1] * pastiche.shape[0]) / (content.shape[0] * pastiche.shape[1])
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise ImageError(
            f"{name} has {pastiche.shape[1]}x{pastiche.shape[0]} pixels, the content image "
            f"{content.shape[1]}x{content.shape[0]}: the aspect ratios differ by "
            f"{abs(ratio - 1):.1%}, at most 1 % is allowed; give the uncropped picture"
        )


def to_grey(image: np.ndarray) -> np.ndarray:
    """Grey values 0.2989 R + 0.5870 G + 0.1140 B of an 8-bit picture, rounded to 8 bits."""
    return np.rint(image @ np.asarray(LUMA)).astype(np.uint8)


def resize_like(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Resize an 8-bit picture to the height and width of another (bicubic, antialiased)."""
    from PIL import Image

    if image.shape[:2] == other.shape[:2]:
        return image
    size = (other.shape[1], other.shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def structural_similarity(
    content: np.ndarray, pastiche: np.ndarray, protocol: Protocol = FIGURE_2
) -> float:
    """Structural similarity of a pastiche to its content image (Wang et al. 2004, eq. 13).

    Parameters
    ----------
    content, pastiche : ndarray
        (H, W, 3) RGB, floating point in [0, 1] or uint8. The sizes may differ, the aspect ratios
        by at most 1 %.
    protocol : Protocol
        Colour, window and constants.

    Returns
    -------
    float
        At most 1; 1 for equal pictures.

    Raises
    ------
    ImageError
        If a picture is not usable, smaller than the window, or the aspect ratios differ.
    """
    from skimage import metrics

    content, pastiche = _prepared(content, pastiche, protocol.color)
    if min(pastiche.shape[:2]) < protocol.window_size:
        raise ImageError(
            f"pastiche: {pastiche.shape[1]}x{pastiche.shape[0]} pixels; the SSIM window needs "
            f"at least {protocol.window_size} on each side"
        )
    gaussian = protocol.window == "gaussian"
    return float(
        metrics.structural_similarity(
            content,
            pastiche,
            win_size=protocol.window_size,
            gaussian_weights=gaussian,
            sigma=protocol.sigma,
            use_sample_covariance=False,
            data_range=PEAK,
            channel_axis=2 if protocol.color == "rgb" else None,
            K1=protocol.k1,
            K2=protocol.k2,
        )
    )


def psnr(content: np.ndarray, pastiche: np.ndarray, color: str = "grey") -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / mean squared error).

    Parameters
    ----------
    content, pastiche : ndarray
        As for :func:`structural_similarity`.
    color : {"grey", "rgb"}
        Which values are compared.

    Returns
    -------
    float
        Infinite for equal pictures.
    """
    from skimage.metrics import peak_signal_noise_ratio

    content, pastiche = _prepared(content, pastiche, color)
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(content, pastiche, data_range=PEAK))


def gradient_similarity(content: np.ndarray, pastiche: np.ndarray) -> float:
    """Gradient-magnitude similarity, averaged over the image (Xue et al. 2014, eq. 4 and 5).

    Grey images are averaged over 2 x 2 pixels and halved in size; m is the magnitude of the
    Prewitt gradient, and the similarity (2 m_c m_p + T) / (m_c^2 + m_p^2 + T) with T = 170.

    Parameters
    ----------
    content, pastiche : ndarray
        As for :func:`structural_similarity`; at least 6 pixels on each side.

    Returns
    -------
    float
        In (0, 1]; 1 for equal pictures.

    Raises
    ------
    ImageError
        As for :func:`structural_similarity`.
    """
    content, pastiche = _prepared(content, pastiche, "grey")
    if min(pastiche.shape) < 6:
        raise ImageError(
            f"pastiche: {pastiche.shape[1]}x{pastiche.shape[0]} pixels; gradient-magnitude "
            "similarity needs at least 6 on each side"
        )
    first, second = _gradient_magnitude(content), _gradient_magnitude(pastiche)
    constant = 170.0
    similarity = (2 * first * second + constant) / (first**2 + second**2 + constant)
    return float(similarity.mean())


def depth_difference(content: np.ndarray, pastiche: np.ndarray, depth: DepthNetwork) -> float:
    """Mean absolute difference between the depth of content image and pastiche.

    Parameters
    ----------
    content, pastiche : ndarray
        As for :func:`structural_similarity`.
    depth : callable
        From float32 (H, W, 3) RGB in [0, 1] to a depth map (H', W') of the network's own scale,
        for instance ``ds.estimate_depth`` (0 nearest, 1 farthest).

    Returns
    -------
    float
        0 when the depth network sees the same depth in both.

    Raises
    ------
    ImageError
        If the pictures are not usable or the depth maps are not 2-D of equal shape.
    NumericalError
        If a depth map is not finite.
    """
    maps = [
        see_depth(depth, image.astype(np.float32) / np.float32(PEAK))
        for image in _prepared(content, pastiche, "rgb")
    ]
    if maps[0].shape != maps[1].shape:
        raise ImageError(
            f"depth: returned shapes {maps[0].shape} and {maps[1].shape} for pictures of one size"
        )
    return float(np.abs(maps[0] - maps[1]).mean())


def see_depth(network: DepthNetwork, image: np.ndarray) -> np.ndarray:
    """Return what a depth network sees, float64 (H', W').

    Raises
    ------
    ImageError
        It is no map.
    NumericalError
        It is not finite.
    """
    depth = np.asarray(network(image), np.float64)
    if depth.ndim != 2 or 0 in depth.shape:
        raise ImageError(f"depth: returned shape {depth.shape}; a depth map is (H, W)")
    if not np.isfinite(depth).all():
        raise NumericalError("depth: returned NaN or infinite values")
    return depth


def as_depth_network(depth: DepthNetwork | str) -> DepthNetwork:
    """Return a depth network: as it is, or by the name of a model of `estimate_depth`.

    Raises
    ------
    WeightsError
        The name is unknown, or its weights are not in the cache.
    """
    if callable(depth):
        return depth
    from depthstyle.depth_estimation import DepthEstimator

    # A table must not depend on the machine.
    estimator = DepthEstimator(depth, device="cpu", precision="fp32")
    return lambda image: estimator.estimate(image).depth


def _prepared(
    content: np.ndarray, pastiche: np.ndarray, color: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures in 8 bits, in the asked colours, at the pastiche's size."""
    content, pastiche = to_8bit(content, "content"), to_8bit(pastiche, "pastiche")
    check_aspect(content, pastiche, "pastiche")
    if color == "grey":
        content, pastiche = to_grey(content), to_grey(pastiche)
    return resize_like(content, pastiche), pastiche


def _gradient_magnitude(grey: np.ndarray) -> np.ndarray:
    from scipy.ndimage import prewitt, uniform_filter

    halved = uniform_filter(grey.astype(np.float64), 2, origin=-1)[::2, ::2]
    valid = (slice(1, -1), slice(1, -1))
    return np.hypot(prewitt(halved, 0)[valid], prewitt(halved, 1)[valid]) / 3
