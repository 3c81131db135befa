"""Confusion matrix as an ``evaluate`` module: counts by true class and predicted class."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from .info import info
from .recall import confusion

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
    num_classes: number of classes; indices run from 0 to num_classes - 1.
Returns:
    confusion: num_classes lists of num_classes integers; row = true class, column = predicted class.
"""


class Confusion(evaluate.Metric):
    """Confusion matrix: how many samples of each true class (row) got each class (column)."""

    def _info(self) -> evaluate.MetricInfo:
        return info(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], num_classes: int
    ) -> dict[str, list[list[int]]]:
        return {"confusion": confusion(predictions, references, num_classes).tolist()}
