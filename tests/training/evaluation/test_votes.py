"""Probabilities against votes: the metrics by hand and by their properties, one of a panel against the rest by enumeration, the fitted
temperature, and the command from a Parquet file to panel.csv."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from fractions import Fraction
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_expclip import LABEL_SETS
from tests.training.conftest import call, write_faces
from training.evaluation.agreement import ONE_OF_THE_PANEL, _Compared, _of_people
from training.evaluation.bootstrap import resampled_sums
from training.evaluation.metrics import load
from training.evaluation.panel import FERPLUS, Panel, load_panel, majority
from training.evaluation.samples import load_samples
from training.evaluation.temperature import fit_temperature, tempered

NAMES = ("soft_cross_entropy", "js_divergence", "calibration")


def score(name: str, answers, votes, **options) -> float:
    return load(name).compute(predictions=answers, references=votes, **options)[name]


def panel_of(count: int, seed: int = 0, classes: int = 5, people: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and votes, (count, classes) each, that have something to do with each other."""
    generator = np.random.default_rng(seed)
    answers = generator.dirichlet(np.full(classes, 0.5), count)
    mixed = 0.6 * answers + 0.4 * generator.dirichlet(np.full(classes, 0.5), count)
    return answers, generator.multinomial(people, mixed / mixed.sum(1, keepdims=True))


