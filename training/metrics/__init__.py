"""Local ``evaluate`` modules: class indices come in, WAR, UAR, recalls or the confusion matrix leave, offline.

Each metric is a folder with a card; ``load("war")`` finds it from any working directory, ``evaluate.load`` takes its path.
What they compute stands in ``recall.py``, for the rest of training too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads transformers' pipelines, which takes seconds; ``recall.py`` needs none of it
    import evaluate

METRICS: Path = Path(__file__).resolve().parent


def load(name: str) -> evaluate.EvaluationModule:
    """A fresh module of the metric in the folder ``name``: war, uar, class_recall or confusion.

    ``evaluate`` copies the module's code into HF_HOME under a lock, which needs no network and lets processes start together.
    Raises ValueError for a name without a folder.
    """
    import evaluate

    known = sorted(path.parent.name for path in METRICS.glob("*/*.py") if path.stem == path.parent.name)
    if name not in known:
        raise ValueError(f"there is no metric {name!r}: choose one of {', '.join(known)}")
    # The inputs stay in memory: their file in HF_HOME would be one for all processes (the next waits a second for its lock),
    # and would stay there, locked, after each error of the metric.
    return evaluate.load(str(METRICS / name), keep_in_memory=True)
