"""WAR as an ``evaluate`` module: accuracy in percent."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from .info import info
from .recall import counts, war

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
        return info(type(self).__doc__, _INPUTS)

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"war": float(war(*counts(predictions, references)))}
