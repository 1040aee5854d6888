"""Which of two points is farther: DIW's csv, random points of measured depth, the table, errors."""

import csv

import numpy as np
import pytest

import depthstyle as ds
from depthstyle import cli
from depthstyle.evaluation import depth_order_table, draw_pairs, random_pairs, read_annotations

HEIGHT, WIDTH = 24, 31


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture
def photos(tmp_path, rng):
    """Two photographs, one in a folder of its own, and their names as DIW writes them."""
    names = ["./set/a.png", "./set/b.png"]
    (tmp_path / "set").mkdir()
    for name in names:
        ds.write_image(tmp_path / name, rng.random((HEIGHT, WIDTH, 3), dtype=np.float32))
    return tmp_path, names


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def ramp(axis):
    """A depth network that sees a slope: farther to the right (1) or downwards (0)."""

    def see(image):
        return np.broadcast_to(np.indices(image.shape[:2])[axis] / 100, image.shape[:2])

    return see


# Annotations


def test_annotations_are_row_first_and_count_from_one(photos):
    folder, names = photos
    path = write(
        folder / "diw.csv", names[0], "1,2,3,4,>,31,24", names[1], "5.0,6,7,8, < ,31,24", ""
    )
    path.write_text(path.read_text().rstrip("\n"))
    (first, second), problems = read_annotations(path)
    assert not problems
    assert first.image == folder / names[0]
    assert (first.size, first.farther, first.nearer) == ((24, 31), (1, 2), (3, 4))
    assert (second.farther, second.nearer, second.line) == ((7, 8), (5, 6), 4)
    (moved, _), _ = read_annotations(path, folder / "elsewhere")
    assert moved.image == folder / "elsewhere" / names[0]


