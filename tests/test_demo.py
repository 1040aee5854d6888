"""The demo, small and short."""

import pytest

import depthstyle as ds
from depthstyle import cli

PICTURES = (
    *("content", "depth", "style_swirls", "style_dabs"),
    *("gatys", "background", "two_styles", "lapstyle", "adain", "da_adain"),
    *("contact_sheet", "losses"),
)


def test_demo_writes_every_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", no_network)
    folder = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(folder), "--size", "96", "--iterations", "3"]) == 0
    out = capsys.readouterr().out
    assert str(folder) in out and "cpu" in out and " s, " in out
    found = {name: ds.read_image(folder / f"{name}.png") for name in PICTURES}
    for name in ("gatys", "background", "two_styles", "lapstyle"):
        assert found[name].shape == found["content"].shape == (65, 96, 3)
        assert ds.read_recipe(folder / f"{name}.png")["iteration"] == 6
    for name in ("adain", "da_adain"):
        assert found[name].shape == found["content"].shape
    assert ds.read_recipe(folder / "da_adain.png")["beta"] == 20
    depth = ds.read_depth(folder / "depth_map.png")
    moved = abs(found["background"] - found["content"]).mean(axis=2)
    far = ds.resize(depth, (65, 96), "bilinear") > 0.7
    assert moved[far].mean() > 2 * moved[~far].mean()


def no_network(*_):
    pytest.fail("the demo must not use the network")


def test_a_bad_size_is_one_line(tmp_path, capsys):
    assert cli.main(["demo", "-o", str(tmp_path / "demo"), "--size", "0"]) == 2
    assert "--size=0" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
