"""Recall, WAR and UAR, defined once: from class indices, or from counts of right answers and
samples by class, to percent.

UAR is the mean recall of the classes that occur; with ``min_samples`` above 1, of those with at
least so many samples. ``evaluate`` copies this file beside a metric, so it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def class_indices(
    predictions: Sequence[float], references: Sequence[float], num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as int64 (N,). Raises ValueError unless they are equally long, not empty, and
    indices of classes."""
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
    """Right answers and samples of each class, both (classes,); without ``num_classes``, of the
    classes that occur. Errors as above."""
    predicted, true = class_indices(predictions, references, num_classes)
    right = true == predicted
    if num_classes is None:  # an index may be anything: memory follows the samples, not the largest index
        classes, true = np.unique(true, return_inverse=True)
        num_classes = len(classes)
    return np.bincount(true[right], minlength=num_classes), np.bincount(true, minlength=num_classes)


def confusion(predictions: Sequence[float], references: Sequence[float], num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): row = true class, column = predicted class. Errors as above."""
    predicted, true = class_indices(predictions, references, num_classes)
    return np.bincount(true * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def large_enough(totals: np.ndarray, min_samples: int) -> np.ndarray:
    """Which classes (classes,) UAR averages, by their number of samples. Raises ValueError where
    none is left."""
    if min_samples < 1:
        raise ValueError(f"min_samples is {min_samples}: a class needs at least 1 sample to have a recall")
    if totals.max() < min_samples:
        raise ValueError(f"no class has {min_samples} samples, the largest has {totals.max()}: lower min_samples")
    return totals >= min_samples


def recalls(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes) -> recalls in percent (..., classes), nan for a
    class without samples."""
    return np.where(totals > 0, 100 * hits / np.maximum(totals, 1), np.nan)


def war(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes) -> accuracy in percent (...)."""
    return 100 * hits.sum(-1) / totals.sum(-1)


def uar(hits: np.ndarray, totals: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Right answers and samples (..., classes), and which classes count -> mean recall in percent
    (...), nan where none of them occurs."""
    hits, totals = hits[..., counted], totals[..., counted]
    present = totals > 0
    shares = np.where(present, hits / np.maximum(totals, 1), 0)  # percent last, as 0.1 did: the same digits
    with np.errstate(invalid="ignore"):
        return 100 * shares.sum(-1) / present.sum(-1)


def war_uar(predictions: Sequence[float], references: Sequence[float], min_samples: int = 1) -> tuple[float, float]:
    """Both in percent. Raises ValueError for what are no class indices, and where no class has
    ``min_samples``."""
    hits, totals = counts(predictions, references)
    return float(war(hits, totals)), float(uar(hits, totals, large_enough(totals, min_samples)))
