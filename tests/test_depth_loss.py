"""The depth loss: its value, its gradient to the picture, presets and sessions."""

from dataclasses import replace

import depth_weights
import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import _core, cli, losses, networks
from depthstyle.engine import Engine
from depthstyle.networks.midas_small import MIDAS_SMALL_DEPTH
from depthstyle.networks.monodepth2 import depth_network
from depthstyle.objective import DepthPerception
from depthstyle.presets import PRESETS

SIZE = (37, 53)  # two primes: no resize is by a whole number
CONTENT, STYLE = seeded.picture(1, *SIZE), seeded.picture(2, 44, 31)


@pytest.fixture(scope="module")
def midas_weights():
    return depth_weights.weights("midas-small")


@pytest.fixture(scope="module")
def midas(midas_weights):
    """MiDaS small at a size that the reference kernels can bear."""
    arrays = MIDAS_SMALL_DEPTH.network.prepare(midas_weights)
    return replace(MIDAS_SMALL_DEPTH, input_size=lambda h, w: (32, 64)), arrays


@pytest.fixture(scope="module")
def monodepth():
    arrays = depth_weights.weights("monodepth2")
    network = replace(depth_network(arrays), input_size=lambda h, w: (64, 64))
    return network, network.network.prepare(arrays)


def planes(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float64)


def build(perception, outputs, features, content):
    """Return what gives, in float64, the loss and its gradient of a picture for `features`."""
    network, arrays = perception
    arrays = {key: array.astype(np.float64) for key, array in arrays.items()}
    depth = DepthPerception(network, type(perception[1])(arrays), outputs)
    seen = _core.Graph()
    nodes = depth.add(seen, seen.input("rgb", content.shape, kind="map"))
    plan = seen.compile(list(nodes.values()), backend="ref", dtype="float64")
    targets = dict(zip(nodes, plan.run({"rgb": content}), strict=True))

    graph = _core.Graph()
    x = graph.input("x", content.shape, kind="map")
    outputs_of_x = depth.add(graph, features.add_rgb(graph, x))
    total = None
    for name, weight in outputs.items():
        term = losses.depth_loss(graph, outputs_of_x[name], targets[name], weight=weight)
        total = term if total is None else graph.add(total, term)
    plan = graph.compile(
        [total, *graph.gradient(total, [x]), *outputs_of_x.values()],
        backend="ref",
        dtype="float64",
    )

    def evaluate(array):
        total, gradient, *seen = plan.run({"x": array})
        return total.item(), gradient, dict(zip(outputs_of_x, seen, strict=True)), targets

    return evaluate


CASES = [
    ("midas", "vgg19", {"depth": 1.0}),
    ("midas", "vgg19-caffe", {"layer_1": 1.0, "layer_4": 0.5}),
    ("monodepth", "vgg19", {("disp", 0): 2.0}),
]


@pytest.mark.parametrize(("model", "features", "outputs"), CASES)
def test_gradients_reach_the_picture(request, model, features, outputs):
    """Through normalisation, network, resize and the way back from the other network's range."""
    features = networks.build(features)
    content = planes(CONTENT)
    evaluate = build(request.getfixturevalue(model), outputs, features, content)
    x = features.to_input(seeded.picture(3, *SIZE)).astype(np.float64)
    loss, gradient, seen, targets = evaluate(x)
    expected = sum(w * np.mean((seen[k] - targets[k]) ** 2) for k, w in outputs.items())
    assert loss == pytest.approx(expected, rel=1e-12)
    assert loss > 0
    assert np.count_nonzero(gradient) > 0.99 * gradient.size
    direction, step = np.random.default_rng(4).standard_normal(x.shape), 1e-6
    ahead, behind = evaluate(x + step * direction)[0], evaluate(x - step * direction)[0]
    # The difference of two losses near `loss` carries a few of its float64 roundings.
    rounding = 64 * np.finfo(np.float64).eps * loss / step
    slope = np.sum(gradient * direction)
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=rounding)

    loss, _, seen, _ = evaluate(features.to_input(CONTENT).astype(np.float64))
    # The content itself has no loss but for the float32 of the network's input range.
    assert loss < 1e-11 * sum(np.mean(values**2) for values in seen.values())


