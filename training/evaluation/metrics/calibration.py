"""Expected calibration error as an ``evaluate`` module: confidence against agreement, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
import numpy as np

from .info import info_of_votes
from .votes import BINS, agreement, calibration_error, confidence_bins, probabilities_and_votes

_INPUTS = f"""
Args:
    predictions: of each sample the probabilities of the classes, with the sum 1.
    references: of each sample the number of votes for each class, in the same order.
    bins: number of equally wide bins of confidence between 0 and 1 (default: {BINS}).
Returns:
    calibration: float, 0 to 100.
"""


class Calibration(evaluate.Metric):
    """Expected calibration error: samples are sorted into bins by the probability of their likeliest class; the mean over samples of
    how far their bin's mean probability is from the mean share of votes that this class has, in percent. With one vote a sample the
    latter is the accuracy."""

    def _info(self) -> evaluate.MetricInfo:
        return info_of_votes(type(self).__doc__, _INPUTS)

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]], bins: int = BINS
    ) -> dict[str, float]:
        answers, votes = probabilities_and_votes(predictions, references)
        excess = answers.max(1) - agreement(answers, votes)
        summed = np.bincount(confidence_bins(answers, bins), excess, bins)
        return {"calibration": float(calibration_error(summed / len(answers)))}
