"""AdaIN and depth-aware AdaIN against PyTorch (see golden/make_adain.py).

In float64 the reference kernels must agree with PyTorch to rounding. In float32 PyTorch's own
distance from its float64 result is the yardstick, times what Winograd costs (see test_golden.py).
"""

from pathlib import Path

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import _core, networks, weights

FOLDER = Path(__file__).parent / "golden" / "adain"
WINOGRAD = 10
FLOOR = 2 * np.finfo(np.float32).eps
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
ENCODER, DECODER = FOLDER / "encoder.pth", FOLDER / "decoder.pth"


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "values.npz") as file:
        return dict(file)


def planes(seed, height, width):
    return np.ascontiguousarray(seeded.picture(seed, height, width).transpose(2, 0, 1)[None])


def batch():
    return np.concatenate([planes(1, 21, 29), planes(2, 21, 29)])


def close(found, golden, key, dtype="float32"):
    wanted = golden[key]
    assert found.shape == wanted.shape
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    allowed = 1e-11 if dtype == "float64" else WINOGRAD * max(float(golden[f"{key}/error"]), FLOOR)
    assert error <= allowed, key


def test_encoder_takes_and_returns_what_the_published_module_does(golden):
    net = networks.load("adain-encoder", ENCODER)
    maps = net(batch(), outputs=LAYERS)
    for layer, found in maps.items():
        close(found, golden, f"features/{layer}")
    np.testing.assert_array_equal(net(batch()), maps["relu4_1"])
    children = {"3": "relu1_1", "10": "relu2_1", "17": "relu3_1", "30": "relu4_1"}
    by_child = net(batch(), outputs=list(children))
    assert all(np.array_equal(by_child[n], maps[layer]) for n, layer in children.items())
    close(net.gradient(batch(), golden["dy"].astype("f4")), golden, "encoder/gradient")


def test_decoder_takes_and_returns_what_the_published_module_does(golden):
    net = networks.load("adain-decoder", DECODER)
    features = golden["features/relu4_1"].astype("f4")
    close(net(features), golden, "decoder/image")
    close(net.gradient(features, golden["dimage"].astype("f4")), golden, "decoder/gradient")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whole_chain_and_its_gradient(golden, dtype):
    encoder, decoder = networks.build("adain-encoder"), networks.build("adain-decoder")
    f, g = weights.load(ENCODER), weights.load(DECODER)
    graph = _core.Graph()
    content = graph.input("content", (1, 3, 21, 29), kind="map")
    style = graph.constant(planes(2, 24, 19).astype(dtype), kind="map")
    moments = graph.moments(encoder.features(graph, style, f, ["relu4_1"])["relu4_1"])
    features = encoder.features(graph, content, f, ["relu4_1"])["relu4_1"]
    image = decoder.add(graph, graph.adain(features, moments), g, ["image"])["image"]
    dimage = graph.constant(golden["dimage"][:1].astype(dtype), kind="map")
    loss = graph.sum_to(graph.multiply(image, dimage))
    (gradient,) = graph.gradient(loss, [content])
    backend = "ref" if dtype == "float64" else "cpu"
    plan = graph.compile([image, gradient], backend=backend, dtype=dtype)
    found, slope = plan.run({"content": planes(1, 21, 29).astype(dtype)})
    close(found, golden, "adain/image", dtype)
    close(slope, golden, "adain/gradient", dtype)


PICTURES = {
    "adain/image": ("adain", 1, {}),
    "adain/weak": ("adain", 1, {"strength": 0.6}),
    "adain/two": ("adain", 2, {"style_weight": [0.3, 0.7]}),
    "da-adain/image": ("da-adain", 1, {}),
}


@pytest.mark.parametrize("key", PICTURES)
def test_pictures(golden, key):
    method, count, settings = PICTURES[key]
    styles = [seeded.picture(k, 24, 19) for k in (2, 3)][:count]
    depth = {"depth": seeded.depth(21, 29)} if method == "da-adain" else {}
    found = ds.stylize(
        seeded.picture(1, 21, 29),
        styles,
        method,
        weights=ENCODER,
        decoder=DECODER,
        style_size=None,
        precision="fp32",
        **depth,
        **settings,
    )
    wanted = golden[key][0, :, :21, :29].transpose(1, 2, 0)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert error <= WINOGRAD * max(float(golden[f"{key}/error"]), FLOOR)


def test_strength_map(golden):
    found = ds.strength_map(seeded.depth(21, 29), size=(3, 4))
    np.testing.assert_allclose(found, golden["strength"][0, 0], atol=1e-6)
