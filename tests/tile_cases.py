"""Networks for the kernels on bf16 tiles: what the tables of ops do not reach.

Everything is an integer, so that sums are exact in any order and each result is the definition's,
to the bit. Those of maps and weights are small, those of images too large for one bf16.
"""

import functools

import numpy as np
from op_cases import IMAGE_CHANNELS

from depthstyle import _core

# channels in and out, height, width, kernel, attributes of the convolution
Convolution = tuple[int, int, int, int, int, dict]
CONVOLUTIONS: dict[str, Convolution] = {
    "ladders, tails of rows, columns and channels": (40, 72, 13, 21, 3, {"pad": 1}),
    "segments of a wide map": (64, 32, 9, 1100, 3, {"pad": 1}),
    "several blocks of channels": (96, 136, 6, 18, 3, {"pad": 1}),
    "no border": (32, 48, 11, 37, 3, {}),
    "reflected border": (40, 32, 9, 19, 3, {"pad": 1, "pad_mode": "reflect"}),
    "strided": (40, 72, 15, 35, 3, {"pad": 1, "stride": 2}),
    "strided far": (8, 20, 17, 40, 5, {"pad": 2, "stride": 3}),
    "dilated": (33, 24, 15, 20, 3, {"pad": 2, "dilation": 2}),
    "strided and dilated": (16, 16, 15, 20, 3, {"pad": 2, "dilation": 2, "stride": 2}),
    "large kernel": (24, 40, 12, 19, 7, {"pad": 3}),
    "1x1 where it lies": (40, 80, 12, 20, 1, {}),
    "1x1 with a tail": (40, 80, 7, 9, 1, {}),
    "1x1 strided": (72, 40, 11, 23, 1, {"stride": 2}),
    "image in": (3, 40, 14, 37, 3, {"pad": 1}),
    "image in, large kernel": (4, 24, 15, 21, 9, {"pad": 4, "pad_mode": "reflect"}),
    "image in, strided": (3, 64, 17, 39, 7, {"pad": 3, "stride": 2}),
    "image in, dilated": (3, 16, 17, 25, 3, {"pad": 6, "dilation": 6}),
    "image in, one channel": (1, 33, 11, 50, 7, {"pad": 3, "pad_mode": "reflect"}),
    "image in, two channels": (2, 16, 13, 19, 9, {"pad": 4, "stride": 2}),
    "image in, small and strided": (4, 8, 13, 35, 3, {"pad": 1, "stride": 2}),
    "image out": (40, 3, 13, 37, 3, {"pad": 1}),
    "image out, large kernel": (32, 1, 15, 21, 9, {"pad": 4, "pad_mode": "reflect"}),
}
ACTIVATIONS = ("relu", "leaky_relu", "relu6")
# How a convolution of maps begins and ends.
ENDS = (*ACTIVATIONS, "addend", "enlarged", "bordered", "both")


def integers(rng: np.random.Generator, shape: tuple[int, ...], most: int = 2) -> np.ndarray:
    """Return float32 integers from -most to most."""
    return rng.integers(-most, most + 1, shape).astype(np.float32)


