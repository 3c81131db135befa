"""Recall of each class as an ``evaluate`` module: one percentage a class."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
import numpy as np

from .info import info
from .recall import counts, recalls

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
    num_classes: number of classes; indices run from 0 to num_classes - 1.
Returns:
    class_recall: list of num_classes floats, 0 to 100; None for a class that does not occur in the references.
"""


class ClassRecall(evaluate.Metric):
    """Recall of each class: the share of its samples that get their true class, in percent."""

    def _info(self) -> evaluate.MetricInfo:
        return info(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], num_classes: int
    ) -> dict[str, list[float | None]]:
        found = recalls(*counts(predictions, references, num_classes))
        return {"class_recall": [None if np.isnan(recall) else recall for recall in found.tolist()]}
