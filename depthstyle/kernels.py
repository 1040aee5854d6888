"""The methods' own kernels on NumPy arrays, each with its gradient, for notebooks and tests.

Every function takes feature maps or images ``(C, H, W)``, or a batch ``(N, C, H, W)``, and computes
in the dtype of its first array: float64 runs on the reference backend, float32 (and everything
else, which is converted) on the fast one. A function ``f_backward(gradient, ...)`` takes the
gradient of some loss to the result of ``f(...)``, and returns that loss's gradient to the inputs.

Graphs for optimisation are built with `depthstyle.losses`; each call here compiles a small one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from depthstyle.kernel_calls import (
    Array,
    as_adain_inputs,
    as_gradient,
    as_maps,
    as_mask,
    as_matrix_gradient,
    as_number,
    as_pair,
    as_pools,
    as_scalar_gradient,
    as_style_mask,
    backward,
    drop_channel,
    forward,
)

__all__ = [
    "adain",
    "adain_backward",
    "feature_loss",
    "feature_loss_backward",
    "gram",
    "gram_backward",
    "laplacian",
    "laplacian_backward",
    "masked_feature_loss",
    "masked_feature_loss_backward",
    "masked_gram",
    "masked_gram_backward",
    "tv",
    "tv_backward",
]


def gram(features: ArrayLike, *, scale: float = 1.0) -> Array:
    r"""Compute the Gram matrix of feature maps.

    .. math:: G_{ij} = \text{scale} \sum_k F_{ik} F_{jk}

    over the pixels k, as in Gatys et al. 2016.

    Parameters
    ----------
    features : array (C, H, W) or (N, C, H, W)
        F. float32 or float64; other dtypes become float32.
    scale : float, optional
        1 for the matrix of Gatys, 1 / (H W) for the size-invariant one.

    Returns
    -------
    array (C, C) or (N, C, C)
        Symmetric.

    Raises
    ------
    ValueError
        An argument has a wrong shape, is not finite or holds no real numbers.
    NumericalError
        The result overflows.
    """
    x = as_maps(features, "features")
    return drop_channel(forward("gram", [x], scale=as_number(scale, "scale")), features)


def gram_backward(gradient: ArrayLike, features: ArrayLike, *, scale: float = 1.0) -> Array:
    r"""Compute the gradient of `gram` to the features.

    .. math:: \partial F_{ik} = \text{scale} \sum_j (D_{ij} + D_{ji}) F_{jk}

    Parameters
    ----------
    gradient : array (C, C) or (N, C, C)
        D, the gradient to the Gram matrix.
    features, scale
        As for `gram`.

    Returns
    -------
    array of the shape of `features`

    Raises
    ------
    ValueError, NumericalError
        As for `gram`.
    """
    x = as_maps(features, "features")
    (dx,) = backward("gram", as_matrix_gradient(gradient, x), [x], scale=as_number(scale, "scale"))
    return dx.reshape(np.shape(features))


def masked_gram(features: ArrayLike, mask: ArrayLike, *, scale: float = 1.0) -> Array:
    r"""Compute the Gram matrix of feature maps weighted by a mask.

    .. math:: G_{ij} = \frac{\text{scale}}{\eta} \sum_k (m_k F_{ik}) (m_k F_{jk}),
              \qquad \eta = \mathrm{mean}(m)^2

    the masked style representation of "3D neural style transfer". A mask of ones gives the bits
    of `gram`.

    Parameters
    ----------
    features : array (C, H, W) or (N, C, H, W)
        F. float32 or float64; other dtypes become float32.
    mask : array (H, W), or (N, 1, H, W) for a batch
        m, a weight per pixel, usually in [0, 1]. One for all pictures, or one for each.
    scale : float, optional
        As for `gram`.

    Returns
    -------
    array (C, C) or (N, C, C)

    Raises
    ------
    ValueError
        An argument has a wrong shape, is not finite or holds no real numbers, or a mask has the
        mean 0.
    NumericalError
        The result overflows.
    """
    x = as_maps(features, "features")
    m = as_style_mask(mask, x)
    return drop_channel(forward("gram", [x, m], scale=as_number(scale, "scale")), features)


def masked_gram_backward(
    gradient: ArrayLike, features: ArrayLike, mask: ArrayLike, *, scale: float = 1.0
) -> Array:
    r"""Compute the gradient of `masked_gram` to the features.

    .. math:: \partial F_{ik} = \frac{\text{scale}}{\eta} m_k^2 \sum_j (D_{ij} + D_{ji}) F_{jk}

    Parameters
    ----------
    gradient : array (C, C) or (N, C, C)
        D, the gradient to the Gram matrix.
    features, mask, scale
        As for `masked_gram`.

    Returns
    -------
    array of the shape of `features`

    Raises
    ------
    ValueError, NumericalError
        As for `masked_gram`.
    """
    x = as_maps(features, "features")
    m = as_style_mask(mask, x)
    upstream = as_matrix_gradient(gradient, x)
    (dx,) = backward("gram", upstream, [x, m], scale=as_number(scale, "scale"))
    return dx.reshape(np.shape(features))


def feature_loss(features: ArrayLike, target: ArrayLike, *, scale: float = 1.0) -> float:
    r"""Compute the squared distance of feature maps.

    .. math:: L = \text{scale} \sum (F - P)^2

    Parameters
    ----------
    features, target : array (C, H, W) or (N, C, H, W)
        F and P, of one shape. Computed in the dtype of F: float32 or float64.
    scale : float, optional
        1/2 for the content loss of Gatys.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        An argument has a wrong shape, is not finite or holds no real numbers.
    NumericalError
        The result overflows.
    """
    inputs = as_pair(features, target)
    return forward("feature_loss", inputs, scale=as_number(scale, "scale")).item()


def feature_loss_backward(
    gradient: float, features: ArrayLike, target: ArrayLike, *, scale: float = 1.0
) -> Array:
    r"""Compute the gradient of `feature_loss` to the features.

    .. math:: \partial F = 2\, \text{scale}\, \partial L\, (F - P)

    Parameters
    ----------
    gradient : float
        The gradient to the loss: 1 where it is the loss itself that is wanted.
    features, target, scale
        As for `feature_loss`.

    Returns
    -------
    array of the shape of `features`
        The gradient to the target is its negative.

    Raises
    ------
    ValueError, NumericalError
        As for `feature_loss`.
    """
    inputs = as_pair(features, target)
    upstream = as_scalar_gradient(gradient)
    (dx,) = backward("feature_loss", upstream, inputs, scale=as_number(scale, "scale"))
    return dx.reshape(np.shape(features))


def masked_feature_loss(
    features: ArrayLike, target: ArrayLike, mask: ArrayLike, *, scale: float = 1.0
) -> float:
    r"""Compute the squared distance of feature maps weighted by a mask.

    .. math:: L = \text{scale} \sum (m \odot (F - P))^2

    the masked content loss of "3D neural style transfer", with scale 1/2.

    Parameters
    ----------
    features, target : array (C, H, W) or (N, C, H, W)
        F and P, of one shape. Computed in the dtype of F: float32 or float64.
    mask : array (H, W), or (N, 1, H, W) for a batch
        m, a weight per pixel, usually in [0, 1]. One for all pictures, or one for each.
    scale : float, optional
        1/2 for the loss of the paper.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        An argument has a wrong shape, is not finite or holds no real numbers.
    NumericalError
        The result overflows.
    """
    inputs = as_pair(features, target)
    inputs.append(as_mask(mask, inputs[0], "mask"))
    return forward("feature_loss", inputs, scale=as_number(scale, "scale")).item()


def masked_feature_loss_backward(
    gradient: float,
    features: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    *,
    scale: float = 1.0,
) -> Array:
    r"""Compute the gradient of `masked_feature_loss` to the features.

    .. math:: \partial F = 2\, \text{scale}\, \partial L\, m^2 \odot (F - P)

    Parameters
    ----------
    gradient : float
        The gradient to the loss: 1 where it is the loss itself that is wanted.
    features, target, mask, scale
        As for `masked_feature_loss`.

    Returns
    -------
    array of the shape of `features`
        The gradient to the target is its negative.

    Raises
    ------
    ValueError, NumericalError
        As for `masked_feature_loss`.
    """
    inputs = as_pair(features, target)
    inputs.append(as_mask(mask, inputs[0], "mask"))
    upstream = as_scalar_gradient(gradient)
    (dx,) = backward("feature_loss", upstream, inputs, scale=as_number(scale, "scale"))
    return dx.reshape(np.shape(features))


def laplacian(image: ArrayLike, pool: int | Sequence[int] = 4) -> Array | list[Array]:
    r"""Compute the Laplacian of a picture at one or several scales.

    .. math:: y_{ij} = \sum_c 4 P_{c,i+1,j+1} - P_{c,i,j+1} - P_{c,i+2,j+1}
              - P_{c,i+1,j} - P_{c,i+1,j+2}

    where P is the picture averaged over blocks of ``pool`` x ``pool`` pixels; rows and columns
    that fill no block are left out (Li et al. 2017, "Laplacian-steered neural style transfer").

    Parameters
    ----------
    image : array (C, H, W) or (N, C, H, W)
        float32 or float64; other dtypes become float32. Sides of at least 3 ``pool`` pixels.
    pool : int or sequence of int, optional
        Side of the blocks; with several, one result for each.

    Returns
    -------
    array (H // pool - 2, W // pool - 2) or (N, H // pool - 2, W // pool - 2), or a list of them

    Raises
    ------
    ValueError
        The image has a wrong shape or is too small, is not finite or holds no real numbers, or
        a pool is not a whole number from 1.
    """
    x = as_maps(image, "image")
    results = [drop_channel(forward("laplacian", [x], pool=p), image) for p in as_pools(pool, x)]
    return results[0] if np.ndim(pool) == 0 else results


def laplacian_backward(
    gradient: ArrayLike | Sequence[ArrayLike], image: ArrayLike, pool: int | Sequence[int] = 4
) -> Array:
    """Compute the gradient of `laplacian` to the picture, summed over its scales.

    Every pixel of a block receives 1 / pool^2 of the gradient to the block's mean, the transposed
    kernel applied to ``gradient``.

    Parameters
    ----------
    gradient : array or sequence of arrays
        The gradient to each result of `laplacian`, as many as there are pools.
    image : array (C, H, W) or (N, C, H, W)
        As for `laplacian`, which is linear: only the shape and the dtype matter here.
    pool : int or sequence of int, optional
        As for `laplacian`.

    Returns
    -------
    array of the shape of `image`

    Raises
    ------
    ValueError
        As for `laplacian`, or a gradient has a wrong shape.
    """
    x = as_maps(image, "image")
    pools = as_pools(pool, x)
    gradients: Sequence[ArrayLike] = [gradient] if np.ndim(pool) == 0 else list(gradient)
    if len(gradients) != len(pools):
        raise ValueError(f"gradient: has {len(gradients)} arrays; give one for each of {pools}")
    total = np.zeros_like(x)
    for p, part in zip(pools, gradients, strict=True):
        shape = (x.shape[0], 1, x.shape[2] // p - 2, x.shape[3] // p - 2)
        total += backward("laplacian", as_gradient(part, shape), [x], pool=p)[0]
    return total.reshape(np.shape(image))


def tv(image: ArrayLike, *, scale: float = 1.0) -> float:
    r"""Compute the total variation of a picture.

    .. math:: L = \text{scale} \sum (x_{i+1,j} - x_{ij})^2 + (x_{i,j+1} - x_{ij})^2

    over all channels and all pixels that have the neighbour.

    Parameters
    ----------
    image : array (C, H, W) or (N, C, H, W)
        float32 or float64; other dtypes become float32.
    scale : float, optional
        Factor of the sum.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        The image has a wrong shape, is not finite or holds no real numbers.
    NumericalError
        The result overflows.
    """
    return forward(
        "total_variation", [as_maps(image, "image")], scale=as_number(scale, "scale")
    ).item()


def tv_backward(gradient: float, image: ArrayLike, *, scale: float = 1.0) -> Array:
    """Compute the gradient of `tv` to the picture.

    2 scale ``gradient`` times the sum of each pixel's differences to its neighbours.

    Parameters
    ----------
    gradient : float
        The gradient to the loss: 1 where it is the loss itself that is wanted.
    image, scale
        As for `tv`.

    Returns
    -------
    array of the shape of `image`

    Raises
    ------
    ValueError, NumericalError
        As for `tv`.
    """
    x = as_maps(image, "image")
    (dx,) = backward(
        "total_variation", as_scalar_gradient(gradient), [x], scale=as_number(scale, "scale")
    )
    return dx.reshape(np.shape(image))


def adain(
    content: ArrayLike,
    style: ArrayLike,
    strength: ArrayLike | None = None,
    *,
    unbiased: bool = True,
    epsilon: float = 1e-5,
) -> Array:
    r"""Give content features the mean and standard deviation of style features.

    .. math:: y = s \left(\sigma_s \frac{x - \mu}{\sigma} + \mu_s\right) + (1 - s)\, x,
              \qquad \sigma = \sqrt{\mathrm{var} + \epsilon}

    per channel: adaptive instance normalisation (Huang and Belongie 2017) with a strength per
    pixel, as depth-aware AdaIN has it (there s is 1 - P).

    Parameters
    ----------
    content : array (C, H, W) or (N, C, H, W)
        x. float32 or float64; other dtypes become float32.
    style : array (C, h, w) or (N, C, h, w)
        Of any size, with as many channels; one for all pictures, or one for each.
    strength : array (H, W), or (N, 1, H, W) for a batch, or a number, optional
        s: 1 is the full style (and the default), 0 the content as it is.
    unbiased : bool, optional
        Divide the variance by H W - 1, as the published decoder was trained, instead of H W.
    epsilon : float, optional
        Keeps a channel of one value from dividing by zero.

    Returns
    -------
    array of the shape of `content`

    Raises
    ------
    ValueError
        An argument has a wrong shape, is not finite or holds no real numbers, or a map has one
        pixel and ``unbiased`` is set.
    NumericalError
        The result overflows.
    """
    inputs = as_adain_inputs(content, style, strength)
    result = forward(
        "adain", inputs, unbiased=bool(unbiased), epsilon=as_number(epsilon, "epsilon")
    )
    return result.reshape(np.shape(content))


def adain_backward(
    gradient: ArrayLike,
    content: ArrayLike,
    style: ArrayLike,
    strength: ArrayLike | None = None,
    *,
    unbiased: bool = True,
    epsilon: float = 1e-5,
) -> tuple[Array, Array]:
    r"""Compute the gradients of `adain` to content and style.

    With g = s times ``gradient``, z = (x - mu) / sigma, M pixels and the variance's divisor D:

    .. math:: \partial x = (1 - s)\, \partial y + \frac{\sigma_s}{\sigma}
              \left(g - \frac{\sum g}{M} - \frac{z \sum g z}{D}\right), \quad
              \partial \mu_s = \sum g, \quad \partial \sigma_s = \sum g z

    Parameters
    ----------
    gradient : array of the shape of `content`
        The gradient to the result.
    content, style, strength, unbiased, epsilon
        As for `adain`.

    Returns
    -------
    content, style : arrays of the shapes of `content` and `style`
        The gradient to each.

    Raises
    ------
    ValueError, NumericalError
        As for `adain`.
    """
    inputs = as_adain_inputs(content, style, strength)
    upstream = as_gradient(gradient, inputs[0].shape, np.shape(content))
    dx, dstyle = backward(
        "adain",
        upstream,
        inputs,
        (0, 1),
        unbiased=bool(unbiased),
        epsilon=as_number(epsilon, "epsilon"),
    )
    return dx.reshape(np.shape(content)), dstyle.reshape(np.shape(style))
