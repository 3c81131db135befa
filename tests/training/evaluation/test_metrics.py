"""The metrics as ``evaluate`` loads them, against hand-computed numbers and scikit-learn; the bootstrap against a plain loop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import evaluate
import numpy as np
import pytest
import torch

from tests.training.conftest import REPOSITORY
from training.evaluation.bootstrap import intervals, paired_difference
from training.evaluation.metrics import METRICS, NAMES, load
from training.evaluation.metrics.recall import war_uar

OF_INDICES = ("class_recall", "confusion", "uar", "war")  # the others are in test_votes.py
# Three of four right; recalls 2/3, 1, none, and of class 2 no sample, though it is given once.
TRUTH, GUESS = [0, 0, 0, 1], [0, 0, 2, 1]


def samples(count: int, seed: int = 0, skill: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Guess and truth over five unequal classes, the last of them rare."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(5, count, p=[0.5, 0.25, 0.14, 0.09, 0.02])
    guess = np.where(generator.random(count) < skill + 0.08 * truth, truth, generator.integers(5, size=count))
    return guess, truth


def score(name: str, guess, truth, **options):
    return load(name).compute(predictions=guess, references=truth, **options)[name]


def test_hand_computed_scores():
    assert score("war", GUESS, TRUTH) == 75
    assert score("uar", GUESS, TRUTH) == 100 * (2 / 3 + 1) / 2
    assert score("uar", GUESS, TRUTH, min_samples=3) == pytest.approx(200 / 3)
    assert score("class_recall", GUESS, TRUTH, num_classes=4) == [pytest.approx(200 / 3), 100, None, None]
    assert score("confusion", GUESS, TRUTH, num_classes=3) == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert (score("war", TRUTH, TRUTH), score("uar", TRUTH, TRUTH)) == (100, 100)


def test_results_are_plain_python():
    for name, options in zip(OF_INDICES, ({"num_classes": 3}, {"num_classes": 3}, {}, {})):
        result = load(name).compute(predictions=np.array(GUESS, np.int32), references=np.array(TRUTH), **options)
        assert json.loads(json.dumps(result)) == result
        assert load(name).name == name


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed):
    truths = pytest.importorskip("sklearn.metrics")
    guess, truth = samples(2000, seed)
    truth[truth == seed] = 4  # a class that is given, but does not occur
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = truths.balanced_accuracy_score(truth, guess)
    assert score("war", guess, truth) == pytest.approx(100 * truths.accuracy_score(truth, guess), abs=1e-9)
    assert score("uar", guess, truth) == pytest.approx(100 * balanced, abs=1e-9)
    recalls = truths.recall_score(truth, guess, labels=range(5), average=None, zero_division=np.nan)
    ours = score("class_recall", guess, truth, num_classes=5)
    assert ours[seed] is None
    assert np.array(ours, dtype=float) == pytest.approx(100 * recalls, abs=1e-9, nan_ok=True)
    assert score("confusion", guess, truth, num_classes=5) == truths.confusion_matrix(truth, guess).tolist()


@pytest.mark.parametrize("name", OF_INDICES)
def test_wrong_input_is_named_and_the_module_goes_on(name):
    metric, options = load(name), {"num_classes": 3} if name in ("class_recall", "confusion") else {}
    for guess, truth, message in (
        ([0, 1], [0], r"Mismatch in the number of predictions \(2\) and references \(1\)"),  # by evaluate itself
        ([], [], "predictions or references are empty: give at least one"),
        ([], [0], "predictions or references are empty"),
        ([0, -1], [0, 1], r"predictions\[1\] is -1: expected a class index"),
        ([0, 1], [0.9, 1], r"references\[0\] is 0.9: expected a class index"),
        ([0, None], [0, 1], r"predictions\[1\] is nan: expected a class index"),
        (["joy", "fear"], [0, 1], "joy"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.compute(predictions=guess, references=truth, **options)
    if options:
        with pytest.raises(ValueError, match=r"references\[1\] is 3: with num_classes=3 the indices end at 2"):
            metric.compute(predictions=[0, 0], references=[0, 3], **options)
        with pytest.raises(ValueError, match="num_classes is 0"):
            metric.compute(predictions=[0], references=[0], num_classes=0)
    assert metric.compute(predictions=GUESS, references=TRUTH, **options)  # nothing is left of the failed calls
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        metric._compute([0], [0, 1], **options)


def test_uar_without_a_class_to_average():
    with pytest.raises(ValueError, match="no class has 4 samples, the largest has 3: lower min_samples"):
        score("uar", GUESS, TRUTH, min_samples=4)
    with pytest.raises(ValueError, match="min_samples is 0"):
        score("uar", GUESS, TRUTH, min_samples=0)


def test_names():
    modules = {path.stem for path in METRICS.glob("*.py") if "evaluate.Metric)" in path.read_text(encoding="utf-8")}
    assert modules == set(NAMES)
    with pytest.raises(ValueError, match=f"no metric 'f1': choose one of {', '.join(NAMES)}"):
        load("f1")


def test_one_definition_of_recalls_and_nothing_else_of_ours():
    """``evaluate`` copies a metric's file, and those it names from beside it, which may name no further ones of ours."""
    of_votes = ("calibration", "js_divergence", "soft_cross_entropy")
    for name in (*NAMES, "recall", "votes", "info"):
        source = (METRICS / f"{name}.py").read_text(encoding="utf-8")
        imported = set(re.findall(r"^(?:import|from) ([\w.]+)", source, re.MULTILINE))
        ours = {module for module in imported if module.startswith(".")}
        assert imported - ours <= {"__future__", "collections.abc", "datasets", "evaluate", "numpy"}
        computed = ".votes" if name in of_votes else ".recall"
        assert ours == ({computed, ".info"} if name in NAMES else set())
        assert "100 *" not in source or name in ("recall", "votes")


