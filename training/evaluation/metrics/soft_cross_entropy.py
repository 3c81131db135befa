"""Soft cross-entropy as an ``evaluate`` module: probabilities against vote shares, in nats."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from .info import info_of_votes
from .votes import cross_entropies, probabilities_and_votes

_INPUTS = """
Args:
    predictions: of each sample the probabilities of the classes, with the sum 1.
    references: of each sample the number of votes for each class, in the same order.
Returns:
    soft_cross_entropy: float, from 0; in nats. Infinite where a class with votes has the probability 0.
"""


class SoftCrossEntropy(evaluate.Metric):
    """Soft cross-entropy: the mean over samples of -sum(share of the votes * log(probability)), in nats."""

    def _info(self) -> evaluate.MetricInfo:
        return info_of_votes(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        return {"soft_cross_entropy": float(cross_entropies(*probabilities_and_votes(predictions, references)).mean())}