def test_by_hand():
    answers, votes = [[0.5, 0.25, 0.25], [0.25, 0.75, 0]], [[5, 5, 0], [0, 2, 0]]
    first, second = -(math.log(0.5) + math.log(0.25)) / 2, -math.log(0.75)
    assert score("soft_cross_entropy", answers, votes) == pytest.approx((first + second) / 2)
    # Middles: (1/2, 3/8, 1/8) and (1/8, 7/8, 0).
    first = (0.25 * math.log2(2 / 3) + 0.25 * math.log2(2) + 0.5 * math.log2(4 / 3)) / 2
    second = (0.25 * math.log2(2) + 0.75 * math.log2(6 / 7) + math.log2(8 / 7)) / 2
    assert score("js_divergence", answers, votes) == pytest.approx((first + second) / 2)
    # Confidences 0.5 and 0.75, of which half and all the votes: 0 and 25 points off, in bins of their own or in one.
    assert score("calibration", answers, votes) == pytest.approx(12.5)
    assert score("calibration", [[0.6, 0.4], [0.8, 0.2]], [[1, 0], [0, 1]], bins=1) == pytest.approx(
        20
    )  # 70 said, 50 right
    assert score("calibration", [[0.6, 0.4], [0.8, 0.2]], [[1, 0], [0, 1]]) == pytest.approx((40 + 80) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_properties(seed):
    answers, votes = panel_of(300, seed)
    shares = votes / votes.sum(1, keepdims=True)
    assert score("js_divergence", shares, votes) == pytest.approx(0, abs=1e-12)
    assert score("calibration", shares, votes) == pytest.approx(0, abs=1e-9)
    floor = score("soft_cross_entropy", shares, votes)
    assert floor < score("soft_cross_entropy", answers, votes)  # Gibbs
    order = np.random.default_rng(seed).permutation(5)
    for name in NAMES:
        found = score(name, answers, votes)
        assert score(name, answers, 3 * votes) == pytest.approx(found)  # shares count, not how many people
        assert score(name, answers[::-1], votes[::-1]) == pytest.approx(found)
        assert score(name, answers[:, order], votes[:, order]) == pytest.approx(found)
    here, there = np.eye(2)[[0, 1, 0]], np.array([[0, 7], [4, 0], [0, 1]])
    assert score("js_divergence", here, there) == pytest.approx(1)  # nothing in common
    assert score("soft_cross_entropy", here, there) == math.inf
    given = answers[np.arange(300), votes.argmax(1)]
    one = np.eye(5, dtype=int)[votes.argmax(1)]  # a label is one vote
    assert score("soft_cross_entropy", answers, one) == pytest.approx(-np.log(given).mean())


def test_equal_to_scipy():
    distance = pytest.importorskip("scipy.spatial.distance")
    answers, votes = panel_of(200, 4)
    theirs = np.mean([distance.jensenshannon(a, v, base=2) ** 2 for a, v in zip(answers, votes / 10)])
    assert score("js_divergence", answers, votes) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_named_and_the_module_goes_on(name):
    metric = load(name)
    for answers, votes, message in (
        ([], [], "predictions are empty: give at least one"),
        ([[0.5, 0.5]], [[1, 1], [1, 0]], "Mismatch in the number"),
        ([[0.5, 0.5], [1.0]], [[1, 1], [1, 0]], "predictions have rows of 1, 2 values"),
        ([[0.5, 0.5]], [[1, 1, 0]], r"predictions have shape \(1, 2\) and references \(1, 3\)"),
        ([[0.5, 0.4]], [[1, 1]], r"predictions\[0\] is \[0.5, 0.4\], with the sum 0.9: expected probabilities"),
        ([[1.5, -0.5]], [[1, 1]], r"predictions\[0\]"),
        ([[0.5, None]], [[1, 1]], r"predictions\[0\]"),
        ([[0.5, 0.5], [1, 0]], [[1, 1], [0, 0]], r"references\[1\] has no vote: leave the sample out"),
        ([[0.5, 0.5]], [[1, -1]], r"references\[0\]\[1\] is -1: expected a number of votes"),
        ([[0.5, 0.5]], [[0.3, 0.7]], r"references\[0\]\[0\] is 0.3: expected a number of votes"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.compute(predictions=answers, references=votes)
    result = metric.compute(predictions=np.array([[0.5, 0.5]]), references=np.array([[1, 1]]))
    assert json.loads(json.dumps(result)) == result and list(result) == [name]
    with pytest.raises(ValueError, match="bins is 0"):
        score("calibration", [[0.5, 0.5]], [[1, 1]], bins=0)


def one_against_the_rest(panels: list[list[str]], candidates: str) -> dict[str, float]:
    """By drawing everyone once, in whole fractions. ``panels``: what each person said of each sample."""
    agreed, diverged, hits, totals = Fraction(0), 0.0, Counter(), Counter()
    for said in panels:
        own = [word for word in said if word in candidates]
        chance = Fraction(1, len(own))
        for place, word in enumerate(own):
            rest = own[:place] + own[place + 1 :]
            agreed += chance * Fraction(rest.count(word), len(rest))
            share = [rest.count(name) / len(rest) for name in candidates]
            middle = [(s + (name == word)) / 2 for s, name in zip(share, candidates)]
            parts = [s * math.log2(s / m) for s, m in zip(share, middle) if s]
            diverged += float(chance) * (sum(parts) + math.log2(1 / middle[candidates.index(word)])) / 2
            everyone = Counter(said)
            everyone[word] -= 1
            (best, most), (_, second) = [*everyone.most_common(2), ("", 0)][:2]
            if most > second and best in candidates:
                totals[best] += chance
                hits[best] += chance * (best == word)
    recalls = [hits[name] / totals[name] for name in totals]
    return {
        "agreement": float(100 * agreed / len(panels)),
        "js_divergence": diverged / len(panels),
        "war": float(100 * sum(hits.values()) / sum(totals.values())),
        "uar": float(100 * sum(recalls) / len(recalls)),
    }


def compared(panels: list[str], candidates: str, others: str) -> _Compared:
    votes = np.array([[said.count(name) for name in candidates + others] for said in panels])
    own = votes[:, : len(candidates)]
    return _Compared(tuple(candidates), np.zeros(own.shape), own, votes, True)


def test_one_of_the_panel_is_the_mean_over_everyone_who_could_be_drawn():
    generator = np.random.default_rng(3)
    panels = ["".join(generator.choice([*"abc?"], 10, p=p)) for p in generator.dirichlet([0.6, 0.5, 0.3, 0.2], 60)]
    panels = [said for said in panels if said.count("?") < 5]
    found = _of_people(compared(panels, "abc", "?"), 1)
    expected = one_against_the_rest([list(said) for said in panels], "abc")
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["calibration"] == pytest.approx(100 - found["agreement"]) and found["n"] == len(panels)
    for name in expected:
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_one_of_the_panel_by_hand():
    found = _of_people(compared(["aab", "ccc"], "abc", ""), 1)
    # aab: an a (2 of 3) meets {a, b}, the b meets {a, a}; ccc agrees. Majorities: tied, a, c.
    assert found["agreement"] == pytest.approx(100 * ((2 / 3) * (1 / 2) + 1) / 2)
    assert found["war"] == pytest.approx(100 * 1 / (1 / 3 + 1)) and found["uar"] == pytest.approx((0 + 100) / 2)
    assert _of_people(compared(["a", "b"], "ab", ""), 1) == {}  # one vote has no rest
    everyone = _of_people(compared(["aaaa", "bbbb"], "ab", ""), 1)
    assert (everyone["war"], everyone["uar"], everyone["js_divergence"], everyone["calibration"]) == (100, 100, 0, 0)


def test_temperature():
    answers, votes = panel_of(500, 1)
    logs = np.log(answers)
    fitted = fit_temperature(logs, votes)
    best = score("soft_cross_entropy", tempered(logs, fitted), votes)
    for other in (0.5 * fitted, 0.95 * fitted, 1.05 * fitted, 2 * fitted):
        assert best < score("soft_cross_entropy", tempered(logs, other), votes)
    assert (tempered(logs, fitted).argmax(1) == answers.argmax(1)).all()
    assert tempered(logs, 1) == pytest.approx(answers)
    assert fit_temperature(logs / 3, votes) == pytest.approx(fitted / 3)
    # What is known: of many votes drawn at the temperature 2, 2 is fitted.
    drawn = np.random.default_rng(0).multinomial(1000, tempered(logs, 2.0))
    assert fit_temperature(logs, drawn) == pytest.approx(2, rel=0.02)
    assert fit_temperature(logs, np.eye(5)[answers.argmax(1)]) is None  # always right: as sure as can be
    assert fit_temperature(logs, np.eye(5)[answers.argmin(1)]) is None  # always wrong


def test_resampled_sums():
    values = np.random.default_rng(0).normal(size=(400, 2))
    sums = resampled_sums(values, resamples=4000)
    assert sums.mean(0) == pytest.approx(values.sum(0), abs=1.5)  # four standard errors
    assert sums.std(0) == pytest.approx(values.std(0) * 20, rel=0.06)
    assert (resampled_sums(np.ones((7, 1)), resamples=5) == 7).all()


def test_majority():
    assert majority(np.array([[3, 1, 0], [2, 2, 1], [0, 0, 1]])).tolist() == [0, -1, 2]
    panel = Panel(("a", "b", "unknown"), np.array([[1, 2, 7], [4, 4, 2], [6, 0, 0]]))
    assert panel.labels() == ["unknown", None, "a"] and panel.expressions == ("a", "b")
    assert panel.of(["b", "z", "a"]).tolist() == [[2, 0, 1], [4, 0, 4], [0, 0, 6]]


def test_votes_that_do_not_fit():
    def given(rows, names=None, candidates=None):
        return load_panel(rows, ["x", "y"], names, candidates, "faces.parquet")

    assert given([[1] + [0] * 9, [0] * 9 + [1]]).classes == FERPLUS
    assert given([[1, 0], [0, 1]], ("Happy", "odd"), LABEL_SETS["rafdb"]).classes == ("happiness", "odd")
    for rows, names, candidates, message in (
        ([[1, 0], [0, 1]], None, None, "its votes have 2 counts; say with --vote-classes what they are of"),
        ([[1, 0], [0, 1]], ("a", "b", "c"), None, "its votes have 2 counts, and --vote-classes names 3: a, b, c"),
        ([[1, 0], [0, 0]], ("a", "b"), None, r"y has the votes \[0, 0\]; expected 2 counts from 0"),
        ([[1, 0], [3, -1]], ("a", "b"), None, r"y has the votes \[3, -1\]"),
        ([[1, 0], None], ("a", "b"), None, "y has the votes None"),
        ([[1, 0], [1]], ("a", "b"), None, r"y has the votes \[1\]"),
        ([[1, 0], [1, 1]], ("happy", "joy"), LABEL_SETS["rafdb"], "happiness"),
    ):
        with pytest.raises(ValueError, match=message):
            given(rows, names, candidates)


VOTES = [[8, 2, 0], [5, 5, 0], [0, 3, 7], [1, 9, 0], [4, 2, 4], [6, 1, 3]]


@pytest.fixture
def voted(tmp_path):
    """24 faces, whose votes repeat VOTES, for happiness, sadness and unknown; their labels say something else."""
    faces = pq.read_table(write_faces(tmp_path / "labelled.parquet", 24))
    faces = faces.append_column("votes", pa.array(VOTES * 4, pa.list_(pa.int8(), 3)))
    pq.write_table(faces.replace_schema_metadata(None), tmp_path / "voted.parquet")
    return tmp_path / "voted.parquet"


def table(path):
    return list(csv.DictReader(path.open(newline="", encoding="utf-8")))


def test_from_a_table_of_votes_to_the_report(tmp_path, voted, checkpoint, monkeypatch, capsys):
    def benchmark(*options):
        arguments = ("--model", checkpoint, "--prompts", "photo", "--output", tmp_path / "out", *map(str, options))
        return call("benchmark", *arguments, monkeypatch=monkeypatch), capsys.readouterr()

    labelled = tmp_path / "labelled.parquet"
    data = ("--data", f"mine={voted}", f"theirs={labelled}", "--labels", "happiness,sadness,anger,fear")
    code, printed = benchmark(*data)
    assert code == 2 and "its votes have 3 counts; say with --vote-classes" in printed.err
    data = (*data, "--vote-classes", "happy,sad,unknown")
    code, printed = benchmark(*data)
    assert (
        code == 2 and f"{labelled} has no column votes with a list of counts; leave --vote-classes out" in printed.err
    )
    pq.write_table(
        pq.read_table(labelled)
        .append_column("votes", pa.array([[1, 0, 0], [0, 1, 0]] * 12))
        .replace_schema_metadata(None),
        labelled,
    )
    # A random model answers by chance, so that no temperature fits it better than all others.
    monkeypatch.setattr("training.evaluation.agreement.fit_temperature", lambda *_: 2.0)
    code, printed = benchmark(*data, "--fit-temperature", "mine")
    assert code == 0, printed.err
    assert "JS divergence" in printed.out and "panel.csv" in printed.out

    entries = pq.read_table(tmp_path / "out" / "expclip-small" / "mine" / "predictions.parquet").to_pylist()
    unknown, tied = "labelled unknown, which is no candidate", "without a class, as its votes are tied"
    assert [entry["error"] for entry in entries[:6]] == [None, tied, unknown, None, tied, None]
    assert [entry["truth"] for entry in entries[:6]] == ["happiness", None, "unknown", "sadness", None, "happiness"]
    assert entries[1]["p_anger"] is not None and entries[2]["p_anger"] is None and entries[1]["guess"] is None
    assert {name: entries[5][f"votes_{name}"] for name in ("happiness", "anger", "unknown")} == {
        "happiness": 6, "anger": 0, "unknown": 3
    }  # fmt: skip

    rows = table(tmp_path / "out" / "panel.csv")
    plain, fitted = (row for row in rows if row["benchmark"] == "mine" and row["model"] == "expclip-small")
    (people,) = (row for row in rows if row["benchmark"] == "mine" and row["model"] == ONE_OF_THE_PANEL)
    # Five of the six have most of their votes for an expression.
    assert (
        plain["n"] == fitted["n"] == people["n"] == "20" and plain["fitted_on"] == "" and fitted["fitted_on"] == "mine"
    )
    used = [entry for entry in entries if entry["p_anger"] is not None]
    names = ("happiness", "sadness", "anger", "fear")
    answers = [[entry[f"p_{name}"] for name in names] for entry in used]
    votes = [[entry[f"votes_{name}"] for name in names] for entry in used]
    for row, given in ((plain, answers), (fitted, tempered(np.log(answers), float(fitted["temperature"])))):
        for column, name in zip(("cross_entropy", "js_divergence", "calibration"), NAMES):
            assert float(row[column]) == pytest.approx(
                score(name, given, votes), abs=0.03 if name == "calibration" else 1e-3
            )
            assert float(row[f"{column}_low"]) <= float(row[f"{column}_high"])
    said = [list("h" * a + "s" * b + "?" * c) for a, b, c in VOTES if a + b > c]
    assert float(people["agreement"]) == pytest.approx(one_against_the_rest(said, "hs")["agreement"], abs=0.01)
    assert people["cross_entropy"] == "" and float(people["war"]) > 0
    results = {row["benchmark"]: row for row in table(tmp_path / "out" / "results.csv")}
    assert (results["mine"]["n"], results["mine"]["skipped"]) == ("12", "12")
    assert plain["war"] == fitted["war"] == results["mine"]["war"]
    assert plain["uar_low"] == results["mine"]["uar_low"]
    theirs = [row for row in rows if row["benchmark"] == "theirs"]
    assert [row["fitted_on"] for row in theirs] == ["", "mine"] and theirs[1]["temperature"] == fitted["temperature"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "## mine: agreement with the votes" in report and f"| {ONE_OF_THE_PANEL} |" in report

    other = pq.read_table(voted).to_pydict()["votes"]
    other[0] = [7, 3, 0]
    faces = pq.read_table(voted).drop(["votes"]).append_column("votes", pa.array(other, pa.list_(pa.int8(), 3)))
    pq.write_table(faces, voted)
    code, printed = benchmark(*data)
    assert code == 2 and f"another content of the data {voted}" in printed.err


def test_labels_are_one_vote_each(tmp_path, checkpoint, monkeypatch, capsys):
    data = write_faces(tmp_path / "faces.parquet", 16)
    arguments = ("--model", checkpoint, "--prompts", "photo", "--data", f"mine={data}", "--output", tmp_path / "out")
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
    assert not (tmp_path / "out" / "panel.csv").exists()
    assert call("benchmark", *arguments, "--fit-temperature", "other", monkeypatch=monkeypatch) == 2
    assert "--fit-temperature other: there is no --data other=..." in capsys.readouterr().err
    assert call("benchmark", *arguments, "--fit-temperature", "mine", monkeypatch=monkeypatch) == 0
    rows = table(tmp_path / "out" / "panel.csv")
    assert rows and {row["model"] for row in rows} == {"expclip-small"} and rows[0]["agreement"] == rows[0]["war"]


def test_candidates_of_votes_are_what_could_be_voted_for(voted):
    (samples,) = load_samples("mine", str(voted), None, vote_classes=("joyful", "gloomy", "not a face")).values()
    assert samples.own_classes() == {"joyful", "gloomy"}
    assert samples.labels[:3] == ["joyful", None, "not a face"]


def test_ferplus_as_it_is_shared(shared):
    path = shared / "data" / "ferplus" / "validation.parquet"
    samples = load_samples("ferplus", str(path), LABEL_SETS["ferplus"])["all"]
    counts = Counter(samples.labels)
    assert len(samples) == 3505 and counts[None] == 157 and counts["unknown"] == 23 and counts["not a face"] == 1
    assert sum(samples.wanted(LABEL_SETS["ferplus"])) <= 3505 and counts["happiness"] == 871
    assert not {*chain(LABEL_SETS["ferplus"])} - {*counts}
