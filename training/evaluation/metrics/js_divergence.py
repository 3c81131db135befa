"""Jensen-Shannon divergence as an ``evaluate`` module: probabilities against vote shares, base 2."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from .info import info_of_votes
from .votes import divergences, probabilities_and_votes

_INPUTS = """
Args:
    predictions: of each sample the probabilities of the classes, with the sum 1.
    references: of each sample the number of votes for each class, in the same order.
Returns:
    js_divergence: float, 0 to 1.
"""


class JsDivergence(evaluate.Metric):
    """Jensen-Shannon divergence (base 2, not its square root) of the probabilities and the shares of
    the votes, averaged over samples: 0 where they are equal, 1 where no class has both."""

    def _info(self) -> evaluate.MetricInfo:
        return info_of_votes(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        return {"js_divergence": float(divergences(*probabilities_and_votes(predictions, references)).mean())}
