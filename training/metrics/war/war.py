"""WAR of a classifier as an ``evaluate`` module: class indices come in, the accuracy in percent leaves.

``evaluate`` copies this file into its cache, and ``recall.py`` beside it; they lean on nothing else of the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from .recall import counts, war

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
        # float32; here ``recall.py`` sees every index as it was given.
        index = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": index, "references": index}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"war": float(war(*counts(predictions, references)))}
