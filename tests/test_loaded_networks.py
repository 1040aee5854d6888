"""Networks called on arrays: values and gradients against float64, errors."""

import threading

import numpy as np
import pytest

from depthstyle import Busy, WeightsError, _core, networks, weights

SQUEEZENET_SHAPES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
SQUEEZENET_SHAPES |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}


def conv(rng, key, out, inputs, k):
    scale = np.sqrt(2 / (inputs * k * k))
    weight = rng.standard_normal((out, inputs, k, k)) * scale
    bias = 0.1 * rng.standard_normal(out)
    return {f"{key}.weight": weight.astype("f4"), f"{key}.bias": bias.astype("f4")}


def squeezenet():
    rng = np.random.default_rng(0)
    arrays = conv(rng, "features.0", 64, 3, 3)
    for index, (inputs, squeezed, expanded) in SQUEEZENET_SHAPES.items():
        key = f"features.{index}"
        arrays |= conv(rng, f"{key}.squeeze", squeezed, inputs, 1)
        arrays |= conv(rng, f"{key}.expand1x1", expanded, squeezed, 1)
        arrays |= conv(rng, f"{key}.expand3x3", expanded, squeezed, 3)
    return arrays | conv(rng, "classifier.1", 10, 512, 1)


def narrow_vgg():
    rng, arrays, inputs = np.random.default_rng(1), {}, 3
    for index, out in zip(
        [0, 2, 5, 7, 10, 12, 14, 16, 19], [8, 8, 9, 9, 10, 10, 11, 11, 12], strict=True
    ):
        arrays |= conv(rng, f"features.{index}", out, inputs, 3)
        inputs = out
    return arrays


CASES = {
    "squeezenet1_1": (squeezenet, (2, 3, 35, 41), ("features.3", "fire9")),
    "encoder": (narrow_vgg, (3, 3, 19, 17), ("relu1_2", "features.20")),
}


def make(name, tmp_path):
    from safetensors.numpy import save_file

    arrays = CASES[name][0]()
    save_file(arrays, tmp_path / "net.safetensors")
    return networks.load(name, tmp_path / "net.safetensors"), arrays


def float64_values(name, x, names):
    """Feature maps by the reference kernels in float64."""
    graph = _core.Graph()
    node = graph.input("x", x.shape, kind="map")
    arrays = {key: array.astype("f8") for key, array in CASES[name][0]().items()}
    maps = networks.build(name).features(graph, node, arrays, names)
    plan = graph.compile([maps[n] for n in names], backend="ref", dtype="float64")
    return plan.run({"x": x.astype("f8")})


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_float64(name, tmp_path):
    _, shape, names = CASES[name]
    net, _ = make(name, tmp_path)
    x = np.random.default_rng(2).standard_normal(shape).astype("f4")
    found = net(x, outputs=names)
    assert list(found) == list(names)
    for layer, wanted in zip(names, float64_values(name, x, names), strict=True):
        assert found[layer].dtype == np.float32
        # a sum of up to 4608 products, through up to 26 layers
        np.testing.assert_allclose(found[layer], wanted, atol=2e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(net(x), found[names[-1]])


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_slope_in_float64(name, tmp_path):
    _, shape, names = CASES[name]
    net, _ = make(name, tmp_path)
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape).astype("f4")
    dy = {n: rng.standard_normal(y.shape).astype("f4") for n, y in net(x, outputs=names).items()}
    gradient = net.gradient(x, dy)
    assert gradient.dtype == np.float32
    assert gradient.shape == shape
    for _ in range(4):
        direction, step = rng.standard_normal(shape), 1e-6

        def loss(t, direction=direction):
            maps = float64_values(name, x.astype("f8") + t * direction, names)
            return sum(np.sum(y * dy[n]) for n, y in zip(names, maps, strict=True))

        slope = (loss(step) - loss(-step)) / (2 * step)
        found = np.sum(gradient * direction)
        assert abs(found - slope) <= 1e-4 * np.linalg.norm(gradient) * np.linalg.norm(direction)
    single = net.gradient(x, dy[names[-1]])
    np.testing.assert_array_equal(single, net.gradient(x, {names[-1]: dy[names[-1]]}))