def test_a_metric_works_beside_its_two_files_alone(tmp_path):
    for name in ("uar", "recall", "info"):
        shutil.copyfile(METRICS / f"{name}.py", tmp_path / f"{name}.py")
    metric = evaluate.load(str(tmp_path / "uar.py"), keep_in_memory=True)
    assert metric.compute(predictions=GUESS, references=TRUTH)["uar"] == 100 * (2 / 3 + 1) / 2


@pytest.mark.parametrize("min_samples", [1, 30, 200])
def test_every_uar_is_the_same_number(min_samples):
    """The metric, the recalls, the trainer's score and the bootstrap's: one rule for which classes count."""
    guess, truth = samples(1000, seed=3)
    truth[truth == 1] = 0  # a class that is given, but does not occur
    counted = [c for c in range(5) if (truth == c).sum() >= min_samples]
    assert len(counted) == {1: 4, 30: 3, 200: 1}[min_samples]
    found = score("class_recall", guess, truth, num_classes=5)
    expected = score("uar", guess, truth, min_samples=min_samples)
    assert expected == pytest.approx(np.mean([found[c] for c in counted]), abs=1e-12)
    assert war_uar(torch.tensor(guess), torch.tensor(truth), min_samples) == (score("war", guess, truth), expected)
    gained = paired_difference(guess, np.full_like(guess, 1), truth, 5, min_samples=min_samples)  # class 1: never right
    assert gained["uar"][0] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="no class has 1001 samples"):
        war_uar(torch.tensor(guess), torch.tensor(truth), 1001)


