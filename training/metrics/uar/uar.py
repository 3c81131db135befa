"""UAR of a classifier as an ``evaluate`` module: class indices come in, the mean recall of the classes in percent leaves.

``evaluate`` copies this file alone into its cache, so it leans on nothing else of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "Unweighted average recall: the mean of the recalls of the classes that occur, in percent."

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
    least: a class counts when the references hold it at least this often; 1 unless told.
Returns:
    uar: float, 0 to 100.
"""


class Uar(evaluate.Metric):
    """Unweighted average recall: the mean of the recalls of the classes that occur, in percent."""

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

    def _compute(self, predictions: Sequence[float], references: Sequence[float], least: int = 1) -> dict[str, float]:
        guess, truth = _indices(predictions, references)
        if least < 1:
            raise ValueError(f"least is {least}: a class needs at least 1 sample to have a recall")
        _, row, counts = np.unique(truth, return_inverse=True, return_counts=True)  # (classes that occur,)
        if counts.max() < least:
            raise ValueError(f"no class has {least} samples, the largest has {counts.max()}: lower least")
        hits = np.bincount(row, weights=guess == truth)  # (classes that occur,)
        return {"uar": 100 * float((hits / counts)[counts >= least].mean())}


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