@pytest.mark.parametrize("name", ["vgg19", "vgg19-caffe", "encoder"])
def test_back_to_rgb(name):
    features = networks.build(name)
    graph = _core.Graph()
    x = graph.variable("x", features.to_input(CONTENT), kind="map")
    (rgb,) = graph.compile([features.add_rgb(graph, x)]).run({})
    np.testing.assert_allclose(rgb, planes(CONTENT), atol=4e-7)


# Sessions


@pytest.fixture
def session(midas_weights):
    def make(**options):
        options = {
            "weights": seeded.encoder_weights(),
            "depth_network_weights": midas_weights,
            "depth_loss": "output",
            "iterations": 4,
            "scales": 1,
            **options,
        }
        return ds.Session(CONTENT, STYLE, **options)

    return make


@pytest.mark.parametrize("form", ["output", "features"])
def test_alone_it_brings_the_depth_back(session, form):
    """From noise, with nothing but the depth loss, the picture comes to be seen as the content."""
    alone = {"content_weight": 0.0, "style_weight": 0.0, "depth_weight": 1.0}
    run = session(depth_loss=form, init="noise", **alone)
    assert set(run.weights) == {"depth"}
    run.step(8)
    np.testing.assert_allclose(run.losses["depth"], run.losses["total"], rtol=1e-6)
    assert run.losses["depth"][-1] < 0.5 * run.losses["depth"][0]


def test_it_is_a_loss_among_others(session):
    run, plain = session(depth_weight=3.0), session(depth_loss=None, depth_network_weights=None)
    with_depth, without = run.step(4), plain.step(4)
    assert run.weights["depth"] == 3.0
    assert set(run.losses) == {"total", "content", "style", "depth"}
    assert np.abs(with_depth - without).max() > 1e-3
    assert run.recipe["depth_network"] == "midas-small"
    assert run.recipe["depth_loss"] == "output"


def test_balanced_terms_do_not_depend_on_the_networks_scale(session, midas_weights):
    """The size-invariant preset divides by the mean square of what the network sees."""
    louder = dict(midas_weights)
    for part in ("weight", "bias"):
        key = f"scratch.output_conv.4.{part}"
        louder[key] = 100 * louder[key]
    options = {"init": "noise", "seed": 3}
    first, second = session(**options), session(**options, depth_network_weights=louder)
    first.step(), second.step()
    np.testing.assert_allclose(first.losses["depth"], second.losses["depth"], rtol=1e-4)


def test_target_is_computed_once_for_each_size(session, monkeypatch):
    calls = []
    targets = DepthPerception.targets

    def counted(perception, content, engine):
        calls.append(type(engine))
        return targets(perception, content, engine)

    monkeypatch.setattr(DepthPerception, "targets", counted)
    session().step(5)
    assert calls.count(Engine) == 1  # the others plan, to see how much memory a run takes


def test_checkpoints_know_the_depth_network(session, midas_weights, tmp_path):
    run = session()
    run.step(2)
    run.save(tmp_path / "run.ckpt")
    expected = run.step(2)
    again = session()
    again.resume(tmp_path / "run.ckpt")
    assert again.step(2).tobytes() == expected.tobytes()
    other = {key: 1.1 * array for key, array in midas_weights.items()}
    with pytest.raises(ds.CheckpointError, match="depth_network_weights: made with"):
        session(depth_network_weights=other).resume(tmp_path / "run.ckpt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth_loss": "pixels"}, "depth_loss='pixels': choose from output, features"),
        ({"depth_weight": -1.0}, "depth_weight=-1.0"),
        ({"depth_loss": None}, "depth_network_weights: there is no depth loss"),
        ({"depth_weight": 0.0}, "depth_network_weights: there is no depth loss"),
        ({"depth_loss": "features", "depth_layers": ["layer_9"]}, "layer 'layer_9': midas-small"),
        ({"depth_layers": {"layer_1": -1.0}}, r"depth_layers\['layer_1'\]=-1.0"),
        ({"depth_network_weights": None}, "depth"),
        ({"depth_network_weights": {}}, "weights"),
        ({"extra": {"depth": print}}, "built-in loss"),
    ],
)
def test_bad_parameters_are_refused_before_the_work(session, options, words):
    with pytest.raises(ValueError, match=words):
        session(**options)


