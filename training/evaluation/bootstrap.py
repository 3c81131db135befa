"""Percentile intervals of WAR and UAR, in percent, and of what is computed from sums over samples,
by bootstrap over samples.

Of WAR and UAR a resample is drawn as counts, not as samples, so 1,000 resamples of any number of
samples take milliseconds.
"""

from __future__ import annotations

import numpy as np

from .metrics import recall


def intervals(
    predictions: np.ndarray,
    references: np.ndarray,
    classes: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    min_samples: int = 1,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """``(low, high)`` of ``war`` and ``uar`` in percent: the middle ``level`` of the scores of
    resampled data.

    WAR and UAR depend on the samples only through how many there are of each true class, right and
    wrong: 2 x ``classes`` numbers. Drawing N samples with replacement makes these numbers
    multinomial, so drawing them from a multinomial distribution is the same bootstrap exactly,
    without touching N samples ``resamples`` times.

    Args:
        predictions: class indices (N,) a model gave the samples.
        references: their true class indices (N,).
        classes: number of classes.
        resamples: how many data sets of N samples to draw; ordinary, not class by class.
        seed: the same seed gives the same intervals.
        min_samples: UAR averages the classes with at least this many samples in ``references``.
            Which ones is settled before resampling; a resample that has none of a class averages
            the remaining ones.
        level: share of the resampled scores inside the interval.

    Raises ValueError for inputs of different lengths, without samples or that are no class indices,
    and for options without sense.
    """
    cells = _cells(classes, references=references, predictions=predictions)  # (classes, 2)
    counted = recall.large_enough(cells.sum(1), min_samples)
    draws = _draw(cells, resamples, seed)  # (resamples, classes, 2)
    return {name: middle(scores, level) for name, scores in _war_uar(draws[..., 1], draws.sum(-1), counted).items()}


def paired_difference(
    ours: np.ndarray,
    theirs: np.ndarray,
    references: np.ndarray,
    classes: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    min_samples: int = 1,
    level: float = 0.95,
) -> dict[str, tuple[float, float, float]]:
    """``(difference, low, high)`` of ``war`` and ``uar``: ours minus theirs on the same samples, in
    percentage points.

    Both models meet the same resamples, so what makes a sample hard for both cancels: the interval
    is narrower than two separate ones suggest. Here the counts are by true class, ours right or
    wrong, theirs right or wrong.

    Args and errors as for ``intervals``; ``ours`` and ``theirs`` are the class indices (N,) the two
    models gave.
    """
    cells = _cells(classes, references=references, theirs=theirs, ours=ours)  # (classes, 2, 2)
    counted = recall.large_enough(cells.sum((1, 2)), min_samples)

    def difference(counts: np.ndarray) -> dict[str, np.ndarray]:  # counts (..., classes, 2, 2)
        gain = counts[..., 0, 1] - counts[..., 1, 0]  # only ours right, minus only theirs: (..., classes)
        return _war_uar(gain, counts.sum((-1, -2)), counted)

    measured, resampled = difference(cells), difference(_draw(cells, resamples, seed))
    return {name: (float(measured[name]), *middle(scores, level)) for name, scores in resampled.items()}


def resampled_sums(values: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Values of N samples (N, M) -> their sums (resamples, M) over N samples drawn with replacement."""
    generator, count = np.random.default_rng(seed), len(values)
    drawn = (np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(resamples))
    return np.stack([times @ values for times in drawn])


def _cells(classes: int, references: np.ndarray, **predictions: np.ndarray) -> np.ndarray:
    """How many samples there are of each true class, wrong (0) and right (1) in each of
    ``predictions``: (classes, 2, ...)."""
    columns = {name: np.asarray(column) for name, column in {"references": references, **predictions}.items()}
    for name, column in columns.items():
        if column.ndim != 1 or column.shape != columns["references"].shape:
            raise ValueError(
                f"{name} has shape {column.shape} and references {columns['references'].shape}: give one class index for each sample"
            )
        if not column.size:
            raise ValueError(f"{name} is empty: give at least one sample")
        if not np.issubdtype(column.dtype, np.integer):
            raise ValueError(f"{name} holds {column.dtype} values: give class indices as integers")
        wrong = (column < 0) | (column >= classes)
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"{name}[{place}] is {column[place]}: expected a class index from 0 to {classes - 1}, as classes is {classes}"
            )
    code = references = columns["references"].astype(np.int64)
    for name in predictions:
        code = 2 * code + (columns[name] == references)
    shape = (classes, *[2] * len(predictions))
    return np.bincount(code, minlength=int(np.prod(shape))).reshape(shape)


def _draw(cells: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Cells of resampled data, (resamples, *cells.shape)."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: expected at least 1")
    flat = cells.ravel()
    # Empty cells stay out of the draw: numpy gives what rounding leaves over to the last cell,
    # which must be one with samples.
    filled = np.flatnonzero(flat)
    draws = np.zeros((resamples, flat.size), dtype=np.int64)
    draws[:, filled] = np.random.default_rng(seed).multinomial(flat.sum(), flat[filled] / flat.sum(), size=resamples)
    return draws.reshape(resamples, *cells.shape)


def _war_uar(hits: np.ndarray, totals: np.ndarray, counted: np.ndarray) -> dict[str, np.ndarray]:
    return {"war": recall.war(hits, totals), "uar": recall.uar(hits, totals, counted)}


def middle(scores: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of ``scores`` (resamples,); a resample without any counted class has no
    UAR and is left out."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: expected a share between 0 and 1, such as 0.95")
    low, high = np.nanquantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
