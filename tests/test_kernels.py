"""ds.kernels: values against NumPy, gradients against finite differences, what is refused."""

import multiprocessing
import threading

import numpy as np
import pytest

import depthstyle as ds
from depthstyle import kernels
from depthstyle.errors import NumericalError

rng = np.random.default_rng(7)
# Odd sizes, a tail of channels, one picture and several.
SHAPES = [(3, 13, 11), (20, 7, 9), (2, 5, 6, 15), (3, 17, 12, 13)]
# Of float32 against float64: sums of up to a few thousand rounded terms of either sign.
TOLERANCE = 2e-5


def batch(x):
    return x if x.ndim == 4 else x[None]


def random_mask(shape, own):
    size = (shape[0], 1, *shape[-2:]) if own else shape[-2:]
    return rng.uniform(0.1, 1, size)


def own_masks(shape):
    return (False, True) if len(shape) == 4 else (False,)


# NumPy transcriptions ---------------------------------------------------------------------------


def numpy_gram(x, mask=None, scale=1.0):
    grams = []
    for n, picture in enumerate(batch(x)):
        f = picture.reshape(len(picture), -1)
        m = np.ones(f.shape[1])
        if mask is not None:
            m = (mask if mask.ndim == 2 else mask[n]).ravel()
        grams.append(scale / m.mean() ** 2 * (m * f) @ (m * f).T)
    return np.array(grams) if x.ndim == 4 else grams[0]


def numpy_feature_loss(x, target, mask=1.0, scale=1.0):
    return scale * ((mask * (x - target)) ** 2).sum()


def numpy_laplacian(x, pool):
    kernel = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    results = []
    for picture in batch(x):
        c, h, w = picture.shape[0], picture.shape[1] // pool, picture.shape[2] // pool
        blocks = picture[:, : h * pool, : w * pool].reshape(c, h, pool, w, pool)
        pooled = blocks.mean((2, 4)).sum(0)
        windows = np.lib.stride_tricks.sliding_window_view(pooled, (3, 3))
        results.append((windows * kernel).sum((2, 3)))
    return np.array(results) if x.ndim == 4 else results[0]


def numpy_tv(x, scale=1.0):
    return scale * ((np.diff(x, axis=-1) ** 2).sum() + (np.diff(x, axis=-2) ** 2).sum())


def numpy_adain(content, style, strength=1.0, unbiased=True, epsilon=1e-5):
    def statistics(x):
        var = x.var((-2, -1), ddof=int(unbiased), keepdims=True)
        return x.mean((-2, -1), keepdims=True), np.sqrt(var + epsilon)

    (mean, deviation), (target_mean, target) = statistics(content), statistics(style)
    styled = target * (content - mean) / deviation + target_mean
    return strength * styled + (1 - strength) * content


# Values -----------------------------------------------------------------------------------------


def check_value(kernel, transcription, *arrays, **settings):
    """Compare in float64 to rounding, and in float32 relative to the largest value."""
    expected = transcription(*arrays, **settings)
    found = kernel(*arrays, **settings)
    assert np.shape(found) == np.shape(expected)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * size)
    single = kernel(*(a.astype(np.float32) for a in arrays), **settings)
    assert np.ndim(single) == 0 or single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=TOLERANCE * size)


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape):
    x, y = rng.standard_normal((2, *shape))
    check_value(kernels.gram, numpy_gram, x, scale=0.3)
    check_value(kernels.feature_loss, numpy_feature_loss, x, y, scale=0.5)
    check_value(kernels.tv, numpy_tv, x, scale=0.7)
    for own in own_masks(shape):
        mask = random_mask(shape, own)
        check_value(kernels.masked_gram, numpy_gram, x, mask, scale=0.3)
        check_value(kernels.masked_feature_loss, numpy_feature_loss, x, y, mask, scale=0.5)


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_laplacian(pool):
    for shape in [(3, 13, 11), (1, 9, 9), (2, 20, 10, 17)]:
        check_value(kernels.laplacian, numpy_laplacian, rng.standard_normal(shape), pool=pool)


def test_laplacian_of_several_pools():
    x = rng.standard_normal((3, 50, 53))
    results = kernels.laplacian(x, pool=(4, 16))
    assert [r.shape for r in results] == [(10, 11), (1, 1)]
    for pool, result in zip((4, 16), results, strict=True):
        np.testing.assert_array_equal(result, kernels.laplacian(x, pool))
    gradients = [rng.standard_normal(r.shape) for r in results]
    total = kernels.laplacian_backward(gradients, x, pool=(4, 16))
    parts = [kernels.laplacian_backward(g, x, p) for g, p in zip(gradients, (4, 16), strict=True)]
    np.testing.assert_allclose(total, sum(parts), rtol=1e-14)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_adain(shape, unbiased):
    x = rng.standard_normal(shape)
    channels = shape[-3]
    styles = [rng.uniform(1, 3, (channels, 4, 5)), rng.standard_normal((*shape[:-2], 8, 3))]
    for style in styles:
        check_value(kernels.adain, numpy_adain, x, style, unbiased=unbiased)
        for own in own_masks(shape):
            strength = random_mask(shape, own)
            check_value(kernels.adain, numpy_adain, x, style, strength, unbiased=unbiased)


