"""Sessions: steps, weights, stages, masks, reproducibility, and what is refused before the work."""

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import losses
from depthstyle.presets import PRESETS

SIZE = (37, 53)  # two primes: nothing divides evenly
CONTENT, STYLE = seeded.picture(1, *SIZE), seeded.picture(2, 44, 31)
DEPTH = seeded.depth(*SIZE)


@pytest.fixture(scope="module")
def weights():
    return seeded.encoder_weights()


@pytest.fixture
def session(weights):
    def make(**options):
        content, style = options.pop("content", CONTENT), options.pop("style", STYLE)
        return ds.Session(content, style, **{"weights": weights, "iterations": 3, **options})

    return make


def test_steps_lower_the_loss_and_record_it(session):
    run = session(tv_weight=0.01, laplacian_weight=0.1, scales=1)
    run.step(4)
    image = run.step(6)
    assert run.iteration == 10
    assert set(run.losses) == {"total", "content", "style", "tv", "laplacian"}
    assert all(len(values) == 10 for values in run.losses.values())
    parts = np.sum([values for name, values in run.losses.items() if name != "total"], axis=0)
    np.testing.assert_allclose(run.losses["total"], parts, rtol=1e-5)
    assert run.losses["total"][-1] < 0.5 * run.losses["total"][0]
    assert image.shape == CONTENT.shape
    assert image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1
    np.testing.assert_array_equal(image, run.image)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_seed_gives_the_same_bytes(session, optimizer, threads):
    options = {"init": "noise", "seed": 5, "optimizer": optimizer}
    first = session(**options, threads=1).step(6)
    assert first.tobytes() == session(**options, threads=threads).step(6).tobytes()
    other = session(**{**options, "seed": 6}, threads=threads).step(6)
    assert first.tobytes() != other.tobytes()


def test_steps_in_parts_are_the_same_as_at_once(session):
    parts = session()
    for count in (1, 3, 2):
        parts.step(count)
    assert parts.image.tobytes() == session().step(6).tobytes()


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (31, 16), (23, 41)])
def test_the_result_has_the_size_of_the_content(session, size):
    run = session(content=seeded.picture(1, *size), scales=3)
    for _ in range(run.iterations):
        assert run.image.shape == (*size, 3)
        run.step()


def test_too_small_a_picture_is_refused_with_the_minimum(session):
    with pytest.raises(ds.ImageError, match=r"content: 7x40.*at least 8"):
        session(content=seeded.picture(1, 7, 40))
    session(content=seeded.picture(1, 8, 40)).step()
    with pytest.raises(ds.ImageError, match=r"style: 40x7"):
        session(style=seeded.picture(1, 40, 7))


def test_scales_go_from_coarse_to_fine(session):
    run = session(content=seeded.picture(1, 64, 48), scales=2, iterations=2)
    assert run.iterations == 4
    sizes = []
    for _ in range(5):
        run.step()
        sizes.append(run._picture("image").shape[2:])
    assert sizes == [(32, 24), (32, 24), (64, 48), (64, 48), (64, 48)]


def test_size_sets_the_longer_side(session):
    assert session(size=26).step().shape == (18, 26, 3)


def test_weights_can_change_between_steps(session):
    run = session(scales=1)
    run.step(2)
    run.weights["style"] = 0.0
    run.weights["content"] = 5.0
    run.step(2)
    assert run.losses["style"][1] > 0
    assert run.losses["style"][2:] == [0.0, 0.0]
    assert run.losses["content"][3] < run.losses["content"][2]
    run.weights["stile"] = 1.0
    with pytest.raises(ValueError, match=r"weights\['stile'\]: no such loss.*content, style"):
        run.step()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_best_is_the_picture_of_the_lowest_loss(session, optimizer):
    run = session(optimizer=optimizer, schedule=((0, 1.0),), scales=1)
    pictures = []
    for _ in range(8):
        pictures.append(run.image)
        run.step()
    lowest = int(np.argmin(run.losses["total"]))
    np.testing.assert_array_equal(run.best, pictures[lowest])


def test_adam_follows_its_schedule(session):
    run = session(optimizer="adam", schedule=((0, 0.5), (2, 0.0)), scales=1, iterations=4)
    start, moved, still = run.image, run.step(2), run.step(2)
    assert np.abs(moved - start).max() > 0.01
    np.testing.assert_array_equal(moved, still)


