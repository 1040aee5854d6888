"""Networks: layers by every name, keys and shapes, smallest sizes, input ranges."""

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import _core, networks
from depthstyle.weights import embedded, load


def build(name, weights, size, layers, pooling="max"):
    network = networks.build(name)
    graph = _core.Graph()
    image = graph.input("image", (1, 3, *size), kind="map")
    return network.features(graph, image, weights, layers, pooling)


PUBLISHED = {
    # features.N of torchvision: name and shape of its map for a picture of 37 x 50 pixels
    "vgg16": {15: ("relu3_3", 256, 9, 12), 16: ("pool3", 256, 4, 6), 18: ("relu4_1", 512, 4, 6)},
    "vgg19": {17: ("relu3_4", 256, 9, 12), 18: ("pool3", 256, 4, 6), 20: ("relu4_1", 512, 4, 6)},
    "squeezenet1_1": {1: ("relu1", 64, 18, 24), 4: ("fire3", 128, 9, 12), 7: ("fire5", 256, 4, 6)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers_have_the_published_indices_and_sizes(name):
    expected = {f"features.{index}": layer for index, layer in PUBLISHED[name].items()}
    maps = build(name, seeded.weights(name), (37, 50), expected)
    for alias, (layer, *shape) in expected.items():
        assert networks.build(name).layer(alias) == layer
        assert maps[alias].shape == (1, *shape)


def test_an_odd_squeezenet_map_is_rounded_up():
    maps = build("squeezenet1_1", seeded.weights("squeezenet1_1"), (192, 192), ["relu1", "fire3"])
    assert maps["relu1"].shape[2:] == (95, 95)
    assert maps["fire3"].shape[2:] == (47, 47)


FEATURE_NETWORKS = [
    name for name in networks.names() if isinstance(networks.build(name), networks.FeatureNetwork)
]


@pytest.mark.parametrize("name", FEATURE_NETWORKS)
def test_each_layer_has_a_pixel_at_its_minimum_size_and_none_below(name):
    network = networks.build(name)
    weights = {
        "encoder": seeded.encoder_weights,
        "vgg19-caffe": caffe_weights,
        "adain-encoder": lambda: seeded.adain_weights()[0],
    }.get(name, lambda: seeded.weights(name))()
    # a convolution that pads by reflection needs a second pixel
    pixels = 2 if name == "adain-encoder" else 1
    for layer in network.layers:
        if layer.endswith("_1") or layer.startswith(("pool", "fire")):
            least = network.minimum_size([layer])
            shape = build(name, weights, (least, least), [layer])[layer].shape
            assert min(shape[2:]) == (1 if layer.startswith("pool") else pixels), layer
            if least > 1:
                with pytest.raises(ValueError, match=r"pool|conv2d|kernel"):
                    build(name, weights, (least - 1, least), [layer])


def caffe_weights():
    """VGG19's weights under the names of the Caffe model."""
    indices = networks.build("vgg19").aliases
    found = {}
    for key, value in seeded.weights("vgg19").items():
        alias, _, kind = key.rpartition(".")
        found[f"{indices[alias]}.{kind}"] = value
    return found


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "squeezenet1_1"])
def test_weights_are_recognised(name):
    weights = seeded.weights(name)
    if name == "vgg16":  # the whole file has conv4_1 where VGG19 has conv3_4
        assert "features.16.weight" not in weights
    assert networks.identify(weights).name == name


def test_other_weights_are_recognised():
    assert networks.identify(seeded.encoder_weights()).name == "encoder"
    assert networks.identify(embedded()).name == "encoder"
    assert networks.identify({"conv1_1.weight": np.zeros((64, 3, 3, 3))}).name == "vgg19-caffe"
    with pytest.raises(ds.WeightsError, match=r"no known network has keys such as layer\.a"):
        networks.identify({"layer.a": np.zeros(1)})


def test_a_missing_or_misshapen_key_is_named():
    weights = seeded.encoder_weights()
    missing = {key: value for key, value in weights.items() if key != "features.5.bias"}
    with pytest.raises(ds.WeightsError, match=r"features\.5\.bias: missing"):
        build("encoder", missing, (32, 32), ["relu2_1"])
    wrong = {**weights, "features.5.weight": np.zeros((32, 16, 5, 5), np.float32)}
    with pytest.raises(
        ds.WeightsError, match=r"features\.5\.weight: shape \(32, 16, 5, 5\), expec"
    ):
        build("encoder", wrong, (32, 32), ["relu2_1"])
    with pytest.raises(ds.WeightsError, match=r"features\.0\.weight: shape .* expected \(64, 3"):
        build("vgg19", weights, (32, 32), ["relu1_1"])


def test_weights_of_deeper_layers_may_be_missing():
    weights = seeded.encoder_weights()
    shallow = {key: value for key, value in weights.items() if int(key.split(".")[1]) <= 5}
    assert build("encoder", shallow, (32, 32), ["relu2_1"])["relu2_1"].shape == (1, 32, 16, 16)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="'vgg11': unknown; choose from encoder"):
        networks.build("vgg11")
    with pytest.raises(ValueError, match=r"'relu6_1': vgg16 has none.*relu5_3"):
        networks.build("vgg16").layer("relu6_1")
    with pytest.raises(ValueError, match="pooling='sum'"):
        build("encoder", seeded.encoder_weights(), (32, 32), ["relu2_1"], "sum")


def test_average_pooling_averages():
    weights = seeded.encoder_weights()
    network, x = networks.build("encoder"), seeded.picture(0, 10, 12)
    found = {}
    for pooling in ("max", "average"):
        graph = _core.Graph()
        image = graph.constant(network.to_input(x), kind="map")
        maps = network.features(graph, image, weights, ["relu1_2", "pool1"], pooling)
        before, found[pooling] = graph.compile(list(maps.values())).run()
    windows = before.reshape(1, 16, 5, 2, 6, 2)
    np.testing.assert_array_equal(found["max"], windows.max((3, 5)))
    np.testing.assert_allclose(found["average"], windows.mean((3, 5)), rtol=1e-6)


@pytest.mark.parametrize("name", ["vgg19", "vgg19-caffe"])
def test_input_range_and_back(name):
    network, image = networks.build(name), seeded.picture(0, 5, 7)
    planes = network.to_input(image)
    assert planes.shape == (1, 3, 5, 7)
    np.testing.assert_allclose(network.from_input(planes), image, atol=1e-6)
    red = network.to_input(np.array([[[1, 0, 0]]], np.float32)).ravel()
    if name == "vgg19":
        np.testing.assert_allclose(red, [0.515 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)
    else:
        np.testing.assert_allclose(red, [-103.939, -116.779, 255 - 123.68], rtol=1e-5)


def test_embedded_encoder_reaches_relu4_1():
    maps = build("encoder", embedded(), (24, 16), ["relu1_1", "relu4_1"])
    assert maps["relu1_1"].shape == (1, 16, 24, 16)
    assert maps["relu4_1"].shape == (1, 128, 3, 2)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ds.WeightsError, match="no such file"):
        load(tmp_path / "gone.safetensors")
    path = tmp_path / "text.safetensors"
    path.write_text("not weights")
    with pytest.raises(ds.WeightsError, match=r"text\.safetensors"):
        load(path)
