"""WAR of a classifier as an ``evaluate`` module: class indices come in, the accuracy in percent leaves.

``evaluate`` copies this file alone into its cache, so it leans on nothing else of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "Weighted average recall: the share of samples that get their true class, in percent."

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
Returns:
    war: float, 0 to 100.
"""


class War(evaluate.Metric):
    """Weighted average recall: the share of samples that get their true class, in percent."""

    def _info(self) -> evaluate.MetricInfo:
        # float64 on purpose: an integer column would cut 0.9 down to 0 without a word, and format="numpy" would hand over
        # float32; here _indices sees every index as it was given.
        index = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": index, "references": index}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        guess, truth = _indices(predictions, references)
        return {"war": 100 * int((guess == truth).sum()) / len(truth)}


def _indices(
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
