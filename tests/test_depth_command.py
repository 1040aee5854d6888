"""``depthstyle depth`` from files."""

import numpy as np
import pytest
from PIL import Image

import depthstyle as ds
from depthstyle import cli


@pytest.fixture
def sensor(tmp_path):
    """Write a 16-bit sensor map in millimetres with a hole; give its path and its values."""
    stored = np.linspace(1000, 5000, 30 * 41).reshape(30, 41).astype(np.uint16)
    stored[10:20, 5:25] = 0
    path = tmp_path / "sensor.png"
    Image.fromarray(stored).save(path)
    return path, stored


def test_map_picture_and_range(sensor, tmp_path, capsys):
    path, stored = sensor
    out = tmp_path / "out.png"
    arguments = ["-o", str(out), "--scale", "0.001", "--near", "1", "--far", "6"]
    assert cli.main(["depth", str(path), *arguments]) == 0
    said = capsys.readouterr().out
    assert "41x30 depth: near 1, far 6, 16.3% filled" in said
    assert "out_preview.png" in said
    expected = (stored / 1000 - 1) / 5
    got = ds.read_depth_map(out)
    valid = stored != 0
    np.testing.assert_allclose(got.depth[valid], expected[valid], atol=1e-5)
    assert got.far == 6
    preview = ds.read_image(tmp_path / "out_preview.png")
    plain = ds.depth_picture(got.depth)
    # Half an 8-bit step, and the 16-bit step of the map through the colour map.
    np.testing.assert_allclose(preview[valid], plain[valid], atol=0.02)
    assert np.abs(preview - plain)[~valid].max() > 0.1


def test_zero_can_be_a_reading(sensor, tmp_path, capsys):
    path, _ = sensor
    out, picture = tmp_path / "out.png", tmp_path / "look.jpg"
    arguments = ["-o", str(out), "--preview", str(picture), "--invalid", "none"]
    assert cli.main(["depth", str(path), *arguments]) == 0
    said = capsys.readouterr().out
    assert "near 0, " in said and "0.0% filled" in said
    assert picture.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["gone.png", "-o", "out.png"],
        ["sensor.png", "-o", "out.jpg"],
        ["sensor.png", "-o", "gone/out.png"],
        ["sensor.png", "-o", "out.png", "--preview", "look.bmp"],
        ["sensor.png", "-o", "out.png", "--kind", "distance"],
        ["sensor.png", "-o", "out.png", "--near", "9", "--far", "2"],
        ["sensor.png", "-o", "out.png", "--scale", "-1"],
        ["sensor.png", "-o", "out.png", "--invalid", "x"],
        ["sensor.png"],
    ],
)
def test_bad_input_is_one_line_and_no_file(sensor, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["depth", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["sensor.png"]