def test_layers_of_features_have_weights(session):
    run = session(depth_loss="features", depth_layers={"layer_2": 1.0, "layer_3": 0.5})
    run.step()
    groups = [term for term in run._objective.terms if term.group == "depth"]
    assert [term.layer for term in groups] == ["layer_2", "layer_3"]


def test_presets_of_papers_have_it(midas_weights):
    names = [name for name, preset in PRESETS.items() if preset.depth_loss]
    assert names == ["000", "001-depth", "003", "004-depth"]
    run = ds.Session(
        CONTENT,
        STYLE,
        preset="001-depth",
        weights=seeded.weights("vgg16"),
        depth_network_weights=midas_weights,
    )
    run.step(2)
    assert run.weights["depth"] == 1e4
    assert run.losses["depth"][1] > 0


@pytest.fixture
def files(tmp_path, midas_weights):
    ds.write_image(tmp_path / "content.png", CONTENT)
    ds.write_image(tmp_path / "style.png", STYLE)
    save_file(seeded.encoder_weights(), tmp_path / "encoder.safetensors")
    save_file(midas_weights, tmp_path / "midas.safetensors")
    return tmp_path


def stylize(folder, *words):
    paths = [str(folder / name) for name in ("content.png", "style.png")]
    options = ["--weights", str(folder / "encoder.safetensors"), "--iterations", "2"]
    return cli.main(["stylize", *paths, "-o", str(folder / "out.png"), *options, *words])


def test_command(files, capsys):
    file = files / "midas.safetensors"
    words = ["--depth-loss", "features", "--depth-weight", "2", "--depth-layers", "layer_2=0.5"]
    assert stylize(files, *words, "--depth-network-weights", str(file)) == 0
    recipe = ds.read_recipe(files / "out.png")
    assert recipe["settings"]["depth_loss"] == "features"
    assert recipe["inputs"]["weights"].keys() == {"weights", "depth_network_weights"}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth-loss", "output"], "run depthstyle weights get midas-small"),
        (["--depth-loss", "output", "--depth-network", "midas"], "'midas': unknown"),
        (["--depth-loss", "pixels"], "depth_loss='pixels'"),
        (["--depth-network-weights", "midas.safetensors"], "there is no depth loss"),
        (["--depth-loss", "output", "--depth-network-weights", "gone.pth"], "gone.pth"),
        (["--depth-loss", "output", "--depth-network-weights", "encoder.safetensors"], "no depth"),
    ],
)
def test_bad_input_is_one_line_and_no_file(files, capsys, monkeypatch, words, message):
    monkeypatch.chdir(files)
    assert stylize(files, *words) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert not (files / "out.png").exists()


def test_a_real_network_sees_the_depth_kept(shared):
    """PyDNet on a real room: with the loss, a style changes the seen depth far less."""
    data = shared / "data"
    weights = data / "features" / "depth" / "pydnet_mobile_2019.tflite"
    photo = ds.read_image(data / "rgbd" / "scan_skokloster-castle_rgb.jpg")
    painting = ds.read_image(data / "paintings" / "starry_night.jpg")
    see = ds.DepthEstimator(weights)

    def change(**options):
        run = ds.Session(photo, painting, size=96, scales=1, **options)
        run.step(16)
        seen, wanted = see.raw(run.best), see.raw(run._content)
        return np.mean((seen - wanted) ** 2)

    kept = change(depth_loss="output", depth_network_weights=weights)
    assert kept < 0.1 * change()