def test_clamp_keeps_adam_in_range(session):
    for clamp in (True, False):
        run = session(optimizer="adam", schedule=((0, 1.0),), scales=1, clamp=clamp)
        run.step(3)
        low, high = run.perception.network.input_range()
        inside = ((run._picture("image") >= low) & (run._picture("image") <= high)).all()
        assert inside == clamp


def test_a_mask_of_ones_changes_no_bit(session):
    plain = session().step(6)
    for masks in ({"style_masks": np.ones(SIZE)}, {"content_mask": np.ones(SIZE)}):
        assert session(**masks).step(6).tobytes() == plain.tobytes()


def test_a_masked_style_leaves_the_other_part_alone(session):
    run = session(
        depth=DEPTH, style_masks="window:0.6..1", content_weight=1e-3, scales=1, iterations=10
    )
    run.step(10)
    moved = np.abs(run.image - CONTENT).mean(axis=(0, 2))
    assert moved[-12:].mean() > 10 * moved[:8].mean()


def test_each_style_has_its_mask_and_its_loss(session):
    run = session(
        style=[STYLE, CONTENT[::-1]], depth=DEPTH, style_masks=["sigmoid", None],
        style_weight=[1.0, 2.0],
    )  # fmt: skip
    run.step(2)
    assert run.weights == {"content": 0.02, "style 1": 1.0, "style 2": 2.0}
    assert len(run.losses["style 2"]) == 2


def test_depth_may_have_another_resolution(session):
    fine = np.repeat(np.repeat(DEPTH, 2, axis=0), 2, axis=1)
    expected = session(depth=DEPTH, style_masks="sigmoid").step(2)
    found = session(depth=fine, style_masks="sigmoid").step(2)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_masks_may_be_words_arrays_or_functions(session):
    expected = session(depth=DEPTH, style_masks="linear:0.2..1").step(2)
    found = session(depth=DEPTH, style_masks=lambda depth: 0.2 + 0.8 * depth).step(2)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    session(style_masks=0.2 + 0.8 * DEPTH).step(2)


def test_a_mask_that_vanishes_at_a_layer_is_refused_before_the_work(session):
    mask = np.zeros(SIZE, np.float32)
    mask[0, 0] = 1e-30
    with pytest.raises(
        ValueError, match=r"mask of style: is zero everywhere at layer relu1_1.*eta"
    ):
        session(style_masks=mask)
    with pytest.raises(ValueError, match=r"mask of style 2 at layer relu1_1: is zero everywhere"):
        session(style=[STYLE, STYLE], depth=0.5 * DEPTH, style_masks=[None, "window:0.9..1"])


