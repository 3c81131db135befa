"""Paired differences between models on the same samples: the predictions of finished pairs come in, one row a pair of models leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training.bootstrap import paired_difference

_SCORES = [f"d_{score}{end}" for score in ("uar", "war") for end in ("", "_low", "_high")]
COLUMNS = ("benchmark", "fold", "prompt_set", "model", "other", "n", *_SCORES)


def compare(pairs: Sequence[tuple[dict[str, Any], Path]]) -> list[dict[str, Any]]:
    """For each two models with the same data: the first's scores minus the second's, in percentage points, with 95 % intervals.

    Args:
        pairs: for each model on each benchmark one of its rows of results.csv, and its ``predictions.parquet``.

    Of several folds each has a row, and ``mean`` is the mean of their differences, without an interval, as folds have no common sample.
    """
    same: dict[tuple[str, str], list[tuple[str, Path]]] = defaultdict(list)
    for row, path in pairs:
        same[row["benchmark"], row["data"]].append((row["model"], path))
    rows = []
    for (benchmark, _), models in same.items():
        tables = {name: _guesses(path) for name, path in models} if len(models) > 1 else {}
        for ours, theirs in combinations(tables, 2):
            own = [
                {"benchmark": benchmark, "fold": fold, "prompt_set": prompts, "model": ours, "other": theirs}
                | _difference(tables[ours][fold, prompts], tables[theirs][fold, prompts])
                for fold, prompts in tables[ours]
                if (fold, prompts) in tables[theirs]
            ]
            rows += own
            if len({row["fold"] for row in own}) > 1:
                rows += [
                    _mean([row for row in own if row["prompt_set"] == p])
                    for p in dict.fromkeys(r["prompt_set"] for r in own)
                ]
    return rows


def _guesses(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """For each fold and prompt set, id, truth and guess of its samples in order: (N, 3) of strings, the guess None where it was not scored."""
    columns = [
        column.to_pylist()
        for column in pq.read_table(path, columns=["fold", "prompt_set", "id", "truth", "guess"]).columns
    ]
    found = defaultdict(list)
    for fold, prompts, *sample in zip(*columns):
        found[fold, prompts].append(sample)
    return {key: np.array(samples, dtype=object) for key, samples in found.items()}


def _difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    if not np.array_equal(ours[:, :2], theirs[:, :2]):
        raise ValueError(
            "two models were scored on other samples of the same data; remove their folders, and run them again"
        )
    both = np.array([a is not None and b is not None for a, b in zip(ours[:, 2], theirs[:, 2])])
    classes, codes = np.unique(
        np.concatenate([ours[both, 1], ours[both, 2], theirs[both, 2]]).astype(str), return_inverse=True
    )
    truth, *guesses = codes.reshape(3, -1)
    found = paired_difference(*guesses, truth, len(classes))
    return {"n": int(both.sum())} | {
        f"d_{s}{end}": v for s in ("uar", "war") for end, v in zip(("", "_low", "_high"), found[s])
    }


def _mean(folds: list[dict[str, Any]]) -> dict[str, Any]:
    mean = {**folds[0], "fold": "mean", "n": sum(row["n"] for row in folds)} | dict.fromkeys(_SCORES)
    return mean | {name: sum(row[name] for row in folds) / len(folds) for name in ("d_uar", "d_war")}