def test_two_processes_at_once_offline_in_an_empty_home_and_elsewhere(tmp_path):
    code = """
import json, sys, time
from pathlib import Path
sys.modules["transformers"] = None  # evaluate loads its pipelines, which metrics have no use for, and takes seconds over it
import evaluate
del sys.modules["transformers"]
from training.evaluation.metrics import METRICS, load
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
scores = []
for turn in range(5):
    for name in ("class_recall", "confusion", "uar", "war"):
        options = {"num_classes": 3} if name in ("class_recall", "confusion") else {}
        for metric in (load(name), evaluate.load(str(METRICS / f"{name}.py"), experiment_id=sys.argv[1])):
            scores.append(metric.compute(predictions=[0, 0, 2, 1], references=[0, 0, 0, 1], **options))
try:
    load("war").compute(predictions=[-1], references=[0])
except ValueError:
    print(json.dumps(scores))
"""
    removed = ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    home = tmp_path / "home"
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *names],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for names in (("one", "two"), ("two", "one"))
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    expected = [{"class_recall": [200 / 3, 100, None]}, {"confusion": [[2, 0, 1], [0, 1, 0], [0, 0, 0]]}]
    expected += [{"uar": (200 / 3 + 100) / 2}, {"war": 75}]
    for printed, _ in outputs:
        scores = json.loads(printed.splitlines()[-1])
        assert len(scores) == 40
        for place, found in enumerate(scores):
            assert found.keys() == expected[place // 2 % 4].keys()
            for name, value in expected[place // 2 % 4].items():
                assert found[name] == (value if isinstance(value, list) else pytest.approx(value))
    assert not list(home.rglob("*.arrow"))  # no inputs stay behind, not even those of the failed call


def test_the_card_prints_what_it_says(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    card = (METRICS / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", card, re.MULTILINE)) == set(NAMES)
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "metrics/README.md", "exec"), {})
    said = re.findall(r"^(?:print\(.*\)  )?# (.*)$", block, re.MULTILINE)
    assert len(said) == 8
    assert printed.getvalue().splitlines() == said


def test_evaluate_combines_what_takes_the_same_options():
    both = evaluate.combine([load("war"), load("uar")]).compute(predictions=GUESS, references=TRUTH)
    assert both == {"war": 75, "uar": pytest.approx(250 / 3)}


def by_definition(guess: np.ndarray, truth: np.ndarray, counted: list[int]) -> tuple[float, float]:
    """Straight from the definitions."""
    recalls = [(guess[truth == c] == c).mean() for c in counted if (truth == c).any()]
    return 100 * (guess == truth).mean(), 100 * np.mean(recalls)


@pytest.mark.parametrize("min_samples", [1, 18])
def test_bootstrap_matches_a_loop_over_samples(min_samples):
    guess, truth = samples(250, seed=11)
    assert (truth == 4).sum() == 4  # missing from one resample in fifty-five
    counted = [c for c in range(5) if (truth == c).sum() >= min_samples]
    # The fourth class has just enough samples in truth, and too few in half of the resamples: it counts in all of them.
    assert counted == ([0, 1, 2, 3, 4] if min_samples == 1 else [0, 1, 2, 3])
    generator, scores = np.random.default_rng(1), []
    for _ in range(6000):
        drawn = generator.integers(len(truth), size=len(truth))
        scores.append(by_definition(guess[drawn], truth[drawn], counted))
    for level in (0.5, 0.95):
        found = intervals(guess, truth, 5, resamples=6000, seed=2, min_samples=min_samples, level=level)
        for name, column in zip(("war", "uar"), np.array(scores).T):
            naive = np.quantile(column, [(1 - level) / 2, (1 + level) / 2])
            # A quantile of 6,000 scores is known to 0.035 standard deviations at 2.5%: three times the error of a difference.
            assert found[name] == pytest.approx(naive, abs=0.15 * column.std()), (name, level)


def test_bootstrap_of_war_agrees_with_the_normal_interval():
    truth = np.zeros(10_000, dtype=int)
    guess = np.repeat([0, 1], [8000, 2000])  # 80%, standard error sqrt(0.8 * 0.2 / 10,000) = 0.4%
    low, high = intervals(guess, truth, 2, resamples=5000)["war"]
    assert (low, high) == pytest.approx((80 - 1.96 * 0.4, 80 + 1.96 * 0.4), abs=0.08)


def test_intervals_hold_the_score_and_shrink_with_more_samples():
    widths = []
    for count in (500, 8000):
        guess, truth = samples(count)
        found = intervals(guess, truth, 5)
        for name in ("war", "uar"):
            low, high = found[name]
            assert low < score(name, guess, truth) < high
        widths.append([high - low for low, high in found.values()])
    ratio = np.divide(*widths)
    assert ratio == pytest.approx(4, rel=0.3)  # sixteen times the samples, a quarter of the width
    wide, narrow = intervals(guess, truth, 5, level=0.99), intervals(guess, truth, 5, level=0.8)
    assert wide["uar"][0] < narrow["uar"][0] < narrow["uar"][1] < wide["uar"][1]


def test_bootstrap_is_decided_by_its_seed():
    guess, truth = samples(400)
    assert intervals(guess, truth, 5, seed=7) == intervals(guess, truth, 5, seed=7)
    assert intervals(guess, truth, 5, seed=7) != intervals(guess, truth, 5, seed=8)
    order = np.random.default_rng(0).permutation(400)
    assert intervals(guess[order], truth[order], 5) == intervals(guess, truth, 5)


def test_perfect_and_hopeless_guesses_have_no_spread():
    for count in (1, 7, 9999):
        _, truth = samples(count)
        assert intervals(truth, truth, 5) == {"war": (100, 100), "uar": (100, 100)}
        assert intervals((truth + 1) % 5, truth, 5) == {"war": (0, 0), "uar": (0, 0)}


def test_paired_difference():
    ours, truth = samples(3000, seed=1, skill=0.5)
    theirs = np.where(np.random.default_rng(5).random(3000) < 0.9, ours, 0)  # mostly what we gave
    nothing = {"war": (0, 0, 0), "uar": (0, 0, 0)}
    assert paired_difference(ours, ours.copy(), truth, 5) == nothing
    forth, back = paired_difference(ours, theirs, truth, 5), paired_difference(theirs, ours, truth, 5)
    for name in ("war", "uar"):
        difference, low, high = forth[name]
        assert difference == pytest.approx(score(name, ours, truth) - score(name, theirs, truth))
        assert low < difference < high
        assert back[name][0] == -difference
        apart = np.hypot(*(np.diff(intervals(guess, truth, 5)[name]).item() for guess in (ours, theirs)))
        assert high - low < 0.7 * apart  # what both share cancels
    assert forth["uar"][1] > 0  # so that a difference shows which two separate intervals would hide

    generator, scores = np.random.default_rng(1), []
    for _ in range(2000):
        drawn = generator.integers(3000, size=3000)
        parts = (by_definition(guess[drawn], truth[drawn], list(range(5))) for guess in (ours, theirs))
        scores.append(np.subtract(*parts))
    for name, column in zip(("war", "uar"), np.array(scores).T):
        naive = np.quantile(column, [0.025, 0.975])
        found = paired_difference(ours, theirs, truth, 5, resamples=2000, seed=2)[name][1:]
        assert found == pytest.approx(naive, abs=0.25 * column.std())


def test_a_thousand_resamples_of_ten_thousand_samples_take_no_time():
    guess, truth = samples(10_000)
    began = time.perf_counter()
    intervals(guess, truth, 5)
    paired_difference(guess, truth, truth, 5)
    assert time.perf_counter() - began < 1  # the project's limit is 5 s; milliseconds in fact


def test_bootstrap_errors():
    truth = np.array([0, 1, 1])
    for guess, options, message in (
        (truth[:2], {}, r"predictions has shape \(2,\) and references \(3,\)"),
        (truth[:, None], {}, r"predictions has shape \(3, 1\)"),
        (truth / 2, {}, "predictions holds float64 values: give class indices as integers"),
        (truth + 1, {}, r"predictions\[1\] is 2: expected a class index from 0 to 1, as classes is 2"),
        (truth - 1, {}, r"predictions\[0\] is -1"),
        (truth, {"resamples": 0}, "resamples is 0"),
        (truth, {"level": 95}, "level is 95: expected a share"),
        (truth, {"min_samples": 0}, "min_samples is 0"),
        (truth, {"min_samples": 3}, "no class has 3 samples, the largest has 2: lower min_samples"),
    ):
        with pytest.raises(ValueError, match=message):
            intervals(guess, truth, 2, **options)
    with pytest.raises(ValueError, match="references is empty"):
        intervals(truth[:0], truth[:0], 2)
    with pytest.raises(ValueError, match=r"theirs has shape \(2,\)"):
        paired_difference(truth, truth[:2], truth, 2)
