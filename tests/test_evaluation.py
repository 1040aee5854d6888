"""SSIM tables: values against definitions, every kind of bad row, pictures made by callables."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comparison import HEADER, noisy, scene, write_comparison, write_csv
from PIL import Image
from scipy import stats

import depthstyle as ds
from depthstyle import cli
from depthstyle.evaluation import (
    Pair,
    Protocol,
    depth_difference,
    gradient_similarity,
    psnr,
    ssim_table,
    structural_similarity,
)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DEPTHSTYLE_SHARED", ROOT.parent / "shared"))
FIGURE_2 = SHARED / "data" / "seed000" / "figure2.csv"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def grey(image):
    return np.rint(image.astype(np.float64) @ [0.2989, 0.5870, 0.1140])


def naive_ssim(x, y, weights, k1=0.01, k2=0.03):
    """Wang et al. 2004, eq. 13, window by window in float64."""
    c1, c2 = (k1 * 255) ** 2, (k2 * 255) ** 2
    n = len(weights)
    values = []
    for i in range(x.shape[0] - n + 1):
        for j in range(x.shape[1] - n + 1):
            a, b = x[i : i + n, j : j + n], y[i : i + n, j : j + n]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    return np.mean(values)


def gaussian(n, sigma):
    line = np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * sigma**2))
    window = np.outer(line, line)
    return window / window.sum()


# Values against definitions


@pytest.mark.skipif(not FIGURE_2.exists(), reason="the authors' pictures are not in ../shared")
def test_every_bar_of_figure_2(tmp_path, capsys):
    assert cli.main(["evaluate", "ssim", "--pairs", str(FIGURE_2), "--out", str(tmp_path)]) == 0
    rows = rows_of(tmp_path / "ssim.csv")
    assert len(rows) == 24
    for row in rows:
        for method in ("ours", "baseline"):
            assert abs(float(row[method]) - float(row[f"figure_{method}"])) <= 0.001
    assert "ours is better in 24 of 24 pairs" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(11, 11), (23, 17), (20, 31)])
def test_ssim_is_the_definition(size):
    content = scene(1, *size)
    pastiche = noisy(content, 30, 2)
    expected = naive_ssim(grey(content), grey(pastiche), gaussian(11, 1.5))
    assert structural_similarity(content, pastiche) == pytest.approx(expected, abs=1e-10)


def test_ssim_with_a_uniform_window_on_rgb_and_other_constants():
    content = scene(3, 19, 25)
    pastiche = noisy(content, 20, 4)
    channels = [
        naive_ssim(
            *(x[..., k].astype(np.float64) for x in (content, pastiche)),
            np.full((9, 9), 1 / 81),
            0.02,
            0.05,
        )
        for k in range(3)
    ]
    protocol = Protocol(color="rgb", window="uniform", size=9, k1=0.02, k2=0.05)
    assert structural_similarity(content, pastiche, protocol) == pytest.approx(
        np.mean(channels), abs=1e-10
    )


def test_window_of_another_sigma():
    content = scene(5, 21, 20)
    pastiche = noisy(content, 20, 6)
    protocol = Protocol(sigma=2.0)
    expected = naive_ssim(grey(content), grey(pastiche), gaussian(15, 2.0))
    assert protocol.window_size == 15
    assert structural_similarity(content, pastiche, protocol) == pytest.approx(expected, abs=1e-10)


def test_equal_pictures_and_floats_in_the_unit_range():
    content = scene(7)
    assert structural_similarity(content, content / np.float32(255)) == pytest.approx(1)
    assert psnr(content, content) == math.inf
    assert gradient_similarity(content, content) == 1


def test_content_is_resized_to_the_pastiche():
    # On grey pictures, the order of the conversion to grey and the resizing does not matter.
    content = np.repeat(scene(8, 96, 128)[..., :1], 3, axis=2)
    small = np.asarray(Image.fromarray(content).resize((64, 48), Image.BICUBIC))
    assert structural_similarity(content, small) == pytest.approx(1)
    assert structural_similarity(content, noisy(small, 30, 1)) < 0.9


def test_psnr_is_the_definition():
    content = scene(9)
    pastiche = noisy(content, 12, 3)
    for color, values in (("grey", grey), ("rgb", lambda x: x.astype(np.float64))):
        error = np.mean((values(content) - values(pastiche)) ** 2)
        expected = 10 * np.log10(255**2 / error)
        assert psnr(content, pastiche, color) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("size", [(12, 16), (13, 9)])
def test_gradient_similarity_is_the_definition(size):
    def magnitude(image):
        g = grey(image)
        rows, columns = -(-g.shape[0] // 2), -(-g.shape[1] // 2)
        g = np.pad(g, 1, "symmetric")[1:, 1:]
        half = np.array(
            [
                [g[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(columns)]
                for i in range(rows)
            ]
        )
        kernel = np.array([[1, 0, -1]] * 3) / 3
        out = np.zeros((rows - 2, columns - 2))
        for i, j in np.ndindex(*out.shape):
            patch = half[i : i + 3, j : j + 3]
            out[i, j] = np.hypot((patch * kernel).sum(), (patch * kernel.T).sum())
        return out

    content = scene(10, *size)
    pastiche = noisy(content, 25, 5)
    a, b = magnitude(content), magnitude(pastiche)
    expected = np.mean((2 * a * b + 170) / (a**2 + b**2 + 170))
    assert gradient_similarity(content, pastiche) == pytest.approx(expected, abs=1e-10)


def test_depth_difference_uses_the_network_at_the_size_of_the_pastiche():
    seen = []

    def depth(image):
        seen.append((image.shape, image.dtype))
        return image.mean(axis=2)

    content, pastiche = np.full((20, 30, 3), 51, np.uint8), np.full((10, 15, 3), 102, np.uint8)
    assert depth_difference(content, pastiche, depth) == pytest.approx(0.2, abs=1e-6)
    assert seen == [((10, 15, 3), np.float32)] * 2


@pytest.mark.parametrize(
    ("depth", "error"),
    [
        (lambda image: image, ds.ImageError),
        (lambda image: np.full(image.shape[:2], np.nan), ds.NumericalError),
    ],
)
def test_a_depth_network_must_give_a_finite_map(depth, error):
    with pytest.raises(error, match="depth"):
        depth_difference(scene(1), scene(2), depth)


@pytest.mark.parametrize(
    "settings",
    [
        {"color": "hsv"},
        {"window": "square"},
        {"sigma": 0.0},
        {"sigma": math.nan},
        {"size": 8},
        {"size": 1},
        {"k1": 0.0},
    ],
)
def test_protocol_refuses(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Protocol(**settings)


def test_too_small_and_other_aspect_are_refused():
    with pytest.raises(ds.ImageError, match="at least 11"):
        structural_similarity(scene(1, 10, 40), scene(2, 10, 40))
    with pytest.raises(ds.ImageError, match="at least 6"):
        gradient_similarity(scene(1, 5, 40), scene(2, 5, 40))
    with pytest.raises(ds.ImageError, match="aspect"):
        structural_similarity(scene(1, 100, 100), scene(2, 100, 102))
    structural_similarity(scene(1, 100, 100), scene(2, 100, 101))


# The table


def test_table_from_csv(tmp_path):
    pairs = write_comparison(tmp_path)
    table = ssim_table(pairs, columns=["psnr", "gradient"], depth=lambda image: image.mean(axis=2))
    assert len(table.rows) == 6
    assert not table.problems
    first = table.rows[0]
    content, ours = (
        np.asarray(Image.open(tmp_path / f)) for f in ("scene0.png", "scene0_ink_ours.png")
    )
    assert first.ours == structural_similarity(content, ours)
    assert first.values["psnr"].ours == psnr(content, ours)
    assert first.difference == first.ours - first.baseline
    assert table.measures == ("ssim", "psnr", "gradient", "depth")


def test_summary_is_the_paired_t_interval(tmp_path):
    table = ssim_table(write_comparison(tmp_path))
    summary = table.summary()
    ours, baseline = ([getattr(row, c) for row in table.rows] for c in ("ours", "baseline"))
    expected = stats.ttest_rel(ours, baseline).confidence_interval(0.95)
    assert summary.interval == pytest.approx((expected.low, expected.high))
    differences = np.subtract(ours, baseline)
    by_image = stats.ttest_1samp(differences.reshape(3, 2).mean(axis=1), 0)
    expected = by_image.confidence_interval(0.95)
    assert summary.interval_by_image == pytest.approx((expected.low, expected.high))
    assert (summary.wins, summary.ties, summary.pairs, summary.images) == (6, 0, 6, 3)
    assert summary.mean_difference == pytest.approx(differences.mean())


def test_depth_counts_the_lower_value_as_win(tmp_path):
    table = ssim_table(write_comparison(tmp_path), depth=lambda image: image.mean(axis=2))
    summary = table.summary("depth")
    assert summary.mean_ours < summary.mean_baseline
    assert summary.wins == 6
    with pytest.raises(ValueError, match="psnr"):
        table.summary("psnr")


def test_a_single_pair_has_no_interval_and_equal_pictures_tie(tmp_path):
    picture = scene(1)
    table = ssim_table([Pair("a", "", picture, picture, picture, 1)], columns=["psnr"])
    for measure in table.measures:
        summary = table.summary(measure)
        assert (summary.wins, summary.ties, summary.mean_difference) == (0, 1, 0)
        assert summary.interval is None
    assert "none" in table.describe()


def test_written_files(tmp_path):
    out = tmp_path / "out"
    weights = ["w0", "w1", "w2"]
    rows = rows_of(write_comparison(tmp_path, styles=("ink",)))
    rows = [[*row.values(), weight] for row, weight in zip(rows, weights, strict=True)]
    pairs = write_csv(tmp_path / "more.csv", rows, [*HEADER, "weight"])
    table = ssim_table(pairs, out=out, columns=["psnr"])
    written = rows_of(out / "ssim.csv")
    assert [row["weight"] for row in written] == weights
    for row, expected in zip(written, table.rows, strict=True):
        assert float(row["ours"]) == pytest.approx(expected.ours, abs=5e-7)
        assert float(row["difference"]) == pytest.approx(expected.difference, abs=5e-7)
        assert float(row["psnr_baseline"]) == pytest.approx(
            expected.values["psnr"].baseline, abs=5e-7
        )
        assert row["settings"] == table.settings
    markdown = (out / "ssim.md").read_text()
    assert "| scene0 | ink | " in markdown
    assert table.settings in markdown
    assert "gaussian 11 x 11 sigma 1.5" in table.settings
    with Image.open(out / "ssim.png") as plot:
        assert min(plot.size) > 300


def test_a_further_column_cannot_have_the_name_of_a_result(tmp_path):
    write_comparison(tmp_path)
    row = ["a", "b", "scene0.png", "scene0_ink_ours.png", "scene0_ink_baseline.png", "1"]
    pairs = write_csv(tmp_path / "more.csv", [row], [*HEADER, "difference"])
    with pytest.raises(ValueError, match="difference"):
        ssim_table(pairs)


def test_plot_has_a_pair_of_bars_for_each_row(tmp_path):
    table = ssim_table(write_comparison(tmp_path, images=4, styles=("ink", "oil", "$x$")))
    panels = [panel for panel in table.plot().axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["ink", "oil", r"\$x\$"]
    heights = [bar.get_height() for panel in panels for bar in panel.patches]
    expected = [x for row in table.rows for x in (row.ours, row.baseline)]
    assert sorted(heights) == pytest.approx(sorted(expected))


def test_a_style_with_many_images_goes_over_several_panels(tmp_path):
    picture = scene(0, 12, 12)
    pairs = [Pair(f"image {i}", "ink", picture, picture, picture, i) for i in range(30)]
    panels = ssim_table(pairs).plot().axes
    assert [len(panel.patches) for panel in panels] == [48, 12]
    assert [panel.get_title() for panel in panels] == ["ink", "ink"]


def test_html_view_is_escaped():
    pair = Pair("<b>", "a|b", scene(1), noisy(scene(1), 9, 1), noisy(scene(1), 30, 1), 1)
    table = ssim_table([pair])
    assert "<b>" not in table._repr_html_()
    assert "&lt;b&gt;" in table._repr_html_()
    assert r"a\|b" in table.to_markdown()


# Bad rows and bad arguments


def test_bad_rows_are_named_and_the_others_measured(tmp_path, capsys):
    pairs = write_comparison(tmp_path, images=1, styles=("ink",))
    good = rows_of(pairs)[0]
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(scene(0, 48, 66)).save(tmp_path / "wide.png")
    Image.fromarray(scene(0, 8, 8)).save(tmp_path / "tiny.png")
    names = [good["content"], good["ours"], good["baseline"]]
    bad = {
        3: ("gone.png", ["x", "ink", names[0], "gone.png", names[2]]),
        4: ("text.png", ["x", "ink", names[0], names[1], "text.png"]),
        5: ("aspect", ["x", "ink", names[0], "wide.png", names[2]]),
        6: ("cells", ["x", "ink", names[0]]),
        7: ("content is empty", ["x", "ink", "", *names[1:]]),
        8: ("at least 11", ["x", "ink", "tiny.png", "tiny.png", "tiny.png"]),
        9: ("content", ["x", "ink", ".", *names[1:]]),
    }
    write_csv(pairs, [[good[name] for name in HEADER], *(row for _, row in bad.values())])
    out = tmp_path / "out"
    assert cli.main(["evaluate", "ssim", "--pairs", str(pairs), "--out", str(out)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(bad)
    for line, (word, _) in bad.items():
        assert any(f"line {line}:" in error and word in error for error in errors), (line, errors)
    assert len(rows_of(out / "ssim.csv")) == 1
    assert "line 5:" in (out / "ssim.md").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"image,style,content,ours,baseline\n", "no rows"),
        (b"image;style;content;ours;baseline\n", "lacks the column"),
        (b"image,style,content,ours,baseline,ours\n", "two columns"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'image,style,content,ours,baseline\n"a', "csv"),
        (b"image,style,content,ours,baseline\na,b,c,d,e\n", "no pair could be measured"),
    ],
)
def test_an_unusable_csv_writes_nothing(tmp_path, capsys, content, message):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "out"
    pairs.write_bytes(content)
    assert cli.main(["evaluate", "ssim", "--pairs", str(pairs), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pairs", "gone.csv"], "gone.csv"),
        (["--pairs", "gone.csv", "--sigma", "0"], "sigma=0"),
        (["--pairs", "gone.csv", "--window", "uniform", "--size", "4"], "size=4"),
        (["--pairs", "gone.csv", "--columns", "mse"], "mse"),
        ([], "--pairs"),
        (["--by-folder", "gone", "gone", "gone"], "no folder gone"),
    ],
)
def test_bad_options(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "ssim", *options, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not Path("out").exists()


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path):
    pairs = write_comparison(tmp_path, images=1, styles=("ink",))
    text = pairs.read_text().replace(",ink,", ", ink ,")
    pairs.write_text("\ufeff" + text)
    assert ssim_table(pairs).rows[0].style == "ink"


# Folders


@pytest.fixture
def folders(tmp_path):
    for name in ("content", "ours", "baseline"):
        (tmp_path / name).mkdir()
    for stem in ("lake", "lake_house"):
        Image.fromarray(scene(1)).save(tmp_path / "content" / f"{stem}.png")
    for stem in ("lake_ink", "lake_house_ink", "lake-oil", "lake"):
        for name, amount in (("ours", 10), ("baseline", 30)):
            Image.fromarray(noisy(scene(1), amount, 1)).save(tmp_path / name / f"{stem}.png")
    return tmp_path


def run_by_folder(folder):
    names = [str(folder / name) for name in ("content", "ours", "baseline")]
    return cli.main(["evaluate", "ssim", "--by-folder", *names, "--out", str(folder / "out")])


def test_folders_are_matched_by_stem(folders):
    (folders / "content" / "notes.txt").write_text("no picture")
    assert run_by_folder(folders) == 0
    found = {(row["image"], row["style"]) for row in rows_of(folders / "out" / "ssim.csv")}
    assert found == {("lake", "ink"), ("lake_house", "ink"), ("lake", "oil"), ("lake", "")}
    again = folders / "again"
    pairs = folders / "out" / "pairs.csv"
    assert cli.main(["evaluate", "ssim", "--pairs", str(pairs), "--out", str(again)]) == 0
    assert (again / "ssim.csv").read_text() == (folders / "out" / "ssim.csv").read_text()


def test_pictures_without_a_partner_are_named(folders, capsys):
    (folders / "baseline" / "lake-oil.png").unlink()
    Image.fromarray(scene(1)).save(folders / "ours" / "sea_ink.png")
    assert run_by_folder(folders) == 1
    errors = capsys.readouterr().err
    assert "lake-oil" in errors
    assert "sea_ink" in errors
    assert len(rows_of(folders / "out" / "ssim.csv")) == 3


def test_two_pictures_of_one_stem_are_refused(folders, capsys):
    Image.fromarray(scene(1)).save(folders / "ours" / "lake.jpg")
    assert run_by_folder(folders) == 2
    assert "same stem" in capsys.readouterr().err
    assert not (folders / "out").exists()


# Pictures made by callables


def soft(image):
    return 0.8 * image + 0.1


def coarse(image):
    return np.rint(image * 2) / 2


def test_callables_make_pictures_that_are_kept(tmp_path):
    contents = {f"scene{i}": scene(i) / np.float32(255) for i in range(2)}
    table = ssim_table(contents, ours=soft, baseline={"two": coarse, "one": np.round}, out=tmp_path)
    names = [(row.image, row.style) for row in table.rows]
    assert names == [("scene0", "two"), ("scene0", "one"), ("scene1", "two"), ("scene1", "one")]
    kept = np.asarray(Image.open(tmp_path / "baseline" / "scene1_two.png"))
    np.testing.assert_array_equal(kept, np.rint(coarse(contents["scene1"]) * 255))
    again = ssim_table(tmp_path / "pairs.csv")
    assert again.to_csv() == table.to_csv()


def test_callables_take_files_and_styles_of_a_csv(tmp_path):
    pairs = write_comparison(tmp_path, images=1)
    out = tmp_path / "out"
    seen = []

    def ink(image):
        seen.append((image.shape, image.dtype, image.max() <= 1))
        return image

    table = ssim_table(pairs, ours={"ink": ink, "oil": coarse}, out=out)
    assert seen == [((48, 64, 3), np.float32, True)]
    assert table.rows[0].ours == pytest.approx(1)
    assert table.rows[0].baseline == ssim_table(pairs).rows[0].baseline
    by_file = ssim_table([tmp_path / "scene0.png"], soft, coarse, out=out)
    assert (by_file.rows[0].image, by_file.rows[0].style) == ("scene0", "")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda image: np.full_like(image, np.nan), "NaN"),
        (lambda image: image * 255, "outside"),
        (lambda image: image[:, :40], "aspect"),
        (lambda image: image.transpose(2, 0, 1), "channels first"),
    ],
)
def test_a_failing_callable_does_not_stop_the_rest(tmp_path, bad, message):
    bright = scene(1) // 2 + 127
    contents = {"good": scene(0), "bad": bright, "also": scene(2)}

    def method(image):
        return bad(image) if image.min() > 0.45 else image

    table = ssim_table(contents, ours=method, baseline=coarse, out=tmp_path)
    assert [row.image for row in table.rows] == ["good", "also"]
    assert [problem.line for problem in table.problems] == [2]
    assert message in table.problems[0].message


def test_the_overshoot_of_a_network_is_clipped(tmp_path):
    table = ssim_table({"a": scene(0)}, lambda x: 1.4 * x - 0.2, coarse, out=tmp_path)
    assert not table.problems
    assert np.asarray(Image.open(tmp_path / "ours" / "a.png")).min() == 0


def test_names_of_kept_pictures_stay_in_the_folder(tmp_path):
    out = tmp_path / "in" / "out"
    pictures = {"../../evil": scene(0), "a/b": scene(1), "A_b": scene(2)}
    ssim_table(pictures, soft, coarse, out=out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert len(list((out / "ours").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ours": soft, "baseline": coarse}, "out"),
        ({"ours": soft, "baseline": coarse, "out": __file__}, "is a file"),
        ({"ours": soft, "out": "out"}, "baseline"),
        ({"ours": "net.pth", "baseline": coarse, "out": "out"}, "ours"),
        ({"ours": {}, "baseline": coarse, "out": "out"}, "ours"),
        ({"ours": {"a": soft}, "baseline": {"b": coarse}, "out": "out"}, "'b'"),
        ({"ours": soft, "baseline": coarse, "out": "out", "columns": "psnr"}, "columns"),
        ({"ours": soft, "baseline": coarse, "out": "out", "columns": ["x"]}, "columns"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ssim_table({"a": scene(0)}, **arguments)


@pytest.mark.parametrize("pairs", [[], [1], {}])
def test_bad_pairs(pairs):
    with pytest.raises(ValueError, match="pairs"):
        ssim_table(pairs, soft, coarse, out="out")


def test_import_stays_light():
    code = (
        "import sys, depthstyle as ds; ds.evaluation.ssim_table; ds.study.build;"
        "heavy = {'skimage', 'matplotlib', 'scipy', 'PIL', 'starlette', 'uvicorn'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
