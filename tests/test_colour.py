"""Colour-keeping: luminance transfer, and mean and covariance matching."""

import numpy as np
import pytest

import depthstyle as ds


@pytest.fixture
def pictures():
    rng = np.random.default_rng(3)
    mix = rng.uniform(-1, 1, (3, 3))
    style = np.clip(0.5 + 0.05 * rng.standard_normal((30, 20, 3)) @ mix, 0, 1)
    content = np.clip(0.45 + 0.04 * rng.standard_normal((25, 40, 3)) @ mix[::-1], 0, 1)
    return style.astype(np.float32), content.astype(np.float32)


def covariance(image):
    return np.cov(image.reshape(-1, 3).astype(np.float64), rowvar=False, ddof=0)


def test_match_colour_gives_mean_and_covariance(pictures):
    style, content = pictures
    got = ds.match_colour(style, content)
    assert got.shape == style.shape
    assert got.min() > 0 and got.max() < 1, "a clipped picture could not match exactly"
    np.testing.assert_allclose(got.mean((0, 1)), content.mean((0, 1)), atol=1e-6)
    # float32 pictures: each product of deviations carries a few 1e-8.
    np.testing.assert_allclose(covariance(got), covariance(content), atol=1e-7)


def test_match_colour_of_itself_changes_nothing(pictures):
    style, _ = pictures
    np.testing.assert_allclose(ds.match_colour(style, style), style, atol=1e-5)


@pytest.mark.parametrize("shade", [0.0, 0.4, 1.0])
def test_match_colour_of_one_colour_is_finite(pictures, shade):
    style, content = pictures
    flat = np.full((5, 6, 3), shade, np.float32)
    mean = np.broadcast_to(content.mean((0, 1)), flat.shape)
    np.testing.assert_allclose(ds.match_colour(flat, content), mean, atol=1e-6)
    np.testing.assert_allclose(ds.match_colour(style, flat), shade, atol=1e-6)


def test_match_luminance_takes_luminance_and_keeps_colour(pictures):
    style, content = pictures
    pastiche = style[:25, :15].repeat(3, axis=1)[:, :40]
    got = ds.match_luminance(content, pastiche)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(got @ luma, pastiche @ luma, atol=1e-6)
    chroma = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    np.testing.assert_allclose(got @ chroma.T, content @ chroma.T, atol=1e-6)


def test_match_luminance_needs_one_size(pictures):
    style, content = pictures
    with pytest.raises(ds.ImageError, match=r"pastiche: shape .* must be the content's"):
        ds.match_luminance(content, style)
