"""How a model's probabilities agree with the votes of a panel, and how one of the panel agrees with
the rest: rows of panel.csv, from the predictions of finished pairs.

Every measure is a function of sums over samples, so an interval costs sums of resampled data. Where
data has labels and no votes, a label is one vote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import middle, resampled_sums
from .metrics.votes import BINS, agreement, calibration_error, confidence_bins, cross_entropies, divergences, shares
from .panel import judged, majority
from .predictions import Answers, read_answers
from .scores import score_columns
from .temperature import HIGHEST, LOWEST, fit_temperature, tempered

ONE_OF_THE_PANEL = "one of the panel against the rest"
MEASURES = ("cross_entropy", "js_divergence", "agreement", "calibration")
_ABOUT = ("model", "benchmark", "fold", "prompt_set", "temperature", "fitted_on", "n")


def columns_of(min_samples: int) -> tuple[str, ...]:
    """Columns of panel.csv."""
    measured = [column for name in (*score_columns(min_samples), *MEASURES) for column in _with_ends(name)]
    return (*_ABOUT, *measured, "entropy")


@dataclass(frozen=True)
class _Compared:
    """The samples that are compared with the shares of votes: log probabilities and votes (N, classes),
    and ``all_votes`` (N, classes and what else was voted for)."""

    classes: tuple[str, ...]
    logs: np.ndarray
    votes: np.ndarray
    all_votes: np.ndarray
    by_people: bool

    @classmethod
    def of(cls, answers: Answers) -> _Compared:
        classes = len(answers.classes)
        if answers.votes is None:
            kept, all_votes = answers.truth >= 0, np.eye(classes, dtype=int)[answers.truth]
        else:
            kept, all_votes = judged(answers.votes[:, :classes], answers.votes), answers.votes
        all_votes = all_votes[kept]
        return cls(answers.classes, answers.logs[kept], all_votes[:, :classes], all_votes, answers.votes is not None)


def panel_rows(
    pairs: Sequence[tuple[list[dict[str, Any]], Path]], min_samples: int, fit_on: str | None = None
) -> list[dict[str, Any]]:
    """Rows of panel.csv: of data with votes; with ``fit_on`` of all data, as it is and at the temperature
    that fits a model's answers on the benchmark ``fit_on``, for each prompt set.

    Args:
        pairs: for each model on each benchmark its rows of results.csv and its ``predictions.parquet``.
    """
    found = [
        (rows, {(fold, name): _Compared.of(own) for fold, name, own in read_answers(path)}) for rows, path in pairs
    ]
    temperatures = {
        rows[0]["model"]: _fitted(rows[0]["model"], fit_on, compared)
        for rows, compared in found
        if rows[0]["benchmark"] == fit_on
    }
    panels, people = [], {}
    for rows, compared in found:
        about = {"model": rows[0]["model"], "benchmark": rows[0]["benchmark"]}
        for (fold, prompts), own in compared.items():
            if not len(own.votes) or not (own.by_people or fit_on):
                continue
            (result,) = (row for row in rows if (row["fold"], row["prompt_set"]) == (fold, prompts))
            known = {name: result[name] for score in score_columns(min_samples) for name in _with_ends(score)}
            about |= {"fold": fold, "prompt_set": prompts}
            panels.append(about | known | {"temperature": 1.0} | _of_model(own, 1.0))
            fitted = temperatures.get(about["model"], {}).get(prompts)
            if fitted:
                row = about | known | {"temperature": fitted, "fitted_on": fit_on}
                panels.append(row | _of_model(own, fitted))
            if own.by_people and (key := (about["benchmark"], rows[0]["data"], fold, own.classes)) not in people:
                row = {"model": ONE_OF_THE_PANEL, "benchmark": about["benchmark"], "fold": fold}
                people[key] = row | _of_people(own, min_samples)
    lines = [*panels, *(row for row in people.values() if "n" in row)]
    return [dict.fromkeys(columns_of(min_samples)) | row for row in lines]


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _fitted(model: str, benchmark: str, compared: dict[tuple[str, str], _Compared]) -> dict[str, float | None]:
    """For each prompt set the temperature, of all folds; where there is none, it is said."""
    found = {}
    for prompts in dict.fromkeys(prompts for _, prompts in compared):
        own = [each for (_, name), each in compared.items() if name == prompts]
        found[prompts] = fit_temperature(
            np.concatenate([each.logs for each in own]), np.concatenate([each.votes for each in own])
        )
        if found[prompts] is None:
            print(
                f"{model} on {benchmark}, {prompts}: no temperature between {LOWEST:g} and {HIGHEST:g} has the lowest cross-entropy; "
                "none is fitted",
                file=sys.stderr,
            )
    return found


def _of_model(own: _Compared, temperature: float) -> dict[str, Any]:
    answers, samples = tempered(own.logs, temperature), len(own.votes)
    agreed = agreement(answers, own.votes)
    excess = np.zeros((samples, BINS))
    excess[np.arange(samples), confidence_bins(answers)] = answers.max(1) - agreed
    columns = [cross_entropies(answers, own.votes), divergences(answers, own.votes), agreed, excess]

    def measures(sums: np.ndarray) -> dict[str, np.ndarray]:  # (..., 3 + BINS)
        means = sums / samples
        found = {"cross_entropy": means[..., 0], "js_divergence": means[..., 1], "agreement": 100 * means[..., 2]}
        return found | {"calibration": calibration_error(means[..., 3:])}

    return {"n": samples, "entropy": _entropy(own.votes)} | _with_intervals(np.column_stack(columns), measures)


def _entropy(votes: np.ndarray) -> float:
    """Mean entropy of the shares in nats: no answers have a lower cross-entropy."""
    return float(cross_entropies(shares(votes), votes).mean())


def _of_people(own: _Compared, min_samples: int) -> dict[str, float]:
    """The expected scores of one of those who voted for a candidate, drawn by chance, against the
    others' votes on the same sample: over all who could be drawn, so nothing is drawn. Samples with
    one such vote have no others, and are left out; where that is all there are, nothing is returned.

    The one's answer is sure of one class, so the cross-entropy is infinite, and left out.
    """
    several = own.votes.sum(1) > 1
    votes, everything = own.votes[several], own.all_votes[several]
    if not len(votes):
        return {}
    samples, classes = votes.shape
    diverged, agreed = np.zeros(samples), np.zeros(samples)
    hits, totals = np.zeros((samples, classes)), np.zeros((samples, classes))
    for said in range(classes):
        some = votes[:, said] > 0
        chance = votes[some, said] / votes[some].sum(1)
        answer = np.zeros((some.sum(), classes))
        answer[:, said] = 1
        rest, all_rest = votes[some].copy(), everything[some].copy()
        rest[:, said] -= 1
        all_rest[:, said] -= 1
        diverged[some] += chance * divergences(answer, rest)
        agreed[some] += chance * agreement(answer, rest)
        most = majority(all_rest)
        totals[some] += chance[:, None] * (most[:, None] == np.arange(classes))
        hits[some, said] += chance * (most == said)
    counted = {"uar": totals.sum(0) > 0}
    if min_samples > 1:
        counted[f"uar_min{min_samples}"] = totals.sum(0) >= min_samples

    def measures(sums: np.ndarray) -> dict[str, np.ndarray]:  # (..., 2 + 2 * classes)
        right, of = sums[..., 2 : 2 + classes], sums[..., 2 + classes :]
        recalls = np.divide(right, of, out=np.full(right.shape, np.nan), where=of > 1e-9)
        found = {"war": 100 * right.sum(-1) / of.sum(-1)}
        found |= {name: 100 * np.nanmean(recalls[..., large], -1) for name, large in counted.items() if large.any()}
        found |= {"js_divergence": sums[..., 0] / samples, "agreement": 100 * sums[..., 1] / samples}
        return found | {"calibration": 100 - found["agreement"]}  # it is always sure

    values = np.column_stack([diverged, agreed, hits, totals])
    return {"n": samples, "entropy": _entropy(votes)} | _with_intervals(values, measures)


def _with_intervals(values: np.ndarray, measures: Callable) -> dict[str, float]:
    """Measures of the sums of values (N, M), and their 95 % intervals over samples."""
    measured, resampled = measures(values.sum(0)), measures(resampled_sums(values))
    found = {name: float(value) for name, value in measured.items()}
    for name, several in resampled.items():
        found |= dict(zip(_with_ends(name)[1:], middle(several)))
    return found
