"""Recall of each class as an ``evaluate`` module: class indices come in, one percentage a class leaves.

``evaluate`` copies this file into its cache, and ``recall.py`` beside it; they lean on nothing else of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from .recall import counts, recalls

_DESCRIPTION = "Recall of each class: the share of its samples that get their true class, in percent."

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
    ) -> dict[str, list[float | None]]:
        found = recalls(*counts(predictions, references, num_classes))
        return {"class_recall": [None if np.isnan(recall) else recall for recall in found.tolist()]}
