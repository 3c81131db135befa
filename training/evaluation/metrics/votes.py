"""Probabilities held against the votes of several people on each sample, defined once.

A class's share of a sample's votes is what the answer is compared with. One label is one vote.
``evaluate`` copies this file beside a metric, so it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 15


def probabilities_and_votes(
    predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as float64 (N, classes); the votes are still counts. Raises ValueError unless they
    are of one shape, not empty, and are probabilities and counts with at least one vote a sample."""
    columns = []
    for name, rows in (("predictions", predictions), ("references", references)):
        lengths = {np.size(row) for row in rows}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                f"{name} are empty: give at least one sample"
                if not lengths
                else f"{name} have rows of {', '.join(map(str, sorted(lengths)))} values: give one for each class, in every row"
            )
        columns.append(np.array([np.asarray(row, dtype=np.float64) for row in rows]))
    answers, votes = columns
    if answers.ndim != 2 or answers.shape != votes.shape:
        raise ValueError(
            f"predictions have shape {answers.shape} and references {votes.shape}: give both as (samples, classes)"
        )
    wrong = ~((votes >= 0) & np.isfinite(votes) & (votes == np.floor(votes)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"references[{row}][{column}] is {votes[row, column]:g}: expected a number of votes, from 0")
    if (votes.sum(1) == 0).any():
        raise ValueError(f"references[{int((votes.sum(1) == 0).argmax())}] has no vote: leave the sample out")
    sums = answers.sum(1)
    wrong_rows = ~((answers >= 0).all(1) & (np.abs(sums - 1) < 1e-3))  # nan, too
    if wrong_rows.any():
        row = int(wrong_rows.argmax())
        raise ValueError(
            f"predictions[{row}] is {answers[row].tolist()}, with the sum {sums[row]:g}: expected probabilities of the classes"
        )
    return answers / sums[:, None], votes


def shares(votes: np.ndarray) -> np.ndarray:
    """Counts (N, classes) -> shares (N, classes), each row with the sum 1."""
    return votes / votes.sum(-1, keepdims=True)


def cross_entropies(answers: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Probabilities and votes (N, classes) -> of each sample -sum(share * log(probability)) in nats
    (N,); infinite where a class with votes has the probability 0."""
    with np.errstate(divide="ignore"):
        logs = np.where(votes > 0, np.log(answers), 0.0)
    return -(shares(votes) * logs).sum(-1)


def divergences(answers: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Probabilities and votes (N, classes) -> of each sample the Jensen-Shannon divergence of the
    probabilities and the shares, to the base 2 (N,): 0 where they are equal, 1 where no class has
    both. The divergence itself, not its square root."""
    given = shares(votes)
    middle = (answers + given) / 2

    def relative_entropy(part: np.ndarray) -> np.ndarray:
        ratio = np.divide(part, middle, out=np.ones_like(part), where=part > 0)
        return (part * np.log2(ratio)).sum(-1)

    # Rounding may leave some 1e-17 below 0.
    return np.clip((relative_entropy(answers) + relative_entropy(given)) / 2, 0.0, 1.0)


def agreement(answers: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Probabilities and votes (N, classes) -> the share of a sample's votes that its likeliest class
    has (N,): how often one of those who voted says the same."""
    return shares(votes)[np.arange(len(answers)), answers.argmax(1)]


def confidence_bins(answers: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Probabilities (N, classes) -> which of ``bins`` equally wide bins of (0, 1] the largest one is
    in (N,), from 0; a bin's upper end belongs to it. Raises ValueError for fewer bins than 1."""
    if bins < 1:
        raise ValueError(f"bins is {bins}: expected at least 1")
    return np.clip(np.ceil(answers.max(1) * bins).astype(int) - 1, 0, bins - 1)


def calibration_error(excess: np.ndarray) -> np.ndarray:
    """Confidence minus agreement summed in each bin, over the number of samples (..., bins) ->
    expected calibration error in percent (...)."""
    return 100 * np.abs(excess).sum(-1)
