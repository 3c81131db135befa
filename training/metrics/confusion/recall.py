"""Recall, WAR and UAR, defined once: from class indices, or from counts of right answers and samples by class, to percent.

UAR is the mean recall of the classes that occur; with ``least`` above 1, of those with at least so many samples. ``evaluate`` takes a metric's
folder alone, so each folder beside this file holds a copy of it: ``for m in training/metrics/*/; do cp training/metrics/recall.py $m; done``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def class_indices(
    predictions: Sequence[float], references: Sequence[float], num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as int64 (N,). Raises ValueError unless they are equally long, not empty, and indices of classes."""
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references: give one of each for every sample"
        )
    if len(references) == 0:
        raise ValueError("predictions or references are empty: give at least one sample")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: expected the number of classes, at least 1")
    columns = []
    for name, values in (("predictions", predictions), ("references", references)):
        column = np.asarray(values, dtype=np.float64)  # (N,), nan where a value is missing
        wrong = ~((column >= 0) & np.isfinite(column) & (column == np.floor(column)))
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(f"{name}[{place}] is {column[place]:g}: expected a class index, a whole number from 0")
        if num_classes is not None and column.max() >= num_classes:
            place = int((column >= num_classes).argmax())
            raise ValueError(
                f"{name}[{place}] is {column[place]:.0f}: with num_classes={num_classes} the indices end at "
                f"{num_classes - 1}; correct the index or raise num_classes"
            )
        columns.append(column.astype(np.int64))
    return columns[0], columns[1]


def counts(
    predictions: Sequence[float], references: Sequence[float], num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and samples of each class, both (classes,); without ``num_classes``, of the classes that occur. Errors as above."""
    guess, truth = class_indices(predictions, references, num_classes)
    if num_classes is None:  # an index may be anything: memory follows the samples, not the largest index
        classes, truth = np.unique(truth, return_inverse=True)
        num_classes, right = len(classes), classes[truth] == guess
    else:
        right = truth == guess
    return np.bincount(truth[right], minlength=num_classes), np.bincount(truth, minlength=num_classes)


def enough(totals: np.ndarray, least: int) -> np.ndarray:
    """Which classes (classes,) UAR averages, by their number of samples. Raises ValueError where none is left."""
    if least < 1:
        raise ValueError(f"least is {least}: a class needs at least 1 sample to have a recall")
    if totals.max() < least:
        raise ValueError(f"no class has {least} samples, the largest has {totals.max()}: lower least")
    return totals >= least


def recalls(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes) -> recalls in percent (..., classes), nan for a class without samples."""
    return np.where(totals > 0, 100 * hits / np.maximum(totals, 1), np.nan)


def war(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes) -> accuracy in percent (...)."""
    return 100 * hits.sum(-1) / totals.sum(-1)


def uar(hits: np.ndarray, totals: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes), and which classes count -> mean recall in percent (...), nan where none of them occurs."""
    hits, totals = hits[..., counted], totals[..., counted]
    present = totals > 0
    shares = np.where(present, hits / np.maximum(totals, 1), 0)  # percent last, as 0.1 did: the same digits
    with np.errstate(invalid="ignore"):
        return 100 * shares.sum(-1) / present.sum(-1)


def war_uar(predictions: Sequence[float], references: Sequence[float], least: int = 1) -> tuple[float, float]:
    """Both in percent. Raises ValueError for what are no class indices, and where no class has ``least`` samples."""
    hits, totals = counts(predictions, references)
    return float(war(hits, totals)), float(uar(hits, totals, enough(totals, least)))
