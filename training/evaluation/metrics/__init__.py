"""WAR, UAR, recalls and the confusion matrix, computed in ``recall.py``, and how probabilities agree
with votes, in ``votes.py``: offered as local ``evaluate`` modules, one a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads transformers' pipelines, which takes seconds; the computations need none of it
    import evaluate

METRICS: Path = Path(__file__).resolve().parent
NAMES = ("calibration", "class_recall", "confusion", "js_divergence", "soft_cross_entropy", "uar", "war")


def load(name: str) -> evaluate.EvaluationModule:
    """A fresh module of one of ``NAMES``, from any working directory.

    ``evaluate`` copies the file, and those it imports from beside it, into HF_HOME under a lock,
    which needs no network and lets processes start together. Raises ValueError for another name.
    """
    import evaluate

    if name not in NAMES:
        raise ValueError(f"there is no metric {name!r}: choose one of {', '.join(NAMES)}")
    # The inputs stay in memory: their file in HF_HOME would be one for all processes (the next
    # waits a second for its lock), and would stay there, locked, after each error of the metric.
    return evaluate.load(str(METRICS / f"{name}.py"), keep_in_memory=True)
