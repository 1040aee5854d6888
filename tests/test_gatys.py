"""stylize and its command: methods, presets, interruption, what is written and what is not."""

import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import cli, gatys
from depthstyle.presets import PRESETS
from depthstyle.session import Session

CONTENT, STYLE = seeded.picture(1, 29, 36), seeded.picture(2, 33, 32)


@pytest.fixture(scope="module")
def weights():
    return {name: seeded.weights(name) for name in ("vgg16", "vgg19", "squeezenet1_1")}


@pytest.fixture
def files(tmp_path):
    ds.write_image(tmp_path / "content.png", CONTENT)
    ds.write_image(tmp_path / "style.png", STYLE)
    np.save(tmp_path / "depth.npy", seeded.depth(29, 36))
    save_file(seeded.encoder_weights(), tmp_path / "weights.safetensors")
    return tmp_path


@pytest.fixture
def stylize(files):
    def run(*words, styles=("style.png",), output="out.png"):
        paths = [str(files / name) for name in ("content.png", *styles)]
        options = ["--weights", str(files / "weights.safetensors"), "--iterations", "2"]
        return cli.main(["stylize", *paths, "-o", str(files / output), *options, *words])

    return run


@pytest.mark.parametrize("method", ["gatys", "lapstyle"])
def test_methods(method):
    image = ds.stylize(CONTENT, STYLE, method, iterations=2, progress=False)
    assert image.shape == CONTENT.shape
    assert np.isfinite(image).all()


def test_unfit_methods_are_refused():
    with pytest.raises(ValueError, match="method='adaim': unknown; choose from gatys, lapstyle"):
        ds.stylize(CONTENT, STYLE, "adaim")
    with pytest.raises(ValueError, match="has no Laplacian loss"):
        ds.stylize(CONTENT, STYLE, "lapstyle", preset="size-invariant")


@pytest.mark.parametrize("name", ["001-squeezenet", "001-vgg16", "003"])
def test_presets_of_papers_lower_their_losses(weights, name):
    preset = PRESETS[name]
    size = 40 if preset.network == "vgg16" else 33
    content = seeded.picture(1, size, size)
    session = Session(
        content, STYLE, preset=name, weights=weights[preset.network], depth_weight=0.0
    )
    session.step(40 if name == "003" else 12)  # a rate of 1 first overshoots
    assert session.losses["total"][-1] < session.losses["total"][0]


def test_the_preset_for_caffe_weights(weights):
    layers = ds.networks.build("vgg19").aliases
    caffe = {
        f"{layers[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in weights["vgg19"].items()
    }
    session = Session(CONTENT, STYLE, preset="004-lapstyle", weights=caffe)
    session.step(4)
    assert set(session.losses) == {"total", "content", "style", "laplacian"}
    assert session.losses["total"][-1] < session.losses["total"][0]


def interrupt_at(iteration):
    def check(session):
        if session.iteration == iteration:
            raise KeyboardInterrupt

    return check


def test_ctrl_c_returns_the_best_picture():
    with pytest.warns(ds.DepthstyleWarning, match="interrupted after 3 of 10 iterations"):
        image = ds.stylize(
            CONTENT, STYLE, scales=1, iterations=10, progress=False, on_step=interrupt_at(3)
        )
    session = Session(CONTENT, STYLE, scales=1, iterations=10)
    session.step(3)
    assert image.tobytes() == session.best.tobytes()


def test_command_writes_the_picture_and_its_recipe(files, stylize, capsys):
    assert stylize("--seed", "4", "--losses", str(files / "losses.png")) == 0
    out = capsys.readouterr().out
    assert "cpu" in out and "threads" in out and " s, wrote " in out and "36x29" in out
    assert ds.read_image(files / "out.png").shape == CONTENT.shape
    recipe = ds.read_recipe(files / "out.png")
    assert recipe["method"] == "gatys"
    assert recipe["preset"] == "size-invariant"
    assert recipe["seed"] == 4
    assert (files / "losses.png").stat().st_size > 1000


