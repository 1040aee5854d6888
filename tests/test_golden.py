"""Features, losses, gradients and trajectories against PyTorch (see golden/make_gatys.py).

In float64 the reference kernels must agree with PyTorch to rounding. In float32 PyTorch's own
distance from its float64 result is the yardstick: Winograd's F(4x4,3x3) rounds up to ten times as
coarsely as the direct convolution that PyTorch computes (its transforms multiply by up to 2.25
and cancel), and no more is allowed here.
"""

from pathlib import Path

import numpy as np
import pytest
import seeded

from depthstyle import _core, losses, networks
from depthstyle.session import Session

WINOGRAD = 10
# below this, one rounding of one float32 number is what the yardstick measures
FLOOR = 2 * np.finfo(np.float32).eps
NETWORKS = ("vgg16", "vgg19", "squeezenet1_1")
NORMALISATIONS = ("gatys", "johnson", "sum", "size-invariant")
WEIGHTS = {"content": 0.2, "style": 1.0, "tv": 0.1, "laplacian": 0.5}
STEPS = 10
RATE = 0.05
# what one ReLU or max-pool that decides otherwise after rounding changes in an image's gradient
FLIP = 5e-3


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "gatys.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return networks.build(request.param)


@pytest.fixture(scope="module")
def weights(network):
    return seeded.weights(network.name)


def error(found, wanted):
    return np.linalg.norm(np.asarray(found, np.float64) - wanted) / np.linalg.norm(wanted)


def allowed(golden, key, dtype):
    if dtype == "float64":
        return 1e-11
    return WINOGRAD * max(float(golden[f"{key}/error"]), FLOOR)


class Problem:
    """The losses of golden/make_gatys.py, built from this package."""

    def __init__(self, network, weights, dtype, masked):
        self.network, self.weights, self.masked = network, weights, masked
        backend = "ref" if dtype == "float64" else "cpu"
        self.options = {"backend": backend, "dtype": dtype, "threads": 2}
        self.dtype = np.dtype(dtype)
        self.start = self.to_input(seeded.picture(3))
        self.content = self.to_input(seeded.picture(1))
        self.layers = [network.content_layer, *network.style_layers]

    def to_input(self, image):
        mean, std = (np.array(v, self.dtype) for v in (self.network.mean, self.network.std))
        planes = ((image - mean) / std).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(planes, self.dtype)

    def features(self, planes):
        graph = _core.Graph()
        image = graph.variable("image", planes, kind="map")
        maps = self.network.features(graph, image, self.weights, self.layers)
        values = graph.compile(list(maps.values()), **self.options).run()
        return dict(zip(maps, values, strict=True))

    def losses(self):
        """All losses by normalisation in the order of the golden file, and the gradient."""
        content = self.features(self.content)
        style = self.features(self.to_input(seeded.picture(2)))
        grams = {key: self.mean_gram(style[key][0]) for key in self.network.style_layers}
        graph = _core.Graph()
        image = graph.variable("image", self.start, kind="map")
        maps = self.network.features(graph, image, self.weights, self.layers)
        masks = {
            key: seeded.layer_mask(*node.shape[2:]) if self.masked else None
            for key, node in maps.items()
        }
        terms = {}
        for name in NORMALISATIONS:
            norm, key = losses.normalisation(name), self.network.content_layer
            terms[name] = [
                losses.content_loss(graph, maps[key], content[key], norm, mask=masks[key]),
                *(
                    losses.style_loss(graph, maps[key], gram, norm, mask=masks[key])
                    for key, gram in grams.items()
                ),
                losses.total_variation(graph, image, norm),
                losses.laplacian_loss(graph, image, self.content, 4, norm),
            ]
        factors = [WEIGHTS["content"], *[1.0] * len(grams), *list(WEIGHTS.values())[2:]]
        total = None
        for term, factor in zip(terms["size-invariant"], factors, strict=True):
            term = graph.affine(term, scale=factor)
            total = term if total is None else graph.add(total, term)
        outputs = [node for nodes in terms.values() for node in nodes]
        *values, gradient = graph.compile(
            [*outputs, *graph.gradient(total, [image])], **self.options
        ).run()
        rows = np.reshape([value.item() for value in values], (len(terms), -1))
        return dict(zip(terms, rows, strict=True)), gradient

    def mean_gram(self, features):
        rows = features.reshape(len(features), -1)
        return (rows @ rows.T / rows.shape[1])[None, None]


@pytest.fixture(scope="module", params=["float64", "float32"])
def dtype(request):
    return request.param


def test_features(golden, network, weights, dtype):
    problem = Problem(network, weights, dtype, masked=False)
    for layer, found in problem.features(problem.start).items():
        key = f"{network.name}/features/{layer}"
        assert error(found[:, ::16], golden[key]) <= allowed(golden, key, dtype), layer


@pytest.mark.parametrize("kind", ["plain", "masked"])
def test_losses_and_gradient(golden, network, weights, dtype, kind):
    values, gradient = Problem(network, weights, dtype, kind == "masked").losses()
    for normalisation, found in values.items():
        key = f"{network.name}/losses/{normalisation}/{kind}"
        assert error(found, golden[key]) <= allowed(golden, key, dtype), normalisation
    key = f"{network.name}/gradient/{kind}"
    assert error(gradient, golden[key]) <= allowed(golden, key, dtype)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_trajectory(golden, network, weights, optimizer):
    session = Session(
        seeded.picture(1),
        seeded.picture(2),
        weights=weights,
        start=seeded.picture(3),
        optimizer=optimizer,
        schedule=((0, RATE),),
        iterations=STEPS,
        scales=1,
        balance=False,
        precision="fp32",
        **{f"{name}_weight": weight for name, weight in WEIGHTS.items()},
    )
    session.step(STEPS)
    key = f"{network.name}/{optimizer}/losses"
    assert error(session.losses["total"], golden[key]) <= allowed(golden, key, "float32")
    key = f"{network.name}/{optimizer}/image"
    exact = network.from_input(golden[key])
    scale = np.linalg.norm(golden[key] * np.reshape(network.std, (1, 3, 1, 1)))
    bound = allowed(golden, key, "float32")
    if optimizer == "adam":
        # Its steps have the size of the rate whatever the gradient's, so that a flipped decision
        # shows fully; the losses above are compared to rounding all the same.
        bound = max(
            bound, FLIP * STEPS * RATE * np.sqrt(golden[key].size) * np.mean(network.std) / scale
        )
    assert np.linalg.norm(session.image - exact) / scale <= bound
