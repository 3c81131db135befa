"""One number by which a model's logits are divided, so that its probabilities are as sure as a panel
is: the temperature with the lowest soft cross-entropy."""

from __future__ import annotations

import numpy as np

from .metrics.votes import shares

LOWEST, HIGHEST = 0.01, 100.0


def tempered(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Log probabilities (N, classes) -> probabilities (N, classes) of the logits divided by
    ``temperature``. It changes no sample's likeliest class."""
    scaled = log_probabilities / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(log_probabilities: np.ndarray, votes: np.ndarray) -> float | None:
    """Log probabilities and votes (N, classes) -> the temperature, None where the lowest
    cross-entropy is not between LOWEST and HIGHEST.

    The cross-entropy is convex in 1 / temperature, so where its slope changes sign is the only
    minimum, and halving an interval finds it.
    """
    given = shares(votes)

    def slope(temperature: float) -> float:  # of the cross-entropy, along 1 / temperature
        return float(((tempered(log_probabilities, temperature) - given) * log_probabilities).sum())

    low, high = LOWEST, HIGHEST
    if not slope(low) > 0 > slope(high):
        return None
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low * high) ** 0.5
