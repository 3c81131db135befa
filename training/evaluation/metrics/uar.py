"""UAR as an ``evaluate`` module: mean recall of the classes in percent."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from .info import info
from .recall import counts, large_enough, uar

_INPUTS = """
Args:
    predictions: class index the model gave each sample, from 0.
    references: true class index of each sample, from 0.
    min_samples: a class counts when the references hold it at least this often (default: 1).
Returns:
    uar: float, 0 to 100.
"""


class Uar(evaluate.Metric):
    """Unweighted average recall: the mean of the recalls of the classes that occur, in percent."""

    def _info(self) -> evaluate.MetricInfo:
        return info(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], min_samples: int = 1
    ) -> dict[str, float]:
        hits, totals = counts(predictions, references)
        return {"uar": float(uar(hits, totals, large_enough(totals, min_samples)))}