def values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the integers of a map or an image."""
    return integers(rng, shape, most=999 if shape[1] <= IMAGE_CHANNELS else 2)


def begin(graph, x, end: str):
    """Return what the convolution reads: x, activated, enlarged or with a border."""
    if end in ACTIVATIONS:
        return graph.activation(x, kind=end, alpha=0.25)
    if end in ("enlarged", "both"):
        x = graph.resize(x, h=2 * x.shape[2], w=2 * x.shape[3], mode="nearest")
    if end in ("bordered", "both"):
        mode = "replicate" if end == "bordered" else "reflect"
        x = graph.pad(x, top=2, bottom=1, left=3, right=0, mode=mode)
    return x


def network(convolution: Convolution, end: str = "relu", constant: bool = True, core=_core):
    """Return a graph, its outputs (result, gradient to the input) and what to feed it."""
    rng = np.random.default_rng(11)
    channels, out, height, width, kernel, attrs = convolution
    graph = core.Graph()
    feed = {"x": values(rng, (2, channels, height, width))}
    x = graph.input("x", feed["x"].shape)
    # The definition rounds before it adds: those sums have to fit bf16.
    weight = integers(rng, (out, channels, kernel, kernel), most=1 if end == "addend" else 2)
    bias = graph.constant(integers(rng, (1, out, 1, 1)))
    if constant:
        w = graph.constant(weight)
    else:
        feed["w"] = weight
        w = graph.input("w", weight.shape, "plain")
    if end in ("bordered", "both"):
        attrs = {name: value for name, value in attrs.items() if name != "pad"}
    y = graph.conv2d(begin(graph, x, end), w, bias, **attrs)

    def weighted(node, name):
        feed[name] = values(rng, node.shape)
        return graph.multiply(node, graph.input(name, node.shape))

    if end == "addend":
        feed["addend"] = integers(rng, y.shape)
        y = graph.add(y, graph.input("addend", y.shape))
    elif end in ACTIVATIONS:
        y = graph.activation(y, kind=end, alpha=0.25)
    loss = graph.sum_to(weighted(y, "seed"))
    if end == "addend":
        loss = graph.add(loss, graph.sum_to(weighted(x, "x_seed")))
    return graph, [y, *graph.gradient(loss, [x])], feed


# channels, height, width: fewer pixels than a chunk, several strips, tails of both, shared out rows
GRAMS = [(40, 5, 7), (72, 33, 50), (33, 64, 80), (128, 16, 16), (264, 21, 62)]


def gram(channels: int, height: int, width: int, core=_core):
    """Return a Gram matrix of two maps: graph, outputs (matrix, gradient to the map), feed."""
    rng = np.random.default_rng(13)
    graph = core.Graph()
    feed = {"x": integers(rng, (2, channels, height, width))}
    x = graph.input("x", feed["x"].shape)
    g = graph.gram(x, scale=0.5)
    feed["seed"] = integers(rng, g.shape)
    loss = graph.sum_to(graph.multiply(g, graph.input("seed", g.shape, "plain")))
    return graph, [g, *graph.gradient(loss, [x])], feed


def styled(convolution: Convolution, end: str = "relu", bits=(6, 11), core=_core):
    """Return a map's gradient through a convolution and a Gram matrix: graph, outputs, feed.

    ``end`` is what is between the map and its features, or "addend" for a third gradient; features
    and dG + dG' have about so many ``bits``.
    """
    rng = np.random.default_rng(14)
    channels, out, height, width, kernel, attrs = convolution
    graph = core.Graph()
    feed = {"x": integers(rng, (2, channels, height, width), most=2 ** bits[0])}
    x = features = graph.input("x", feed["x"].shape)
    if end in ACTIVATIONS:
        features = graph.activation(x, kind=end, alpha=0.25)

    def weighted(node, name, most=2, kind="map"):
        feed[name] = integers(rng, node.shape, most)
        return graph.sum_to(graph.multiply(node, graph.input(name, node.shape, kind)))

    losses = [weighted(features, "x_seed")] if end == "addend" else []
    weight = graph.constant(integers(rng, (out, channels, kernel, kernel)))
    losses.append(weighted(graph.conv2d(features, weight, **attrs), "y_seed"))
    matrix = graph.gram(features, scale=0.5)
    losses.append(weighted(matrix, "gram_seed", 2 ** bits[1], "plain"))
    return graph, graph.gradient(functools.reduce(graph.add, losses), [x]), feed


def pooled(convolution: Convolution, end: str = "relu", core=_core, **window):
    """Return a gradient through a max pool and a convolution: graph, outputs, what to feed.

    What is pooled has few values, so that windows have several largest ones: the convolution's
    result, which is zero, plus ``addend``. ``end`` is what is between that and the pool.
    """
    rng = np.random.default_rng(16)
    channels, out, height, width, kernel, attrs = convolution
    graph = core.Graph()
    feed = {"x": np.zeros((2, channels, height, width), np.float32)}
    x = graph.input("x", feed["x"].shape)
    weight = graph.constant(integers(rng, (out, channels, kernel, kernel)))
    y = graph.conv2d(x, weight, **attrs)
    feed["addend"] = integers(rng, y.shape)
    y = graph.add(y, graph.input("addend", y.shape))
    if end in ACTIVATIONS:
        y = graph.activation(y, kind=end, alpha=0.25)
    y = graph.max_pool(y, **({"kernel": 2, "stride": 2} | window))
    feed["seed"] = integers(rng, y.shape)
    loss = graph.sum_to(graph.multiply(y, graph.input("seed", y.shape)))
    return graph, graph.gradient(loss, [x]), feed


def gatys(core=_core, pool: str = "avg_pool"):
    """Return an iteration of Gatys: graph, outputs (loss, gradient to the image), what to feed.

    As in VGG, a Gram matrix of each first convolution of two, and a pool behind the second.
    """
    rng = np.random.default_rng(12)
    graph = core.Graph()
    feed = {"image": rng.standard_normal((1, 3, 44, 36)).astype(np.float32)}
    image = x = graph.input("image", feed["image"].shape)
    loss = graph.total_variation(image, scale=1e-3)
    for layer, (channels, previous) in enumerate(((32, 3), (40, 32), (72, 40), (33, 72), (48, 33))):
        weight = rng.standard_normal((channels, previous, 3, 3)) * np.sqrt(2 / (9 * previous))
        bias = rng.standard_normal((1, channels, 1, 1)) / 10
        x = graph.conv2d(x, graph.constant(weight), graph.constant(bias), pad=1)
        x = graph.activation(x)
        if layer % 2:
            x = getattr(graph, pool)(x)
            continue
        gram = graph.gram(x, scale=1 / (x.shape[2] * x.shape[3]))
        target = graph.constant(rng.uniform(0, 1, gram.shape))
        loss = graph.add(loss, graph.feature_loss(gram, target, scale=1 / channels**2))
    target = graph.constant(rng.standard_normal(x.shape), kind="map")
    loss = graph.add(loss, graph.feature_loss(x, target, scale=1e-3))
    return graph, [loss, *graph.gradient(loss, [image])], feed
