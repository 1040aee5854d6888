"""Depth networks by name or file in the SSIM table and in the table of depth order."""

import csv

import depth_weights
import numpy as np
import pytest
import seeded
from safetensors.numpy import save_file

import depthstyle as ds
from depthstyle import cli


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a depth network."""
    path = tmp_path_factory.mktemp("model") / "midas.safetensors"
    save_file(depth_weights.weights("midas-small"), path)
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    for column, seed in (("content", 1), ("ours", 2), ("baseline", 3)):
        ds.write_image(tmp_path / f"{column}.png", seeded.picture(seed))
    path = tmp_path / "pairs.csv"
    path.write_text(
        "image,style,content,ours,baseline\nlake,wave,content.png,ours.png,baseline.png\n"
    )
    return path


def test_ssim_table_sees_depth_by_a_named_network(pairs, model):
    estimator = ds.DepthEstimator(model, precision="fp32")
    expected = ds.evaluation.ssim_table(pairs, depth=lambda x: estimator.estimate(x).depth)
    found = ds.evaluation.ssim_table(pairs, depth=model)
    assert found.rows[0].values["depth"] == expected.rows[0].values["depth"]
    assert found.rows[0].values["depth"].ours > 0
    assert f"depth of {model}, mean absolute difference" in found.settings


def test_ssim_command(pairs, model, tmp_path, capsys):
    words = ["evaluate", "ssim", "--pairs", str(pairs), "--out", str(tmp_path / "table")]
    assert cli.main([*words, "--depth", model]) == 0
    assert "Depth difference (lower is better)" in capsys.readouterr().out
    with open(tmp_path / "table" / "ssim.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["depth_ours"]) > 0
    for name, words_of_error in [
        ("midas-small", "run depthstyle weights get midas-small"),
        ("midas-tiny", "midas-tiny"),
    ]:
        assert cli.main([*words, "--depth", name]) == 2
        error = capsys.readouterr().err
        assert words_of_error in error and error.count("\n") == 1


def test_depth_order_of_a_network(pairs, model, capsys):
    """The command ranks the points as the network's own map does."""
    image = pairs.with_name("content.png")
    depth = ds.estimate_depth(ds.read_image(image), model, precision="fp32")
    random = np.random.default_rng(2)
    lines, right = [], 0
    for a, b in random.integers(0, depth.shape, size=(40, 2, 2)).tolist():
        sign = ">" if random.random() < 0.5 else "<"
        points = ",".join(str(value + 1) for value in (*a, *b))
        lines += [image.name, f"{points},{sign},{depth.shape[1]},{depth.shape[0]}"]
        right += (depth[*a] > depth[*b]) == (sign == ">")
    path = pairs.with_name("diw.csv")
    path.write_text("\n".join(lines))
    words = ["evaluate", "depth-order", "--annotations", str(path)]
    assert cli.main([*words, "--model", model]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith(model))
    assert f"{right / 40:.2%}" in line
    assert cli.main([*words, "--model", "midas-small"]) == 2
    assert "run depthstyle weights get midas-small" in capsys.readouterr().err