@pytest.mark.parametrize("shape", [(24, 31), (240, 320), (7, 10), (1, 1)])
def test_points_are_looked_up_as_published(rng, shape):
    """floor(coordinate / original size * size of the map), at least 1, counted from 1."""
    depth = rng.random(shape)
    for _ in range(200):
        (y, x), (v, u) = rng.integers(1, (HEIGHT + 1, WIDTH + 1), size=(2, 2)).tolist()
        pair = ds.evaluation.PointPair(None, (HEIGHT, WIDTH), (y, x), (v, u), 1)
        rows = [max(int(at * shape[0] // HEIGHT), 1) - 1 for at in (y, v)]
        columns = [max(int(at * shape[1] // WIDTH), 1) - 1 for at in (x, u)]
        assert pair.look_up(depth) == (depth[rows[0], columns[0]], depth[rows[1], columns[1]])


@pytest.mark.parametrize(
    "line",
    [
        "1,2,3,4,=,31,24",
        "1,2,3,4,>,31",
        "1,2,3,4,>,31,24,9",
        "1,2,x,4,>,31,24",
        "1,2,nan,4,>,31,24",
        "1,2,inf,4,>,31,24",
        "0,2,3,4,>,31,24",
        "1,2,3,32,>,31,24",
        "25,2,3,4,>,31,24",
    ],
)
def test_bad_annotations_are_named_and_the_others_used(photos, line):
    folder, names = photos
    path = write(folder / "diw.csv", names[0], "1,2,3,4,>,31,24", names[1], line)
    pairs, problems = read_annotations(path)
    assert len(pairs) == 1
    assert str(problems[0]).startswith("line 4: ")
    with pytest.raises(ValueError, match="holds no pair; line 2"):
        read_annotations(write(folder / "none.csv", names[0], line))


def test_files_that_are_no_annotations(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for path, words in [
        (tmp_path / "gone.csv", "annotations: no file"),
        (write(tmp_path / "odd.csv", "a.png", "1,2,3,4,>,9,9", "b.png"), "has 3 lines"),
        (write(tmp_path / "empty.csv"), "has 0 lines"),
        (tmp_path / "bytes.csv", "not a readable UTF-8"),
        (tmp_path, "not a readable UTF-8"),
    ]:
        with pytest.raises(ValueError, match=words):
            read_annotations(path)


# The table


def test_shares_intervals_and_the_baseline(photos):
    folder, names = photos
    lines = [
        (names[0], "5,20,9,10,>,31,24"),  # farther to the right and higher
        (names[0], "5,10,9,20,>,31,24"),  # farther to the left and higher
        (names[0], "9,20,5,10,>,31,24"),  # farther to the right and lower
        (names[1], "7,20,7,10,>,31,24"),  # farther to the right at one height
    ]
    path = write(folder / "diw.csv", *(part for line in lines for part in line))
    pairs, _ = read_annotations(path)
    table = depth_order_table(pairs, {"right": ramp(1), "flat": lambda image: np.ones((3, 5))})
    right, flat, lower = table.rows
    assert (right.name, right.correct, right.ties) == ("right", 0.75, 0)
    assert right.whdr == 0.25
    assert (flat.correct, flat.ties) == (0.5, 4)
    assert (lower.name, lower.correct, lower.ties) == ("lower is nearer", 0.625, 1)
    assert (table.pairs, table.images) == (4, 2)
    # Student's t of the two pictures' shares 2/3 and 1: t(1, 97.5 %) is 12.706.
    mean, half = 5 / 6, 12.706204736 * (1 / 3) / 2
    assert right.interval == pytest.approx((mean - half, mean + half))
    text = table.describe()
    assert "75.00%" in text and "0.2500" in text and "pairs 4, pictures 2" in text
    files = table.save(folder / "out")
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    assert [row["name"] for row in rows] == ["right", "flat", "lower is nearer"]
    assert float(rows[0]["correct"]) == 0.75 and rows[2]["ties"] == "1"
    assert "| right | 75.00% | 0.2500 |" in files[1].read_text()


def test_one_picture_has_no_interval(photos):
    folder, names = photos
    pairs, _ = read_annotations(write(folder / "diw.csv", names[0], "5,20,9,10,>,31,24"))
    assert all(row.interval is None for row in depth_order_table(pairs, {"x": ramp(1)}).rows)


def test_each_picture_is_seen_once(photos):
    folder, names = photos
    path = write(folder / "diw.csv", *[names[0], "5,20,9,10,>,31,24"] * 5)
    seen = []

    def see(image):
        seen.append(image.shape)
        return ramp(1)(image)

    depth_order_table(read_annotations(path)[0], {"see": see})
    assert seen == [(HEIGHT, WIDTH, 3)]


def test_what_fails_is_left_out_of_every_row(photos):
    folder, names = photos
    path = write(folder / "diw.csv", "gone.png", "5,20,9,10,<,31,24", names[0], "5,20,9,10,>,31,24")
    table = depth_order_table(read_annotations(path)[0], {"right": ramp(1), "down": ramp(0)})
    assert table.pairs == 1
    assert str(table.problems[0]).startswith("line 2: ") and "gone.png" in str(table.problems[0])
    assert [row.correct for row in table.rows] == [1, 0, 1]
    for bad, words in [
        (lambda image: np.full((2, 2), np.nan), "NaN or infinite"),
        (lambda image: np.zeros((2, 2, 2)), r"a depth map is \(H, W\)"),
    ]:
        with pytest.raises(ds.ImageError, match=f"no pair could be judged.*{words}"):
            depth_order_table(read_annotations(path)[0], {"bad": bad})


# Measured depth


def test_random_pairs_are_valid_apart_and_seeded(rng):
    metres = rng.uniform(1, 9, (HEIGHT, WIDTH))
    metres[::3] = 0
    depth = ds.read_depth_map(metres)
    pairs = random_pairs("a.png", depth, 500, np.random.default_rng(3), margin=0.1)
    assert len(pairs) == 500
    for pair in pairs:
        farther, nearer = pair.look_up(depth.depth)
        assert farther - nearer >= 0.1
        for row, column in (pair.farther, pair.nearer):
            assert depth.valid[row - 1, column - 1]
    assert pairs == random_pairs("a.png", depth, 500, np.random.default_rng(3), margin=0.1)
    assert pairs != random_pairs("a.png", depth, 500, np.random.default_rng(4), margin=0.1)
    sides = np.mean([pair.farther[1] > pair.nearer[1] for pair in pairs])
    assert 0.4 < sides < 0.6


def test_pairs_of_a_row_do_not_depend_on_other_rows(tmp_path, rng):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.uniform(1, 9, (9, 9)))
    both = write(tmp_path / "both.csv", "image,depth", "a.png,a.npy", "b.png,b.npy")
    broken = write(tmp_path / "broken.csv", "image,depth", "a.png,gone.npy", "b.png,b.npy")
    pairs, problems = draw_pairs(both, 20, seed=1)
    assert len(pairs) == 40 and not problems
    rest, problems = draw_pairs(broken, 20, seed=1)
    assert rest == pairs[20:]
    assert "line 2: " in str(problems[0]) and "gone.npy" in str(problems[0])


def test_options_of_depth_maps(tmp_path, rng):
    np.save(tmp_path / "d.npy", rng.uniform(1, 9, (9, 9)))
    plain = write(tmp_path / "plain.csv", "image,depth", "a.png,d.npy")
    turned = write(
        tmp_path / "turned.csv",
        "image,depth,kind,scale,invalid,near,far,encoding",
        "a.png,d.npy,disparity,2,0 65535,18,2,",
    )
    for one, other in zip(draw_pairs(plain, 30)[0], draw_pairs(turned, 30)[0], strict=True):
        assert {one.farther, one.nearer} == {other.farther, other.nearer}
        assert one.farther == other.nearer


def test_unfit_depth_maps(tmp_path):
    np.save(tmp_path / "flat.npy", np.linspace(0.5, 0.505, 81).reshape(9, 9))
    good = write(tmp_path / "good.csv", "image,depth", "a.png,flat.npy")
    for path, words in [
        (tmp_path / "gone.csv", "no file"),
        (write(tmp_path / "head.csv", "picture,depth", "a,b"), "must have the header image,depth"),
        (write(tmp_path / "more.csv", "image,depth,unit", "a,b,m"), "must have the header"),
        (write(tmp_path / "bare.csv", "image,depth"), "rows below it"),
        (write(tmp_path / "cells.csv", "image,depth", "a"), "line 2: has not the header's cells"),
        (write(tmp_path / "long.csv", "image,depth", "a,b,c"), "must have the header|line 2"),
        (good, r"line 2: .*no two depths differ by 0\.02"),
    ]:
        with pytest.raises(ValueError, match=words):
            draw_pairs(path)
    for options, words in [
        ({"count": 0}, "pairs=0"),
        ({"seed": -1}, "seed=-1"),
        ({"margin": 0}, "margin=0"),
        ({"margin": float("nan")}, "margin=nan"),
    ]:
        with pytest.raises(ValueError, match=words):
            draw_pairs(good, **options)


# The command


def test_command_on_predictions(photos, rng, capsys):
    folder, names = photos
    metres = rng.uniform(1, 9, (2, HEIGHT, WIDTH)).astype(np.float32)
    (folder / "near").mkdir()
    for name, depth in zip("ab", metres, strict=True):
        np.save(folder / f"{name}.npy", depth)
        np.save(folder / "near" / f"{name}.npy", 1 / depth)
    rows = ["image,depth", *(f"{n},{k}.npy" for n, k in zip(names, "ab", strict=True))]
    path = write(folder / "maps.csv", *rows)
    words = ["--depth-maps", str(path), "--pairs", "50", "--predictions", str(folder / "near")]
    out = ["--out", str(folder / "out")]
    assert cli.main(["evaluate", "depth-order", *words, "--kind", "disparity", *out]) == 0
    said = capsys.readouterr()
    assert "100.00%" in said.out and "lower is nearer" in said.out and said.err == ""
    assert (folder / "out" / "depth_order.csv").exists()
    assert cli.main(["evaluate", "depth-order", *words]) == 0
    assert "  0.00%" in capsys.readouterr().out
    (folder / "near" / "b.npy").unlink()
    assert cli.main(["evaluate", "depth-order", *words]) == 1
    said = capsys.readouterr()
    assert "pairs 50, pictures 1" in said.out
    assert "left out" in said.err and "needs one depth file b.*" in said.err


def test_command_on_annotations_alone(photos, capsys):
    folder, names = photos
    path = write(folder / "diw.csv", names[0], "5,20,9,10,>,31,24")
    assert cli.main(["evaluate", "depth-order", "--annotations", str(path)]) == 0
    assert "lower is nearer            100.00%   0.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--annotations", "diw.csv", "--depth-maps", "maps.csv"],
        ["--annotations", "gone.csv"],
        ["--annotations", "diw.csv", "--predictions", "gone"],
        ["--annotations", "diw.csv", "--predictions", "empty"],
    ],
)
def test_bad_input_is_one_line(photos, capsys, monkeypatch, words):
    folder, names = photos
    (folder / "empty").mkdir()
    write(folder / "diw.csv", names[0], "5,20,9,10,>,31,24")
    monkeypatch.chdir(folder)
    assert cli.main(["evaluate", "depth-order", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1


def test_real_depth_maps(shared, tmp_path):
    """Measured depth orders its own points; lower is nearer is right in most real pictures."""
    folder = shared / "data" / "rgbd"
    with open(folder / "pairs.tsv") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    rows = [row for row in rows if row["encoding"] == "linear" and row["kind"] == "depth"][::3]
    lines = ["image,depth,scale,invalid"]
    for row in rows:
        invalid = row["invalid"].replace(",", " ")
        lines.append(f"{folder / row['rgb']},{folder / row['depth']},{row['scale']},{invalid}")
    pairs, problems = draw_pairs(write(tmp_path / "maps.csv", *lines), 200)
    assert not problems and len(pairs) > 190 * len(rows)
    (tmp_path / "depth").mkdir()
    for row in rows:
        target = tmp_path / "depth" / f"{row['rgb'].rpartition('.')[0]}{row['depth'][-4:]}"
        target.symlink_to(folder / row["depth"])
    table = depth_order_table(pairs, {"measured": tmp_path / "depth"})
    measured, lower = table.rows
    # Files are read without their second invalid value here, which moves the ends of the range.
    assert measured.correct > 0.99
    assert 0.6 < lower.correct < 0.9
