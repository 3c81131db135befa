"""Groups of people: numbers in bands, AUC, gaps between groups that are large enough, and the command."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.conftest import call, write_faces
from training.evaluation.auc import auc, auc_interval
from training.evaluation.bands import band_names, in_bands
from training.evaluation.groups import _wilson, gap_rows


def test_bands():
    assert band_names((18, 30.5)) == ["under 18", "18 to under 30.5", "30.5 and over"]
    found = in_bands([17, 18, 30.4, 30.5, None, float("nan")], (18, 30.5), "age", [""] * 6)
    assert found == ["under 18", "18 to under 30.5", "18 to under 30.5", "30.5 and over", None, None]
    assert in_bands(["x", 4, None], (), "age", [""] * 3) == ["x", "4", None]
    for wrong in ((30, 18), (18, 18), (float("nan"),), (18, float("inf"))):
        with pytest.raises(ValueError, match="give numbers that rise, such as 18,30,45"):
            band_names(wrong)
    with pytest.raises(ValueError, match="faces: b: age is 'old', and --bands are for numbers"):
        in_bands([1, "old"], (18,), "age", ["faces: a", "faces: b"])


def test_auc_by_hand_and_by_scikit_learn():
    first = np.array([True, True, False, False])
    assert auc(np.array([3.0, 2.0, 1.0, 0.0]), first) == 1
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), first) == 0.5
    assert auc(np.array([3.0, 1.0, 2.0, 1.0]), first) == (1 + 1 + 0 + 0.5) / 4
    assert auc(np.array([3.0, 1.0, 2.0, 1.0]), first, np.array([2, 1, 1, 1])) == (2 + 2 + 0 + 0.5) / 6
    assert np.isnan(auc(np.array([1.0]), np.array([True])))
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    scores, first = generator.integers(20, size=300) / 4, generator.random(300) < 0.3
    assert auc(scores, first) == pytest.approx(metrics.roc_auc_score(first, scores))
    assert auc(-scores, first) == pytest.approx(1 - auc(scores, first))
    low, high = auc_interval(scores, first)
    assert low < auc(scores, first) < high and (low, high) == auc_interval(scores, first)
    spread = np.sqrt(1 / 12 * (1 / first.sum() + 1 / (~first).sum()))  # of scores that say nothing
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_wilson():
    assert _wilson(5, 10) == pytest.approx((23.66, 76.34), abs=0.01)  # as tables have it
    assert _wilson(10, 10) == pytest.approx((72.25, 100), abs=0.01)
    assert _wilson(0, 10) == pytest.approx((0, 27.75), abs=0.01)


def row(group: str, n: int, value: float, half: float) -> dict:
    about = {"model": "m", "benchmark": "b", "fold": "all", "prompt_set": "p", "group": group, "n": n}
    measured = {
        f"{name}{end}": value + by for name in ("uar", "war") for end, by in (("", 0), ("_low", -half), ("_high", half))
    }
    return about | measured


def test_gaps_are_of_groups_that_are_large_enough():
    rows = [row("a", 40, 80, 3), row("b", 50, 70, 4), row("c", 9, 10, 30), row("d", 10, 75, 20)]
    uar, _ = gap_rows(rows, 1, 10)
    assert (uar["best"], uar["worst"], uar["groups"], uar["too_small"]) == ("a", "b", 3, "c (9)")
    assert (uar["gap"], uar["gap_low"], uar["gap_high"]) == pytest.approx((10, 5, 15))  # the root of 3 ^ 2 + 4 ^ 2
    uar, _ = gap_rows(rows, 1, 41)
    assert (uar["gap"], uar["groups"], uar["best"]) == (None, 1, None) and uar["too_small"] == "a (40), c (9), d (10)"


@pytest.fixture
def people(tmp_path):
    """60 faces of two classes, with ages; of one it is not known, and two are over 50."""
    faces = pq.read_table(write_faces(tmp_path / "faces.parquet", 60)).drop(["label"])
    ages = [20 + i % 20 for i in range(57)] + [None, 60, 61]
    faces = faces.append_column("label", pa.array(["happy", "neutral"] * 30)).append_column("age", pa.array(ages))
    pq.write_table(faces.replace_schema_metadata(None), tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def table(path):
    return list(csv.DictReader(path.open(newline="", encoding="utf-8")))


def test_the_command_compares_bands(tmp_path, people, checkpoint, monkeypatch, capsys):
    def benchmark(*options):
        arguments = ("--model", checkpoint, "--prompts", "photo", "--data", f"mine={people}", "--label-set", "rafdb")
        code = call("benchmark", *arguments, "--output", tmp_path / "out", *options, monkeypatch=monkeypatch)
        return code, capsys.readouterr()

    for options, message in (
        (("--bands", "30,50"), "--bands are of a --group"),
        (("--group", "age", "--bands", "50,30"), "give numbers that rise"),
        (("--group", "age", "--bands", "young"), "--bands young: expected numbers"),
        (("--group", "caption", "--bands", "30"), "and --bands are for numbers"),
        (("--group", "age", "--min-group", "0"), "--min-group is 0"),
        (("--group", "height"), "has no column height"),
    ):
        code, printed = benchmark(*options)
        assert code == 2 and message in printed.err, printed.err

    code, printed = benchmark("--group", "age", "--bands", "30,50")
    assert code == 0, printed.err
    assert f"{people}: 1 of 60 samples have no age, and are in no group" in printed.err
    groups = {row["group"]: row for row in table(tmp_path / "out" / "groups.csv")}
    assert {name: row["n"] for name, row in groups.items()} == {
        "under 30": "30",
        "30 to under 50": "27",
        "50 and over": "2",
    }
    entries = pq.read_table(tmp_path / "out" / "expclip-small" / "mine" / "predictions.parquet").to_pylist()
    for name, found in groups.items():
        own = [entry for entry in entries if entry["group"] == name]
        happy = [entry["guess"] == "happiness" for entry in own if entry["truth"] == "happiness"]
        assert found["n_happiness"] == str(len(happy)) and "n_anger" not in found
        assert float(found["recall_happiness"]) == pytest.approx(100 * np.mean(happy), abs=0.01)
        scores = np.array([np.log(entry["p_happiness"] / entry["p_neutral"]) for entry in own])
        first = np.array([entry["truth"] == "happiness" for entry in own])
        assert float(found["auc"]) == pytest.approx(auc(scores, first), abs=1e-4)
        assert (found["gap"] == "") is (name == "50 and over")
    gaps = {row["measure"]: row for row in table(tmp_path / "out" / "gaps.csv")}
    assert {*gaps} == {"uar", "war", "auc", "recall_happiness", "recall_neutral"}
    assert (gaps["uar"]["too_small"], gaps["auc"]["too_small"]) == ("50 and over (2)", "50 and over (1)")
    between = [float(groups[name]["auc"]) for name in ("under 30", "30 to under 50")]
    assert float(gaps["auc"]["gap"]) == pytest.approx(max(between) - min(between), abs=2e-4)
    report = (tmp_path / "out" / "report.md").read_text()
    assert "AUC of happiness over neutral" in report and "too small to compare: 50 and over (2)" in report

    code, printed = benchmark("--group", "age", "--bands", "30,50", "--min-group", "1")
    assert code == 0 and table(tmp_path / "out" / "gaps.csv")[0]["groups"] == "3"  # nothing is computed again
    code, printed = benchmark("--group", "age", "--bands", "40")
    assert code == 2 and "made with another bands" in printed.err
