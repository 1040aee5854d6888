"""The sheet over beta and epsilon of depth-aware AdaIN."""

import numpy as np
import pytest
import seeded

import depthstyle as ds
from depthstyle import cli

CONTENT, STYLE = seeded.picture(1, 40, 48), 0.5 * seeded.picture(2, 40, 32)
DEPTH = seeded.depth(40, 48)


def cells(sheet, rows, columns, width):
    """Cut the pictures out of a sheet; they stand at the lower right."""
    gap, height = max(8, width // 24), round(width * 40 / 48)
    return [
        [
            sheet[-(rows - r) * (height + gap) :, -(columns - c) * (width + gap) :][:height, :width]
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_every_cell_is_that_of_its_beta_and_epsilon():
    betas, epsilons = (0, 20), (0, 0.15, 1)
    sheet = ds.sweep(CONTENT, STYLE, DEPTH, betas=betas, epsilons=epsilons, cell_width=48)
    maps, *pictures = cells(sheet, 4, 2, 48)
    for beta, found in zip(betas, maps, strict=True):
        wanted = ds.strength_map(DEPTH, beta=beta, epsilon=0)
        np.testing.assert_allclose(found, np.repeat(wanted[..., None], 3, axis=2), atol=1 / 255)
    for epsilon, row in zip(epsilons, pictures, strict=True):
        for beta, found in zip(betas, row, strict=True):
            wanted = ds.stylize(CONTENT, STYLE, "da-adain", depth=DEPTH, beta=beta, epsilon=epsilon)
            np.testing.assert_allclose(found, wanted, atol=1 / 255)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"betas": []}, "betas"),
        ({"epsilons": []}, "epsilons"),
        ({"betas": [1, -1]}, "beta"),
        ({"epsilons": [0.1, np.nan]}, "epsilon"),
        ({"cell_width": 1}, "cell_width"),
        ({"strength": 2}, "strength"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, named):
    with pytest.raises(ValueError, match=named):
        ds.sweep(CONTENT, STYLE, DEPTH, **settings)


def test_command(tmp_path, capsys):
    paths = {name: str(tmp_path / f"{name}.png") for name in ("photo", "style", "depth", "out")}
    ds.write_image(paths["photo"], CONTENT)
    ds.write_image(paths["style"], STYLE)
    ds.write_image(paths["depth"], DEPTH)
    command = ["sweep", paths["photo"], paths["style"], "--depth", paths["depth"]]
    command += ["-o", paths["out"], "--size", "32", "--cell-width", "40"]
    assert cli.main([*command, "--beta", "5,20", "--epsilon", "0"]) == 0
    assert paths["out"] in capsys.readouterr().out
    assert ds.read_image(paths["out"]).shape[1] > 80
    (tmp_path / "out.png").unlink()
    assert cli.main([*command, "--beta", "-3"]) == 2
    assert "beta=-3" in capsys.readouterr().err
    assert cli.main([*command, "--device", "tpu"]) == 2
    assert "device='tpu'" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
