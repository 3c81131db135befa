"""``predictions.parquet`` of a model on a benchmark: of every sample the true class, the prediction
and its probabilities, its group and its votes, or why it has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .samples import Samples

_PROBABILITY, _VOTES = "p_", "votes_"  # and the class


def predictions_table(
    samples: Samples,
    errors: Sequence[str | None],
    answered: Sequence[int],
    probabilities: np.ndarray,
    classes: Sequence[str],
    fold: str,
    prompts: str,
) -> pa.Table:
    """One row a sample.

    Args:
        errors: of each sample, why it was not scored, or None.
        answered: the samples that have probabilities: those that were scored, and those that only
            their votes are for.
        probabilities: (answered samples, classes).
    """
    full = np.full((len(samples), len(classes)), np.nan)
    full[answered] = probabilities
    predicted = [None if error is not None else classes[int(row.argmax())] for error, row in zip(errors, full)]
    columns = {
        "id": pa.array(samples.ids, pa.string()),
        "fold": pa.array([fold] * len(samples)),
        "prompt_set": pa.array([prompts] * len(samples)),
        "truth": pa.array(samples.labels, pa.string()),
        "guess": pa.array(predicted, pa.string()),
        "error": pa.array(errors, pa.string()),
        "group": pa.array(samples.groups, pa.string()),
    }
    columns |= {
        f"{_PROBABILITY}{name}": pa.array(full[:, i], mask=np.isnan(full[:, i])) for i, name in enumerate(classes)
    }
    if samples.panel:
        others = [name for name in samples.panel.classes if name not in classes]
        names = [*classes, *others]
        columns |= {f"{_VOTES}{name}": pa.array(row) for name, row in zip(names, samples.panel.of(names).T)}
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


@dataclass(frozen=True)
class Answers:
    """What a model answered to N samples of a fold, with a prompt set: ``truth`` (N,) as an index into
    ``classes``, -1 without one; log probabilities ``logs`` (N, classes); ``groups`` (N,) of names and
    None; ``votes`` (N, classes and what else was voted for), None without a panel."""

    classes: tuple[str, ...]
    truth: np.ndarray
    logs: np.ndarray
    groups: np.ndarray
    votes: np.ndarray | None


def read_answers(path: Path) -> Iterator[tuple[str, str, Answers]]:
    """Fold, prompt set and the answers of each. Raises ValueError for a file that an older version
    wrote, which names no groups."""
    table = pq.read_table(path)
    classes = tuple(classes_of(path))
    if "group" not in table.column_names:
        raise ValueError(f"{path} was written by an older version; remove {path.parent}, and it is run again")
    voted = [name for name in table.column_names if name.startswith(_VOTES)]
    fold, prompts = (np.array(table[name].to_pylist(), dtype=object) for name in ("fold", "prompt_set"))
    truth = np.array(
        [
            classes.index(true) if error is None else -1
            for true, error in zip(table["truth"].to_pylist(), table["error"].to_pylist())
        ]
    )
    groups = np.array(table["group"].to_pylist(), dtype=object)
    probabilities = np.column_stack([table[f"{_PROBABILITY}{name}"].to_numpy() for name in classes])
    votes = np.column_stack([table[name].to_numpy() for name in voted]) if voted else None
    answered = ~np.isnan(probabilities[:, 0])
    for key in dict.fromkeys(zip(fold, prompts)):
        own = (fold == key[0]) & (prompts == key[1]) & answered
        logs = np.log(np.maximum(probabilities[own], 1e-300))  # finite, so that 0 times it is 0
        yield *key, Answers(classes, truth[own], logs, groups[own], None if votes is None else votes[own])
