"""WAR and UAR of a fold and of several folds, as columns of results.csv and groups.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import intervals
from .metrics.recall import counts, recalls, war_uar
from .predictions import classes_of, read_predictions


def score_columns(min_samples: int) -> list[str]:
    """``uar`` of the classes that occur and ``war``; with ``min_samples`` above 1 also a UAR of the
    classes with so many, which says so in its name."""
    return ["uar", "war", *([f"uar_min{min_samples}"] if min_samples > 1 else [])]


def interval_columns(min_samples: int) -> list[str]:
    return [f"{name}_{end}" for name in score_columns(min_samples) for end in ("low", "high")]


def scores(predictions: np.ndarray, references: np.ndarray, classes: int, min_samples: int) -> dict[str, float | None]:
    """The scores and their 95 % intervals, in percent; None where no class has ``min_samples``."""
    found: dict[str, float | None] = dict(zip(("war", "uar"), war_uar(predictions, references)))
    around: dict[str, tuple] = dict(intervals(predictions, references, classes))
    for name in score_columns(min_samples)[2:]:
        large = np.bincount(references).max() >= min_samples
        found[name] = war_uar(predictions, references, min_samples)[1] if large else None
        around[name] = (
            intervals(predictions, references, classes, min_samples=min_samples)["uar"] if large else (None, None)
        )
    return found | {f"{name}_{end}": value for name in found for end, value in zip(("low", "high"), around[name])}


CLASS_COLUMNS = ("model", "benchmark", "fold", "prompt_set", "class", "n", "recall")


def class_recalls(pairs: Sequence[tuple[dict[str, Any], Path]]) -> list[dict[str, Any]]:
    """Rows of classes.csv: the recall of each class in percent, None where no sample of it was scored.

    Args:
        pairs: for each model on each benchmark one of its rows of results.csv, and its
            ``predictions.parquet``.
    """
    rows = []
    for row, path in pairs:
        classes = classes_of(path)
        for (fold, prompts), samples in read_predictions(path).items():
            scored = [(classes.index(true), classes.index(predicted)) for _, true, predicted in samples if predicted]
            references, predictions = zip(*scored)
            hits, totals = counts(predictions, references, len(classes))
            about = {"model": row["model"], "benchmark": row["benchmark"], "fold": fold, "prompt_set": prompts}
            for name, total, recall in zip(classes, totals.tolist(), recalls(hits, totals).tolist()):
                rows.append(about | {"class": name, "n": total, "recall": recall if total else None})
    return rows


def mean_of_folds(folds: Sequence[dict[str, Any]], min_samples: int) -> dict[str, Any]:
    """The mean over folds, as the paper reports; folds have no common sample, so no interval is given."""
    mean = {**folds[0], "fold": "mean"} | dict.fromkeys(interval_columns(min_samples))
    mean |= {name: sum(row[name] for row in folds) for name in ("n", "skipped", "frames_differ", "seconds")}
    for name in score_columns(min_samples):
        own = [row[name] for row in folds]
        mean[name] = None if None in own else sum(own) / len(own)
    return mean