def test_eta_is_refused_exactly_where_it_is_zero_in_float32():
    losses.check_mask(np.full((2, 2), 1e-20, np.float32), "mask", "relu1_1")
    with pytest.raises(ValueError, match="mask: is zero everywhere at layer relu1_1"):
        losses.check_mask(np.full((2, 2), 1e-25, np.float32), "mask", "relu1_1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "005"}, "preset='005': unknown; choose from size-invariant"),
        ({"colour": 1}, "colour: unknown setting"),
        ({"optimizer": "sgd"}, "optimizer='sgd': choose from lbfgs, adam"),
        ({"init": "zeros"}, "init='zeros'"),
        ({"normalisation": "mean"}, "normalisation='mean': choose from gatys"),
        ({"pooling": "min"}, "pooling='min'"),
        ({"iterations": 0}, "iterations=0: must be a whole number of at least 1"),
        ({"history": 0}, "history=0"),
        ({"iterations": True}, "iterations=True"),
        ({"scales": 1.5}, "scales=1.5"),
        ({"size": -3}, "size=-3"),
        ({"seed": -1}, "seed=-1"),
        ({"content_weight": -1.0}, "content_weight=-1.0: must be a finite number"),
        ({"tv_weight": float("nan")}, "tv_weight=nan"),
        ({"style_weight": [1.0, 2.0]}, "2 weights for 1 styles"),
        ({"style_weight": 0.0, "content_weight": 0.0}, "all weights are 0"),
        ({"schedule": ()}, "schedule"),
        ({"style_layers": ["relu9_1"]}, "layer 'relu9_1': encoder has none"),
        ({"style_layers": "relu1_1"}, "give a list of names"),
        ({"style_masks": "sigmoid"}, "needs a depth map; give depth"),
        ({"style_masks": ["sigmoid", None]}, "2 masks for 1 styles"),
        ({"depth": DEPTH[1:]}, "depth: 36x53 pixels, must have the proportions of .* 37x53"),
        ({"start": STYLE}, "start: 44x31 pixels"),
        ({"preserve_colour": "hue"}, "preserve_colour='hue'"),
        ({"laplacian_weight": 1.0, "laplacian_pools": (4, 16)}, "at least 48"),
        ({"preset": "003"}, "layer 'relu5_1': encoder has none"),
        ({"extra": {"style": print}}, "built-in loss"),
        ({"device": "gpu"}, "device='gpu': choose from auto, cpu, cuda"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_bad_parameters_are_refused_before_the_work(session, options, message):
    with pytest.raises(ValueError, match=message):
        session(**options)


def test_the_presets_of_papers_ask_for_their_weights():
    for name in PRESETS:
        if name[0].isdigit():
            with pytest.raises(ds.WeightsError, match="needs those of"):
                ds.Session(CONTENT, STYLE, preset=name)


def test_diverging_raises_and_keeps_the_last_good_picture(session):
    run = session(optimizer="adam", schedule=((0, 1e30),), clamp=False, scales=1)
    with pytest.raises(ds.NumericalError, match=r"iteration \d: .* loss at \w+ is (nan|inf)") as e:
        run.step(9)
    assert e.value.iteration == run.iteration == len(run.losses["total"])
    assert e.value.layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu3_4")
    np.testing.assert_allclose(run.image, CONTENT, atol=1e-6)


def test_a_loss_of_your_own(session):
    target = np.zeros((1, 3, *SIZE), np.float32)

    def brightness(graph, image, features):
        assert "relu4_1" in features
        return graph.feature_loss(image, graph.constant(target, kind="map"), scale=1 / target.size)

    run = session(extra={"brightness": brightness}, scales=1)
    first = np.square(run.perception.network.to_input(CONTENT)).mean()
    run.step(3)
    assert run.losses["brightness"][0] == pytest.approx(first, rel=1e-5)


def test_preserved_colour(session):
    plain, grey = session().step(3), session(preserve_colour="luminance").step(3)
    np.testing.assert_allclose(grey, ds.match_luminance(CONTENT, plain), atol=1e-6)
    matched = session(style=ds.match_colour(STYLE, CONTENT)).step(3)
    assert session(preserve_colour="covariance").step(3).tobytes() == matched.tobytes()


def test_recipe_tells_what_was_done(session):
    run = session(seed=3)
    run.step(2)
    assert run.recipe["network"] == "encoder"
    assert run.recipe["iteration"] == 2
    assert run.recipe["style_layers"] == {f"relu{i}_1": 1.0 for i in (1, 2, 3, 4)}


def test_a_gradient_that_is_not_finite_is_refused(session):
    def flat(graph, image, features):
        return graph.sum_to(graph.moments(graph.affine(image, scale=0.0), epsilon=1e-40))

    run = session(optimizer="adam", scales=1, extra={"flat": flat})
    run.weights["flat"] = 0.0
    good = run.step(2)
    run.weights["flat"] = 1e38
    with pytest.raises(ds.NumericalError, match="iteration 2: the gradient is not finite") as e:
        run.step()
    assert e.value.layer == "gradient" and run.iteration == 2
    np.testing.assert_array_equal(run.image, good)


def test_a_picture_that_is_not_finite_is_refused(session):
    run = session(optimizer="adam", scales=1)
    good = run.step(2)
    step = run._optimiser.step

    def spoil(*arguments):
        seen = step(*arguments)
        run._optimiser._plan.set("image", np.full((1, 3, *SIZE), np.nan, np.float32))
        return seen

    run._optimiser.step = spoil
    with pytest.raises(ds.NumericalError, match="iteration 2: the gradient is not finite"):
        run.step()
    assert run.iteration == 2 == len(run.losses["total"])
    np.testing.assert_array_equal(run.image, good)
