"""Confusion matrix as an ``evaluate`` module: class indices come in, counts by true and given class leave.

``evaluate`` copies this file into its cache, and ``recall.py`` beside it; they lean on nothing else of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from .recall import class_indices

_DESCRIPTION = "Confusion matrix: how many samples of each true class (row) got each class (column)."

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
    num_classes: number of classes; indices run from 0 to num_classes - 1.
Returns:
    confusion: num_classes lists of num_classes integers; row = true class, column = given class.
"""


class Confusion(evaluate.Metric):
    """Confusion matrix: how many samples of each true class (row) got each class (column)."""

    def _info(self) -> evaluate.MetricInfo:
        # float64 on purpose: an integer column would cut 0.9 down to 0 without a word, and format="numpy" would hand over
        # float32; here ``recall.py`` sees every index as it was given.
        index = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": index, "references": index}),
        )

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], num_classes: int
    ) -> dict[str, list[list[int]]]:
        guess, truth = class_indices(predictions, references, num_classes)
        counts = np.bincount(truth * num_classes + guess, minlength=num_classes**2)
        return {"confusion": counts.reshape(num_classes, num_classes).tolist()}  # rows: truth
