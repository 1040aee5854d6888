"""Contact sheets, comparison grids, loss curves."""

import numpy as np
import pytest
from PIL import Image

import depthstyle as ds

PAPER = np.float32(250 / 255)


@pytest.fixture
def shades():
    sizes = [(20, 30), (37, 30), (11, 53), (60, 20), (7, 7)]
    return [
        np.full((*size, 3), level, np.float32)
        for size, level in zip(sizes, [0.0, 0.2, 0.4, 0.6, 0.8], strict=True)
    ]


def area_of(sheet, level):
    return np.count_nonzero(np.abs(sheet - level).max(axis=-1) < 1e-3)


def test_contact_sheet_shows_every_picture_whole(shades):
    sheet = ds.contact_sheet(shades, [""] * 5, columns=2, cell_width=60)
    assert sheet.dtype == np.float32
    assert sheet.shape[1] == 3 * 8 + 2 * 60
    for picture, level in zip(shades, [0.0, 0.2, 0.4, 0.6, 0.8], strict=True):
        height, width = picture.shape[:2]
        scale = min(60 / width, 72 / height)
        area = area_of(sheet, level)
        assert abs(area - height * width * scale**2) <= scale * (height + width)
    assert (sheet[0] == PAPER).all() and (sheet[:, -1] == PAPER).all()


def test_labels_are_written_and_long_ones_cut(shades):
    bare = ds.contact_sheet(shades[:2], ["", ""], cell_width=80)
    labelled = ds.contact_sheet(
        shades[:2], ["depth", "a label far too long for the cell " * 3], cell_width=80
    )
    assert labelled.shape == bare.shape
    changed = np.flatnonzero((labelled != bare).any(axis=(0, 2)))
    gap = 8
    assert changed.min() >= gap and changed.max() < bare.shape[1] - gap
    middle = slice(gap + 80, 2 * gap + 80)
    np.testing.assert_array_equal(labelled[:, middle], bare[:, middle])


def test_comparison_grid(shades):
    rows = [shades[:2], shades[2:4]]
    grid = ds.comparison_grid(rows, ["first", "second"], ["left", "right"], cell_width=60)
    for level in (0.0, 0.2, 0.4, 0.6):
        assert area_of(grid, level) > 500
    taller = ds.comparison_grid(rows * 2, list("abcd"), ["left", "right"], cell_width=60)
    assert taller.shape[0] > grid.shape[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: ds.contact_sheet([], []), "labels: 0 given for 0 pictures"),
        (lambda p: ds.contact_sheet(p, ["a"]), "labels: 1 given for 5 pictures"),
        (lambda p: ds.contact_sheet(p, list("abcde"), columns=0), "columns=0: must be"),
        (lambda p: ds.contact_sheet(p, list("abcde"), cell_width=5), "cell_width=5: must be"),
        (lambda p: ds.contact_sheet([np.zeros(3)], ["flat"]), "flat: shape"),
        (lambda p: ds.comparison_grid([p], [], list("abcde")), "row_labels: 0 given for 1 rows"),
        (lambda p: ds.comparison_grid([p], ["r"], ["c"]), "column_labels: 1 given for rows of"),
    ],
)
def test_bad_sheets_are_refused(shades, call, words):
    with pytest.raises(ValueError, match=words):
        call(shades)


def test_loss_curves_draw_what_is_finite_and_positive(tmp_path):
    losses = {"total": [3.0, 2.0, np.nan, 1.0], "content": [0.0, 1e-3, 2e-3, np.inf], "tv": [5.0]}
    path = tmp_path / "loss.png"
    figure = ds.loss_curves(losses, path, title="run")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(drawn["total"], [3, 2, np.nan, 1])
    np.testing.assert_array_equal(drawn["content"], [np.nan, 1e-3, 2e-3, np.nan])
    assert len(figure.legends[0].get_texts()) == 3
    with Image.open(path) as file:
        assert np.ptp(np.asarray(file.convert("L"))) > 200


def test_bad_curves_are_refused(tmp_path):
    for empty in ({}, {"a": []}, {"a": [np.nan, 0.0, -1.0]}):
        with pytest.raises(ValueError, match="no finite value above 0"):
            ds.loss_curves(empty)
    with pytest.raises(ds.ImageError, match=r"unknown suffix '.jpg'; use .png"):
        ds.loss_curves({"a": [1.0]}, tmp_path / "loss.jpg")
    with pytest.raises(ds.ImageError, match="cannot be written"):
        ds.loss_curves({"a": [1.0]}, tmp_path / "gone" / "loss.png")
