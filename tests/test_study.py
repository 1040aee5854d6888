"""User study without a server: statistics, who sees what, database, report, command line."""

import csv
import io
import math
import sqlite3
import stat
import threading
from collections import Counter

import numpy as np
import pytest
from comparison import HEADER, scene, write_comparison, write_csv
from PIL import Image
from scipy import stats

import depthstyle as ds
from depthstyle import cli
from depthstyle.study.database import NotFound, Refused
from depthstyle.study.design import assign

# Statistics


def test_the_votes_of_paper_002(capsys):
    assert cli.main(["study", "test", "--votes", "207", "--of", "360"]) == 0
    out = capsys.readouterr().out
    for words in ("207 of 360", "57.5 %", "2.6 %", "0.002573", "0.005146", "52.2 % to 62.7 %"):
        assert words in out
    one_sided, two_sided = (line for line in out.splitlines() if "-sided" in line)
    assert "0.002573" in one_sided
    assert "alternative: ours is liked more often" in one_sided
    assert "0.005146" in two_sided
    assert "alternative: one of the two" in two_sided


@pytest.mark.parametrize(("votes", "of"), [(7, 9), (2, 11), (10, 10), (0, 3), (1, 1)])
def test_binomial_test_is_the_sum_of_probabilities(votes, of):
    probability = [math.comb(of, k) / 2**of for k in range(of + 1)]
    result = ds.study.binomial_test(votes, of)
    assert result.p_one_sided == pytest.approx(sum(probability[votes:]))
    # The two tails are equal because the hypothesis is 0.5.
    tail = min(sum(probability[: votes + 1]), sum(probability[votes:]))
    assert result.p_two_sided == pytest.approx(min(1, 2 * tail))
    low, high = result.interval
    expected = (
        stats.beta.ppf(0.025, votes, of - votes + 1) if votes else 0,
        stats.beta.ppf(0.975, votes + 1, of - votes) if votes < of else 1,
    )
    assert (low, high) == pytest.approx(expected)


def test_cluster_bootstrap_is_wider_when_respondents_differ():
    alike = ds.study.cluster_bootstrap([10] * 18, [20] * 18)
    apart = ds.study.cluster_bootstrap([2, 18] * 9, [20] * 18)
    assert alike == (0.5, 0.5)
    # The mean of 18 proportions of 0.1 or 0.9 has a standard deviation of 0.4 / sqrt(18); the
    # percentile of 10,000 resamples on a grid of 0.8 / 18 is not nearer than one step.
    half = 1.96 * 0.4 / math.sqrt(18)
    assert apart == pytest.approx((0.5 - half, 0.5 + half), abs=0.8 / 18)
    assert ds.study.cluster_bootstrap([2, 18] * 9, [20] * 18) == apart
    assert ds.study.cluster_bootstrap([5], [10]) is None


def test_cluster_bootstrap_weighs_respondents_by_their_votes():
    low, high = ds.study.cluster_bootstrap([1, 0], [1, 99])
    assert low == 0
    assert high == 1
    low, high = ds.study.cluster_bootstrap([100, 0] * 50, [100, 1] * 50)
    assert low > 0.95


@pytest.mark.parametrize("two_sided", [True, False])
def test_power_is_the_probability_of_a_significant_test(two_sided):
    result = ds.study.power(0.6, 5, two_sided=two_sided)

    def exact(votes):
        alternative = "two-sided" if two_sided else "greater"
        return sum(
            stats.binom.pmf(k, votes, 0.6)
            for k in range(votes + 1)
            if stats.binomtest(k, votes, alternative=alternative).pvalue <= 0.05
        )

    assert result.power == pytest.approx(exact(5 * result.respondents))
    assert all(exact(5 * n) >= 0.8 for n in range(result.respondents, result.respondents + 6))
    assert exact(5 * (result.respondents - 1)) < 0.8


def test_correlated_votes_need_more_respondents():
    independent = ds.study.power(0.575, 20)
    correlated = ds.study.power(0.575, 20, correlation=0.1)
    assert correlated.respondents / independent.respondents == pytest.approx(2.9, rel=0.1)
    # Votes that are all alike count once.
    assert ds.study.power(0.7, 20, correlation=1).respondents == ds.study.power(0.7, 1).respondents