def test_sizes_take_turns_in_a_bounded_cache(tmp_path):
    net, _ = make("encoder", tmp_path)
    rng = np.random.default_rng(4)
    inputs = [rng.standard_normal((1, 3, 8 + i, 9)).astype("f4") for i in range(7)]
    first = [net(x) for x in inputs]
    for x, wanted in zip(inputs, first, strict=True):
        np.testing.assert_array_equal(net(x), wanted)
    assert len(net._plans) <= 4


def test_every_array_is_left_as_it_was(tmp_path):
    net, _ = make("encoder", tmp_path)
    x = np.random.default_rng(5).standard_normal((1, 3, 9, 20)).astype("f4")
    y = net(x)
    before, kept = x.copy(), y.copy()
    net.gradient(x, y)
    net(x + 1)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, kept)
    wide = np.repeat(x, 2, axis=3)[..., ::2]
    np.testing.assert_array_equal(net(wide), y)


def test_classifier_stays_in_the_file(tmp_path):
    net, arrays = make("squeezenet1_1", tmp_path)
    assert set(net.weights) == {key for key in arrays if key.startswith("features.")}


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((1, 3, 9, 9)), "x: type float64, expected float32"),
        (np.zeros((3, 9, 9), "f4"), r"x: shape \(3, 9, 9\), expected \(N, 3, H, W\)"),
        (np.zeros((1, 1, 9, 9), "f4"), r"expected \(N, 3, H, W\)"),
        (np.zeros((0, 3, 9, 9), "f4"), r"expected \(N, 3, H, W\)"),
        (np.zeros((1, 3, 9, 7), "f4"), "x: 9x7 pixels, relu4_1 of encoder need at least 8x8"),
        (np.full((1, 3, 9, 9), np.nan, "f4"), "x: holds NaN"),
    ],
)
def test_wrong_inputs(x, words, tmp_path):
    net, _ = make("encoder", tmp_path)
    for use in (net, lambda x: net.gradient(x, np.zeros((1, 12, 1, 1), "f4"))):
        with pytest.raises(ValueError, match=words):
            use(x)


def test_wrong_names_and_gradients(tmp_path):
    net, _ = make("encoder", tmp_path)
    x = np.zeros((1, 3, 9, 9), "f4")
    with pytest.raises(ValueError, match=r"layer .features\.99.: encoder has none"):
        net(x, outputs=["features.99"])
    for none in ([], "relu1_1"):
        with pytest.raises(ValueError, match="give a list of one or more names"):
            net(x, outputs=none)
    with pytest.raises(ValueError, match=r"dy: shape \(1, 12, 2, 1\), the output has"):
        net.gradient(x, np.zeros((1, 12, 2, 1), "f4"))
    with pytest.raises(ValueError, match=r"dy\['relu1_1'\]: type float64"):
        net.gradient(x, {"relu1_1": np.zeros((1, 8, 9, 9))})


def test_files_of_another_network_are_refused(tmp_path):
    make("encoder", tmp_path)
    for name in ("vgg19", "vgg16", "squeezenet1_1"):
        with pytest.raises(WeightsError, match=rf"net\.safetensors: not the weights of {name}; "):
            networks.load(name, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="network 'resnet': unknown"):
        networks.load("resnet", tmp_path / "net.safetensors")


def test_two_networks_on_two_threads_give_the_same_bytes():
    arrays = weights.embedded()
    x = np.random.default_rng(6).standard_normal((1, 3, 40, 40)).astype("f4")
    wanted = networks.load("encoder", arrays)(x)
    found = [None, None]

    def work(i):
        found[i] = networks.load("encoder", arrays)(x)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found:
        np.testing.assert_array_equal(y, wanted)


def test_one_network_on_several_threads_is_right_or_busy():
    net = networks.load("encoder", weights.embedded())
    x = np.random.default_rng(7).standard_normal((1, 3, 64, 64)).astype("f4")
    wanted, right = net(x), []

    def work():
        for _ in range(10):
            try:
                right.append(np.array_equal(net(x), wanted))
            except Busy:
                continue

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right
    assert all(right)