def test_command_passes_every_option_on(files, stylize, monkeypatch):
    made = {}

    class Stop(gatys.LapstylePainter):
        def __init__(self, styles, **options):
            made.update(options, method=self.method, styles=len(styles))
            super().__init__(styles, **options)

        def paint(self, content, depth, **hooks):
            made.update(depth=depth)
            raise ValueError("stop here")

    monkeypatch.setattr(gatys, "LapstylePainter", Stop)
    options = {
        "--method": "lapstyle", "--preset": "lapstyle", "--content-mask": "linear",
        "--size": "20", "--style-scale": "1.5", "--preserve-colour": "luminance",
        "--threads": "1", "--device": "ref", "--scales": "1", "--optimizer": "adam",
        "--history": "9",
        "--learning-rate": "0.1", "--init": "noise", "--content-weight": "0.5",
        "--style-weight": "1,2", "--tv-weight": "0.25", "--laplacian-weight": "3",
        "--laplacian-pools": "4,8", "--content-layers": "relu3_1",
        "--style-layers": "relu1_1,relu2_1=0.5", "--normalisation": "sum",
        "--pooling": "average",
    }  # fmt: skip
    words = [word for option in options.items() for word in option]
    words += ["--mask", "sigmoid", "--mask", "all"]
    words += ["--depth", str(files / "depth.npy"), "--start", str(files / "content.png")]
    assert stylize(*words, styles=("style.png", "style.png")) == 2
    depth, start = made.pop("depth"), made.pop("start")
    assert depth.shape == start.shape[:2] == (29, 36)
    assert made == {
        "method": "lapstyle", "styles": 2, "preset": "lapstyle", "content_mask": "linear",
        "style_masks": ["sigmoid", None], "weights": str(files / "weights.safetensors"),
        "size": 20, "style_scale": 1.5, "preserve_colour": "luminance", "threads": 1,
        "device": "ref", "scales": 1, "optimizer": "adam", "history": 9, "schedule": [[0, 0.1]],
        "init": "noise", "content_weight": 0.5, "style_weight": [1.0, 2.0], "tv_weight": 0.25,
        "laplacian_weight": 3.0, "laplacian_pools": [4, 8], "content_layers": {"relu3_1": 1.0},
        "style_layers": {"relu1_1": 1.0, "relu2_1": 0.5}, "normalisation": "sum",
        "pooling": "average", "iterations": 2,
    }  # fmt: skip


def test_command_with_two_styles_by_depth(files, stylize, capsys):
    depth = ["--depth", str(files / "depth.npy"), "--preview", "1"]
    masks = ["--mask", "sigmoid", "--mask", "complement"]
    assert stylize(*depth, *masks, styles=("style.png", "content.png")) == 0
    assert "depth from near 0 to far 1" in capsys.readouterr().out
    assert (files / "out_preview.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--iterations", "0"],
        ["--mask", "sigmoid"],
        ["--mask", "circle", "--depth", "depth.npy"],
        ["--preset", "003", "--weights", "weights.safetensors"],
        ["--weights", "gone.safetensors"],
        ["--depth", "gone.npy"],
        ["--content-layers", "relu1_1=x"],
        ["--preview", "0"],
        ["--losses", "losses.txt"],
        ["--losses", "gone/losses.png"],
        ["--preserve-colour", "hue"],
    ],
)
def test_bad_input_is_one_line_without_output(files, stylize, capsys, words, monkeypatch):
    monkeypatch.chdir(files)
    assert stylize(*words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("depthstyle")
    assert not (files / "out.png").exists()


def test_command_writes_the_last_good_picture_after_a_divergence(files, stylize, capsys):
    words = ["--optimizer", "adam", "--learning-rate", "1e30", "--scales", "1"]
    session_step = Session.advance

    def step(self, count=1):
        if self.iteration == 1:
            self.weights["style"] = 1e38
        return session_step(self, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", step)
        assert stylize(*words) == 2
    assert "iteration 1" in capsys.readouterr().err
    assert ds.read_image(files / "out.png").shape == CONTENT.shape


def test_command_writes_the_best_picture_after_ctrl_c(files, stylize, capsys, monkeypatch):
    session_step = Session.advance

    def step(self, count=1):
        if self.iteration == 3:
            raise KeyboardInterrupt
        return session_step(self, count)

    monkeypatch.setattr(Session, "advance", step)
    assert stylize() == 0
    assert "interrupted after 3 of 4 iterations" in capsys.readouterr().out
    assert ds.read_recipe(files / "out.png")["iteration"] == 3


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"style": []}, "style: method gatys needs a style picture"),
        ({"style": STYLE, "contrast": 2}, "contrast"),
        ({"style": STYLE, "learning": 2}, "learning: unknown setting"),
    ],
)
def test_bad_arguments_of_stylize(arguments, said):
    with pytest.raises(ValueError, match=said):
        ds.stylize(CONTENT, progress=False, **arguments)