def test_power_on_the_command_line(capsys):
    line = ["study", "power", "--effect", "0.575", "--pairs-per-respondent", "20"]
    assert cli.main(line) == 0
    expected = ds.study.power(0.575, 20)
    out = capsys.readouterr().out
    assert f"{expected.respondents} respondents ({expected.votes} votes)" in out
    assert cli.main([*line, "--one-sided", "--power", "0.9", "--level", "0.01"]) == 0
    assert "one-sided exact binomial test at level 0.01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "--votes", "5", "--of", "4"], "votes=5"),
        (["test", "--votes", "-1", "--of", "4"], "votes=-1"),
        (["test", "--votes", "0", "--of", "0"], "of=0"),
        (["power", "--effect", "0.5", "--pairs-per-respondent", "2"], "effect=0.5"),
        (["power", "--effect", "nan", "--pairs-per-respondent", "2"], "effect=nan"),
        (["power", "--effect", "0.6", "--pairs-per-respondent", "0"], "pairs_per_respondent=0"),
        (["power", "--effect", "0.50001", "--pairs-per-respondent", "1"], "100,000"),
        (
            ["power", "--effect", "0.6", "--pairs-per-respondent", "2", "--correlation", "2"],
            "correlation=2",
        ),
        (["power", "--effect", "0.6", "--pairs-per-respondent", "2", "--level", "0"], "level=0"),
        (["serve", "gone"], "depthstyle study build"),
        (["report", "gone"], "depthstyle study build"),
    ],
)
def test_bad_options(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


# Who sees what


@pytest.mark.parametrize(("pairs", "respondents", "each"), [(20, 18, 20), (7, 10, 3), (5, 4, 5)])
def test_every_pair_is_shown_equally_often(pairs, respondents, each):
    ballots = assign(pairs, respondents, each, seed=3)
    shown = Counter(pair for ballot in ballots for pair, _ in ballot)
    assert len(ballots) == respondents
    assert all(len({pair for pair, _ in ballot}) == each for ballot in ballots)
    counts = [shown[pair] for pair in range(pairs)]
    assert max(counts) - min(counts) <= 1
    for ballot in ballots:
        left = sum(side == "left" for _, side in ballot)
        assert abs(2 * left - each) <= 1


def test_order_and_sides_are_random_and_repeatable():
    ballots = assign(20, 400, 20, seed=0)
    assert assign(20, 400, 20, seed=0) == ballots
    assert assign(20, 400, 20, seed=1) != ballots
    # 400 draws: five standard deviations of a share of 1/2, and of 1/20, are 0.125 and 0.055.
    left = np.mean([dict(ballot)[7] == "left" for ballot in ballots])
    first = np.mean([ballot[0][0] == 7 for ballot in ballots])
    assert abs(left - 0.5) < 0.125
    assert abs(first - 0.05) < 0.055


# Building


@pytest.fixture
def pairs(tmp_path):
    return write_comparison(tmp_path, images=2)


@pytest.fixture
def study(pairs, tmp_path):
    return ds.study.build(
        pairs, tmp_path / "study", respondents=3, pairs_per_respondent=4, progress=False
    )


def build_line(pairs, out, respondents="3", each="4", *more):
    counts = ["--respondents", respondents, "--pairs-per-respondent", each]
    return ["study", "build", "--pairs", str(pairs), "--out", str(out), *counts, *more]


def test_build_makes_one_private_file(pairs, tmp_path, capsys):
    out = tmp_path / "study"
    assert cli.main(build_line(pairs, out)) == 0
    assert "depthstyle study serve" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["study.sqlite3"]
    assert stat.S_IMODE((out / "study.sqlite3").stat().st_mode) == 0o600
    with ds.study.Study(out).connect() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        # Two content images, each used twice and stored once.
        assert connection.execute("SELECT COUNT(*) FROM picture").fetchone() == (2 + 2 * 4,)


def test_tokens_are_unguessable(pairs, tmp_path):
    first, second = (
        ds.study.build(
            pairs, tmp_path / name, respondents=50, pairs_per_respondent=1, seed=1, progress=False
        ).tokens()
        for name in ("first", "second")
    )
    assert len({*first, *second}) == 100
    assert all(len(token) == 22 for token in first)


def test_build_never_overwrites_votes(pairs, study, capsys):
    assert cli.main(build_line(pairs, study.folder)) == 2
    assert "holds a study already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["0", "4"], "respondents=0"),
        (["3", "0"], "pairs_per_respondent=0"),
        (["3", "5"], "has 4 pairs only"),
        (["3", "4", "--seed", "-1"], "seed=-1"),
        (["3", "4", "--question", "  "], "question"),
        (["3", "four"], "four"),
    ],
)
def test_build_refuses(pairs, tmp_path, capsys, options, message):
    before = sorted(tmp_path.iterdir())
    assert cli.main(build_line(pairs, tmp_path / "study", *options)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


def test_build_names_all_bad_rows_and_leaves_nothing(pairs, tmp_path, capsys):
    Image.fromarray(scene(1, 48, 70)).save(tmp_path / "wide.png")
    good = ["scene0.png", "scene0_ink_ours.png", "scene0_ink_baseline.png"]
    rows = [
        ["a", "ink", *good],
        ["b", "ink", good[0], "gone.png", good[2]],
        ["c", "ink", *good[:2], "wide.png"],
        ["d", "ink"],
    ]
    before = sorted(tmp_path.iterdir())
    assert cli.main(build_line(write_csv(pairs, rows), tmp_path / "study", "1", "1")) == 2
    error = capsys.readouterr().err
    assert all(f"line {line}:" in error for line in (3, 4, 5))
    assert "line 2:" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_pictures_of_a_pair_cannot_be_told_apart_by_size_or_metadata(tmp_path):
    content, exif = scene(1, 300, 400), Image.Exif()
    exif[0x010E] = "made by ours"
    Image.fromarray(content).save(tmp_path / "c.png")
    Image.fromarray(content).save(tmp_path / "o.jpg", exif=exif, comment=b"ours")
    Image.fromarray(content[::2, ::2]).save(tmp_path / "b.png")
    pairs = write_csv(tmp_path / "pairs.csv", [["a", "", "c.png", "o.jpg", "b.png"]], HEADER)
    study = ds.study.build(
        pairs, tmp_path / "study", respondents=1, pairs_per_respondent=1, progress=False
    )
    pictures = [study.picture(study.tokens()[0], 1, side) for side in ("left", "right")]
    opened = [Image.open(io.BytesIO(jpeg)) for jpeg in pictures]
    assert [image.size for image in opened] == [(200, 150)] * 2
    assert opened[0].info == opened[1].info
    assert not any(b"ours" in jpeg for jpeg in pictures)


def test_long_pictures_are_scaled_down(tmp_path):
    for name in ("c", "o", "b"):
        Image.fromarray(scene(1, 60, 2400)).save(tmp_path / f"{name}.png")
    pairs = write_csv(tmp_path / "pairs.csv", [["a", "", "c.png", "o.png", "b.png"]], HEADER)
    study = ds.study.build(
        pairs, tmp_path / "study", respondents=1, pairs_per_respondent=1, progress=False
    )
    jpeg = study.picture(study.tokens()[0], 1, "left")
    assert Image.open(io.BytesIO(jpeg)).size == (1600, 40)


# Votes


def test_votes_go_in_order_and_stay(study):
    token = study.tokens()[0]
    with pytest.raises(Refused, match="consent"):
        study.vote(token, 1, "left")
    assert study.consent(token).consented
    assert study.vote(token, 1, "left").answered == 1
    assert study.vote(token, 1, "left").answered == 1
    for position, side in ((1, "right"), (3, "left"), (0, "left"), (5, "left"), (2, "middle")):
        with pytest.raises(Refused):
            study.vote(token, position, side)
    for position in (2, 3, 4):
        study.vote(token, position, "right")
    with pytest.raises(Refused):
        study.vote(token, 5, "left")
    assert study.state(token) == ds.study.State(True, 4, 4)
    assert study.state(study.tokens()[1]) == ds.study.State(False, 0, 4)
    assert [vote.side for vote in study.votes()] == ["left", "right", "right", "right"]


def test_the_database_itself_refuses_a_second_vote(study):
    token = study.tokens()[0]
    study.consent(token)
    study.vote(token, 1, "left")
    with study.connect() as connection:
        pair = study.votes()[0].pair
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute("INSERT INTO vote VALUES (1, ?, 'right')", (pair,))
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("INSERT INTO vote VALUES (1, 99, 'right')")


def test_only_one_of_two_simultaneous_votes_counts(study):
    token = study.tokens()[0]
    study.consent(token)
    refused = []

    def vote(side):
        try:
            study.vote(token, 1, side)
        except Refused:
            refused.append(side)

    threads = [threading.Thread(target=vote, args=(side,)) for side in ("left", "right") * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (vote,) = study.votes()
    assert refused == [{"left": "right", "right": "left"}[vote.side]] * 10


@pytest.mark.parametrize("token", ["", "x", "' OR 1=1 --", "a" * 5000, "\x00"])
def test_unknown_tokens(study, token):
    for call in (study.state, study.consent):
        with pytest.raises(NotFound):
            call(token)
    with pytest.raises(NotFound):
        study.vote(token, 1, "left")
    with pytest.raises(NotFound):
        study.picture(token, 1, "left")


def test_pictures_follow_the_sides(study, tmp_path):
    token = study.tokens()[0]
    with study.connect() as connection:
        ballots = connection.execute(
            "SELECT position, pair, ours_side FROM ballot WHERE respondent = 1"
        ).fetchall()
    assert {side for _, _, side in ballots} == {"left", "right"}
    for position, pair, ours_side in ballots:
        stored = study.pair_pictures(pair)
        other = {"left": "right", "right": "left"}[ours_side]
        assert study.picture(token, position, "content") == stored["content"]
        assert study.picture(token, position, ours_side) == stored["ours"]
        assert study.picture(token, position, other) == stored["baseline"]
    for position, name in ((0, "left"), (5, "left"), (2**80, "left"), (1, "ours"), (1, "../x")):
        with pytest.raises(NotFound):
            study.picture(token, position, name)


def test_a_foreign_file_is_no_study(tmp_path, capsys):
    (tmp_path / "study.sqlite3").write_text("not a database, but long enough to look at")
    assert cli.main(["study", "report", str(tmp_path)]) == 2
    assert "not a study's database" in capsys.readouterr().err


# Report


def vote_for(study, respondent, choices):
    """Vote for ours where `choices` says so."""
    token = study.tokens()[respondent - 1]
    study.consent(token)
    with study.connect() as connection:
        sides = connection.execute(
            "SELECT ours_side FROM ballot WHERE respondent = ? ORDER BY position", (respondent,)
        ).fetchall()
    for position, (ours, (side,)) in enumerate(zip(choices, sides, strict=False), start=1):
        study.vote(token, position, side if ours else {"left": "right", "right": "left"}[side])


def test_report(study, capsys):
    vote_for(study, 1, [True, True, True, False])
    vote_for(study, 3, [True, False])
    assert cli.main(["study", "report", str(study.folder)]) == 0
    out = capsys.readouterr().out
    assert str(ds.study.binomial_test(4, 6)) in out
    assert "2 of 3 invited voted, 6 of 12 votes" in out
    assert "cluster bootstrap" in out

    report = ds.study.report(study)
    tallies = [(t.number, t.test.votes, t.test.of) for t in report.respondents]
    assert tallies == [(1, 3, 4), (3, 1, 2)]
    assert sum(t.test.of for t in report.pairs) == 6
    assert report.bootstrap == ds.study.cluster_bootstrap([3, 1], [4, 2])

    rows = list(csv.DictReader(io.StringIO((study.folder / "votes.csv").read_text())))
    assert [row["vote"] for row in rows].count("ours") == 4
    for row in rows:
        assert (row["side"] == row["ours_side"]) == (row["vote"] == "ours")

    html = (study.folder / "report.html").read_text()
    assert "0.3438" in html
    assert html.count("data:image/jpeg") == 3 * len(report.pairs)
    assert "<svg" in html
    for token in study.tokens():
        assert token not in html
        assert token not in (study.folder / "votes.csv").read_text()


def test_plots_show_every_share(study):
    vote_for(study, 1, [True, False, True, True])
    vote_for(study, 2, [False, False, True, False])
    report = ds.study.report(study)
    panels = report.plot().axes
    for panel, tallies in zip(panels, (report.pairs, report.respondents), strict=True):
        dots = next(line for line in panel.lines if line.get_marker() == "o")
        assert sorted(dots.get_xdata()) == sorted(t.test.proportion for t in tallies)


def test_names_are_escaped_in_the_report(pairs, tmp_path):
    pairs.write_text(pairs.read_text().replace("ink,", "<script>alert(1)</script>,"))
    study = ds.study.build(
        pairs,
        tmp_path / "study",
        respondents=1,
        pairs_per_respondent=4,
        question="<b>?",
        progress=False,
    )
    vote_for(study, 1, [True] * 4)
    result = ds.study.report(study)
    ds.study.write_report(study, result)
    html = (study.folder / "report.html").read_text()
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert result.bootstrap is None


def test_no_votes_no_report(study, capsys):
    assert cli.main(["study", "report", str(study.folder)]) == 2
    assert "nobody voted yet" in capsys.readouterr().err
    assert not (study.folder / "report.html").exists()
