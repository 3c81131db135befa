"""Area under the ROC curve: how often a sample of one class scores above a sample of another."""

from __future__ import annotations

import numpy as np


def auc(scores: np.ndarray, first: np.ndarray, times: np.ndarray | None = None) -> float:
    """Scores (N,) and which samples (N,) are of the first class -> the share, 0 to 1, of all pairs of a
    sample of the first class and one of the other in which the first scores higher, ties counted
    half; nan where a class has no sample. ``times`` (N,): how often each sample counts."""
    _, places = np.unique(scores, return_inverse=True)
    times = np.ones(len(scores)) if times is None else times
    ours, theirs = (np.bincount(places, times * of) for of in (first, ~first))
    pairs = ours.sum() * theirs.sum()
    return float((ours * (np.cumsum(theirs) - theirs / 2)).sum() / pairs) if pairs else float("nan")


def auc_interval(scores: np.ndarray, first: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval by bootstrap: samples are drawn class by class, for the AUC does not
    depend on how many there are of each."""
    generator = np.random.default_rng(seed)
    places = [np.flatnonzero(first), np.flatnonzero(~first)]

    def drawn() -> np.ndarray:
        chosen = np.concatenate([generator.choice(own, len(own)) for own in places])
        return np.bincount(chosen, minlength=len(scores))

    low, high = np.quantile([auc(scores, first, drawn()) for _ in range(resamples)], [0.025, 0.975])
    return float(low), float(high)
