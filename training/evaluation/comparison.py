"""Paired differences between models on the same samples, from the predictions of finished pairs:
one row for each two models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import paired_difference
from .predictions import read_predictions
from .scores import score_columns

_ABOUT = ("benchmark", "fold", "prompt_set", "model", "other", "n")


def columns_of(min_samples: int) -> tuple[str, ...]:
    """Columns of differences.csv."""
    return (*_ABOUT, *(f"d_{name}{end}" for name in score_columns(min_samples) for end in ("", "_low", "_high")))


def compare(pairs: Sequence[tuple[dict[str, Any], Path]], min_samples: int) -> list[dict[str, Any]]:
    """For each two models with the same data: the first's scores minus the second's, in percentage
    points, with 95 % intervals.

    Args:
        pairs: for each model on each benchmark one of its rows of results.csv, and its
            ``predictions.parquet``.

    Of several folds each has a row, and ``mean`` is the mean of their differences, without an
    interval, as folds have no common sample.
    """
    same: dict[tuple[str, str], list[tuple[str, Path]]] = defaultdict(list)
    for row, path in pairs:
        same[row["benchmark"], row["data"]].append((row["model"], path))
    rows = []
    for (benchmark, _), models in same.items():
        tables = {name: read_predictions(path) for name, path in models} if len(models) > 1 else {}
        for ours, theirs in combinations(tables, 2):
            own = [
                {"benchmark": benchmark, "fold": fold, "prompt_set": prompts, "model": ours, "other": theirs}
                | _difference(tables[ours][fold, prompts], tables[theirs][fold, prompts], min_samples)
                for fold, prompts in tables[ours]
                if (fold, prompts) in tables[theirs]
            ]
            rows += own
            if len({row["fold"] for row in own}) > 1:
                for prompts in dict.fromkeys(row["prompt_set"] for row in own):
                    rows.append(_mean([row for row in own if row["prompt_set"] == prompts], min_samples))
    return rows


def _difference(ours: np.ndarray, theirs: np.ndarray, min_samples: int) -> dict[str, Any]:
    if not np.array_equal(ours[:, :2], theirs[:, :2]):
        raise ValueError(
            "two models were scored on other samples of the same data; remove their folders, and run them again"
        )
    both = np.array([a is not None and b is not None for a, b in zip(ours[:, 2], theirs[:, 2])])
    words = np.concatenate([ours[both, 1], ours[both, 2], theirs[both, 2]]).astype(str)
    classes, codes = np.unique(words, return_inverse=True)
    references, *predictions = codes.reshape(3, -1)  # each (samples that both models scored,)
    found: dict[str, tuple] = dict(paired_difference(*predictions, references, len(classes)))
    for name in score_columns(min_samples)[2:]:
        large = np.bincount(references).max() >= min_samples
        found[name] = (
            paired_difference(*predictions, references, len(classes), min_samples=min_samples)["uar"]
            if large
            else (None,) * 3
        )
    row = {f"d_{name}{end}": value for name in found for end, value in zip(("", "_low", "_high"), found[name])}
    return {"n": int(both.sum())} | row


def _mean(folds: list[dict[str, Any]], min_samples: int) -> dict[str, Any]:
    mean = dict.fromkeys(columns_of(min_samples)) | {name: folds[0][name] for name in _ABOUT}
    mean |= {"fold": "mean", "n": sum(row["n"] for row in folds)}
    for name in score_columns(min_samples):
        own = [row[f"d_{name}"] for row in folds]
        mean[f"d_{name}"] = None if None in own else sum(own) / len(own)
    return mean
