"""``predictions.parquet`` of a model on a benchmark: of every sample the true class, the prediction
and its probabilities, or why it has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .samples import Samples

_PROBABILITY = "p_"  # and the class


def predictions_table(
    samples: Samples,
    errors: Sequence[str | None],
    probabilities: np.ndarray,
    classes: Sequence[str],
    fold: str,
    prompts: str,
) -> pa.Table:
    """One row a sample.

    Args:
        errors: of each sample, why it was not scored, or None.
        probabilities: (scored samples, classes), in the samples' order.
    """
    full = np.full((len(samples), len(classes)), np.nan)
    full[[error is None for error in errors]] = probabilities
    predicted = [None if error is not None else classes[int(row.argmax())] for error, row in zip(errors, full)]
    columns = {
        "id": pa.array(samples.ids, pa.string()),
        "fold": pa.array([fold] * len(samples)),
        "prompt_set": pa.array([prompts] * len(samples)),
        "truth": pa.array(samples.labels, pa.string()),
        "guess": pa.array(predicted, pa.string()),
        "error": pa.array(errors, pa.string()),
    }
    columns |= {
        f"{_PROBABILITY}{name}": pa.array(full[:, i], mask=np.isnan(full[:, i])) for i, name in enumerate(classes)
    }
    return pa.table(columns)


def read_predictions(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """For each fold and prompt set, id, true class and prediction of its samples in order: (N, 3)
    of strings, the prediction None where it was not scored."""
    table = pq.read_table(path, columns=["fold", "prompt_set", "id", "truth", "guess"])
    found = defaultdict(list)
    for fold, prompts, *sample in zip(*(column.to_pylist() for column in table.columns)):
        found[fold, prompts].append(sample)
    return {key: np.array(samples, dtype=object) for key, samples in found.items()}


def classes_of(path: Path) -> list[str]:
    """The candidates that the samples were scored against, in order."""
    names = pq.read_schema(path).names
    return [name.removeprefix(_PROBABILITY) for name in names if name.startswith(_PROBABILITY)]