def test_adain_strength():
    x, style = rng.standard_normal((2, 4, 6, 7))
    full = kernels.adain(x, style)
    np.testing.assert_array_equal(kernels.adain(x, style, 0.0), x)
    np.testing.assert_array_equal(kernels.adain(x, style, np.ones((6, 7))), full)
    np.testing.assert_allclose(kernels.adain(x, style, 0.25), 0.25 * full + 0.75 * x, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_without_variance(dtype):
    """A constant channel takes the style's mean: nothing divides by zero, forward or backward."""
    x = np.zeros((3, 5, 7), dtype)
    x[1] = 4
    x[2] = rng.standard_normal((5, 7))
    style = rng.standard_normal((3, 6, 6)).astype(dtype)
    style[2] = 2
    result = kernels.adain(x, style)
    means = style.mean((1, 2), dtype=np.float64)
    for channel in (0, 1):
        np.testing.assert_allclose(result[channel], means[channel], rtol=0, atol=1e-6)
    # sigma_s is sqrt(epsilon): what is left of the content's variation is a few thousandths.
    np.testing.assert_allclose(result[2], 2, rtol=0, atol=4 * np.sqrt(1e-5))
    dx, dstyle = kernels.adain_backward(np.ones_like(x), x, style)
    assert np.isfinite(dx).all() and np.isfinite(dstyle).all()
    np.testing.assert_array_equal(kernels.gram(np.zeros_like(x)), np.zeros((3, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_of_ones_changes_no_bit(shape, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    ones = np.ones(shape[-2:])
    plain = kernels.gram(x)
    np.testing.assert_array_equal(kernels.masked_gram(x, ones), plain)
    d = rng.standard_normal(plain.shape)
    np.testing.assert_array_equal(
        kernels.masked_gram_backward(d, x, ones), kernels.gram_backward(d, x)
    )
    assert kernels.masked_feature_loss(x, 2 * x, ones) == kernels.feature_loss(x, 2 * x)


def test_eta_makes_the_masked_gram_independent_of_the_masks_size():
    x, mask = rng.standard_normal((3, 5, 6)), rng.uniform(0.2, 1, (5, 6))
    np.testing.assert_allclose(
        kernels.masked_gram(x, mask), kernels.masked_gram(x, 0.5 * mask), rtol=1e-13
    )


# Gradients --------------------------------------------------------------------------------------


def check_gradient(loss, x, gradient):
    """Compare with central differences along random directions; losses are smooth.

    The error of a difference is step^2 f''' / 6 + eps |f| / step, at most 1e-7 of the values here.
    """
    step = 1e-5
    assert gradient.shape == x.shape
    for _ in range(4):
        direction = rng.standard_normal(x.shape)
        difference = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(difference - np.vdot(gradient, direction)) <= 1e-6 * (size + 1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_gram_and_losses(shape):
    x, y = rng.standard_normal((2, *shape))
    d = rng.standard_normal(kernels.gram(x).shape)
    check_gradient(
        lambda v: np.vdot(d, kernels.gram(v, scale=0.3)), x, kernels.gram_backward(d, x, scale=0.3)
    )
    check_gradient(lambda v: 2 * kernels.tv(v), x, kernels.tv_backward(2, x))
    check_gradient(
        lambda v: 3 * kernels.feature_loss(v, y, scale=0.5),
        x,
        kernels.feature_loss_backward(3.0, x, y, scale=0.5),
    )
    for own in own_masks(shape):
        m = random_mask(shape, own)
        check_gradient(
            lambda v, m=m: np.vdot(d, kernels.masked_gram(v, m)),
            x,
            kernels.masked_gram_backward(d, x, m),
        )
        check_gradient(
            lambda v, m=m: kernels.masked_feature_loss(v, y, m),
            x,
            kernels.masked_feature_loss_backward(1, x, y, m),
        )


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("shape", [(3, 13, 15), (2, 5, 12, 14)])
def test_gradient_of_laplacian(shape, pool):
    x = rng.standard_normal(shape)
    d = rng.standard_normal(kernels.laplacian(x, pool).shape)
    gradient = kernels.laplacian_backward(d, x, pool)
    check_gradient(lambda v: np.vdot(d, kernels.laplacian(v, pool)), x, gradient)
    left_over = shape[-2] - shape[-2] % pool
    assert not gradient[..., left_over:, :].any()


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_adain(shape, unbiased):
    x, d = rng.standard_normal((2, *shape))
    settings = {"unbiased": unbiased, "epsilon": 1e-3}
    for style in (rng.standard_normal((shape[-3], 4, 5)), rng.standard_normal((*shape[:-2], 3, 4))):
        for strength in (None, *(random_mask(shape, own) for own in own_masks(shape))):
            dx, dstyle = kernels.adain_backward(d, x, style, strength, **settings)

            def loss(content, style, strength=strength):
                return np.vdot(d, kernels.adain(content, style, strength, **settings))

            check_gradient(lambda v, s=style, loss=loss: loss(v, s), x, dx)
            check_gradient(lambda v, loss=loss: loss(x, v), style, dstyle)


# Arguments --------------------------------------------------------------------------------------

X = np.ones((3, 8, 9))
BAD = [
    (
        lambda: kernels.gram(np.ones((8, 9))),
        r"features: has shape \(8, 9\); it must be \(C, H, W\)",
    ),
    (lambda: kernels.gram(np.ones((3, 0, 9))), "features: .* none of them 0"),
    (lambda: kernels.gram(X + 1j), "features: dtype complex128"),
    (lambda: kernels.gram(np.full_like(X, np.nan)), "features: has NaN"),
    (lambda: kernels.gram([["a"]]), "features: dtype"),
    (lambda: kernels.gram(X, scale=np.inf), "scale: has NaN or infinite"),
    (lambda: kernels.gram(X, scale=[1, 2]), r"scale: has shape \(2,\); it must be one number"),
    (lambda: kernels.gram_backward(np.ones((3, 4)), X), r"gradient: .* of the result, \(3, 3\)"),
    (lambda: kernels.masked_gram(X, np.zeros((8, 9))), "mask: has the mean 0"),
    (lambda: kernels.masked_gram(X, np.ones((9, 8))), r"mask: has shape \(9, 8\).*\(8, 9\)"),
    (lambda: kernels.masked_gram(X, np.full((8, 9), np.inf)), "mask: has NaN or infinite"),
    (lambda: kernels.feature_loss(X, X[:, 1:]), r"target: has shape \(3, 7, 9\)"),
    (lambda: kernels.feature_loss_backward(X, X, X), "gradient: has shape .* must be one number"),
    (lambda: kernels.laplacian(X, pool=3), "pool: 3 leaves less than 3 x 3 of 8 x 9.* at most 2"),
    (lambda: kernels.laplacian(X, pool=0), "pool: 0 must be a whole number"),
    (lambda: kernels.laplacian(X, pool=[]), "pool: "),
    (lambda: kernels.laplacian(X, pool=1.5), "pool: 1.5"),
    (lambda: kernels.laplacian_backward([X], X, pool=[1, 2]), "gradient: has 1 arrays"),
    (lambda: kernels.adain(X, X[:2]), r"style: has shape \(2, 8, 9\).*the 3 channels"),
    (lambda: kernels.adain(X, np.ones((2, 3, 8, 9))), "style: .*one picture or 1"),
    (lambda: kernels.adain(X, X, np.ones((4, 4))), "strength: has shape"),
    (lambda: kernels.adain(X, X, epsilon=0), "epsilon=0"),
    (lambda: kernels.adain(X[:, :1, :1], X), "unbiased=1 divides by H W - 1"),
    (lambda: kernels.adain_backward(X[:, 1:], X, X), r"gradient: .* of the result, \(3, 8, 9\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_overflow_is_no_silent_infinity():
    huge = np.full((2, 4, 4), 1e30, np.float32)
    with pytest.raises(NumericalError, match="gram: the result overflows"):
        kernels.gram(huge)
    assert np.isfinite(kernels.gram(huge.astype(np.float64))).all()


def test_other_dtypes_become_float32():
    x = rng.integers(0, 255, (3, 5, 5), np.uint8)
    result = kernels.gram(x)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, kernels.gram(x.astype(np.float32)))
    assert kernels.gram(np.asfortranarray(x.astype(np.float64))[:, ::2]).dtype == np.float64


def test_threads_share_compiled_kernels():
    xs = rng.standard_normal((8, 4, 20, 20))
    expected, found = [kernels.gram(x) for x in xs], [None] * len(xs)

    def work(i):
        for _ in range(20):
            found[i] = kernels.gram(xs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


def send_gram(connection, x):
    connection.send(kernels.gram(x))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_compiles_its_own():
    x = rng.standard_normal((20, 9, 9)).astype(np.float32)
    expected = kernels.gram(x)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=send_gram, args=(sender, x))
    child.start()
    assert receiver.poll(30)
    np.testing.assert_array_equal(receiver.recv(), expected)
    child.join(30)
    assert child.exitcode == 0


def test_public_name():
    assert ds.kernels is kernels
    assert all(callable(getattr(ds.kernels, name)) for name in ds.kernels.__all__)
