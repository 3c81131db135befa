"""A panel: several people who each said what they see in the same faces.

In: of each sample a list of counts, and what they count. Out: their majority, which is the sample's
class, and which samples are compared with the shares of the votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modeling_expclip.prompts import LABEL_SETS, canonical_label, check_labels

# Votes that name no expression, so they are no candidates; a lot of them leaves a sample out.
NO_EXPRESSION = ("unknown", "not a face")
FERPLUS = (*LABEL_SETS["ferplus"], *NO_EXPRESSION)  # the ten columns of FER+, in its order


@dataclass(frozen=True)
class Panel:
    """``counts`` (N, V) votes of N samples for the V ``classes``. A class is called as the candidate
    it means, where it means one."""

    classes: tuple[str, ...]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def expressions(self) -> tuple[str, ...]:
        """The classes without ``NO_EXPRESSION``."""
        return tuple(name for name in self.classes if name not in NO_EXPRESSION)

    def labels(self) -> list[str | None]:
        """The class with the most votes of each sample, of all classes; None where several have as many."""
        return [None if best < 0 else self.classes[best] for best in majority(self.counts)]

    def of(self, candidates: Sequence[str]) -> np.ndarray:
        """Votes (N, candidates) for each candidate, 0 where nobody could vote for it."""
        columns = [self.classes.index(name) if name in self.classes else -1 for name in candidates]
        return np.pad(self.counts, ((0, 0), (0, 1)))[:, columns]


def majority(counts: np.ndarray) -> np.ndarray:
    """Votes (..., V) -> the class (...) with the most, -1 where several have as many."""
    largest = counts.max(-1, keepdims=True)
    return np.where((counts == largest).sum(-1) == 1, counts.argmax(-1), -1)


def judged(own: np.ndarray, all_votes: np.ndarray) -> np.ndarray:
    """Votes (N, candidates) for candidates and (N, V) for any class -> which samples (N,) are
    compared with the shares: those with more than half of their votes for candidates."""
    return 2 * own.sum(1) > all_votes.sum(1)


def load_panel(
    votes: Sequence[Sequence[int] | None],
    ids: Sequence[str],
    names: Sequence[str] | None,
    candidates: Sequence[str] | None,
    source: str,
) -> Panel:
    """Votes as a table holds them.

    Args:
        votes: of each sample a count for each class.
        ids: the samples' ids, for errors.
        names: what the counts are of, in their order; None for ten counts: those of FER+.
        candidates: see ``load_samples``; None takes the names as they are.

    Raises ValueError naming the sample for what are no counts, for none at all, and for names that do not fit.
    """
    names = _class_names(names, len(votes[0] or ()), candidates, source)
    for number, row in zip(ids, votes):
        wrong = (
            row is None
            or len(row) != len(names)
            or any(not isinstance(count, int) or count < 0 for count in row)
            or not sum(row)
        )
        if wrong:
            raise ValueError(
                f"{source}: {number} has the votes {row}; expected {len(names)} counts from 0, of {', '.join(names)}, and one vote or more"
            )
    return Panel(names, np.array(votes, dtype=np.int64))


def _class_names(
    names: Sequence[str] | None, count: int, candidates: Sequence[str] | None, source: str
) -> tuple[str, ...]:
    if names is None:
        if count != len(FERPLUS):
            raise ValueError(
                f"{source}: its votes have {count} counts; say with --vote-classes what they are of, in their order"
            )
        names = FERPLUS
    if count != len(names):
        raise ValueError(
            f"{source}: its votes have {count} counts, and --vote-classes names {len(names)}: {', '.join(names)}"
        )
    return tuple(check_labels(_meaning(name, candidates) for name in names))


def _meaning(name: str, candidates: Sequence[str] | None) -> str:
    """The candidate that a class of votes means: itself, or the paper's name for it."""
    if candidates is None or name in candidates:
        return name
    try:
        known = canonical_label(name)
    except ValueError:
        return name
    return known if known in candidates else name
