import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from depthstyle.styles import STYLE_NAMES, make_style

SIZE = 128


def coherence(picture):
    """Mean orientation coherence of the structure tensor: 0 without direction, 1 for stripes."""
    rise_y, rise_x = np.gradient(picture.mean(axis=2))
    products = (rise_x * rise_x, rise_y * rise_y, rise_x * rise_y)
    xx, yy, xy = (gaussian_filter(product, 5.0) for product in products)
    return float(np.mean(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-12)))


def low_frequency_share(picture):
    """Share of the variance that survives a blur; white noise keeps about 1 / (16 pi)."""
    grey = picture.mean(axis=2)
    return float(gaussian_filter(grey, 2.0).var() / grey.var())


@pytest.fixture(scope="module")
def pictures():
    return {name: make_style(name, size=SIZE, seed=3) for name in STYLE_NAMES}


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).random((SIZE, SIZE, 3))


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_shape_type_and_range(pictures, name):
    picture = pictures[name]
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1
    assert picture.std() > 0.1


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_same_arguments_give_the_same_bytes(pictures, name):
    assert make_style(name, size=SIZE, seed=3).tobytes() == pictures[name].tobytes()


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_another_seed_gives_another_picture(pictures, name):
    other = make_style(name, size=SIZE, seed=4)
    assert np.abs(other - pictures[name]).mean() > 0.05


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_pictures_are_not_noise(pictures, noise, name):
    assert low_frequency_share(pictures[name]) > 4 * low_frequency_share(noise)


@pytest.mark.parametrize("name", ["swirls", "hatching"])
def test_strokes_share_a_local_direction(pictures, noise, name):
    assert coherence(pictures[name]) > 2 * coherence(noise)


def test_styles_differ_in_mean_colour(pictures):
    colours = [picture.mean(axis=(0, 1)) for picture in pictures.values()]
    for i, first in enumerate(colours):
        for second in colours[i + 1 :]:
            assert np.abs(first - second).max() > 0.05


@pytest.mark.parametrize("size", [32, 37, 101])
@pytest.mark.parametrize("name", STYLE_NAMES)
def test_odd_sizes(name, size):
    picture = make_style(name, size=size)
    assert picture.shape == (size, size, 3)
    assert np.isfinite(picture).all()


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"name.*'oil'.*swirls.*hatching.*dabs.*mosaic"):
        make_style("oil")


def test_bad_size_and_seed_are_named():
    with pytest.raises(ValueError, match=r"size.*31.*at least 32"):
        make_style("swirls", size=31)
    with pytest.raises(ValueError, match=r"seed.*-1"):
        make_style("swirls", seed=-1)
