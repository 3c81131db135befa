"""Scores of groups of people, and how far apart the best and the worst group are: rows of groups.csv
and gaps.csv, from the predictions of finished pairs.

Where data has two classes, such as happiness and neutral, each group also has the AUC of the one
over the other, which does not depend on where between them a model draws its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .auc import auc, auc_interval
from .predictions import Answers, read_answers
from .scores import score_columns, scores

GAP_COLUMNS = (
    "model", "benchmark", "fold", "prompt_set", "measure", "gap", "gap_low", "gap_high", "best", "worst", "groups", "too_small"
)  # fmt: skip
_Z = 1.959964  # of 95 %


def group_rows(pairs: Sequence[tuple[dict[str, Any], Path]], min_samples: int, min_group: int) -> list[dict[str, Any]]:
    """Rows of groups.csv: of each group WAR, UAR and how far its UAR is below the best, the recalls of
    the classes that occur, and the AUC of two classes; with 95 % intervals.

    Args:
        pairs: for each model on each benchmark one of its rows of results.csv, and its
            ``predictions.parquet``.
        min_group: a group with fewer samples has no gap.
    """
    rows = []
    for row, path in pairs:
        for fold, prompts, answers in read_answers(path):
            about = {"model": row["model"], "benchmark": row["benchmark"], "fold": fold, "prompt_set": prompts}
            own = [about | found for found in _of_groups(answers, min_samples)]
            compared = [found["uar"] for found in own if found["n"] >= min_group]
            for found in own:
                found["gap"] = max(compared) - found["uar"] if found["n"] >= min_group else None
            rows += own
    columns = dict.fromkeys(name for row in rows for name in row)
    return [columns | row for row in rows]


def _of_groups(answers: Answers, min_samples: int) -> list[dict[str, Any]]:
    guesses, scored = answers.logs.argmax(1), answers.truth >= 0
    occur = [place for place in range(len(answers.classes)) if (answers.truth == place).any()]
    found = []
    for group in sorted({name for name in answers.groups[scored] if name is not None}):
        own = scored & (answers.groups == group)
        truth, guess = answers.truth[own], guesses[own]
        row = (
            {"group": group, "n": len(truth)} | scores(guess, truth, len(answers.classes), min_samples) | {"gap": None}
        )
        if len(occur) == 2:
            first, second = occur
            over, is_first = answers.logs[own, first] - answers.logs[own, second], truth == first
            both = 0 < is_first.sum() < len(truth)
            row["auc"] = auc(over, is_first) if both else None
            row["auc_low"], row["auc_high"] = auc_interval(over, is_first) if both else (None, None)
        for place in occur:
            name, total = answers.classes[place], int((truth == place).sum())
            hits = int(((truth == place) & (guess == place)).sum())
            row[f"n_{name}"] = total
            row[f"recall_{name}"] = 100 * hits / total if total else None
            row[f"recall_{name}_low"], row[f"recall_{name}_high"] = _wilson(hits, total) if total else (None, None)
        found.append(row)
    return found


def _wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in percent. A bootstrap would say 100 to 100 of ten hits in ten."""
    share = hits / total
    middle = (share + _Z**2 / (2 * total)) / (1 + _Z**2 / total)
    half = _Z * np.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2)) / (1 + _Z**2 / total)
    return float(100 * max(middle - half, 0)), float(100 * min(middle + half, 1))


def gap_rows(groups: Sequence[dict[str, Any]], min_samples: int, min_group: int) -> list[dict[str, Any]]:
    """Rows of gaps.csv: for each measure the best group minus the worst, of those that are compared,
    with a 95 % interval; ``too_small`` names the others.

    Args:
        groups: rows of groups.csv.
        min_group: how many samples a group's measure must rest on; of a recall those of the class,
            of an AUC those of each of the two.

    The interval joins those of the two groups, as Zou and Donner (2008) do for independent
    estimates. It takes the two groups as given: of several groups some are apart by chance, so an
    interval without 0 says less the more groups there are.
    """
    rows = []
    for key in dict.fromkeys(_key(row) for row in groups):
        own = [row for row in groups if _key(row) == key]
        classes = [name.removeprefix("n_") for name in own[0] if name.startswith("n_") and own[0][name] is not None]
        rests_on = {name: ["n"] for name in score_columns(min_samples)}
        rests_on |= {"auc": [f"n_{name}" for name in classes]} if own[0].get("auc_low", "") != "" else {}
        rests_on |= {f"recall_{name}": [f"n_{name}"] for name in classes}
        for measure, counts in rests_on.items():
            sizes = {row["group"]: min(row[name] for name in counts) for row in own}
            compared = [row for row in own if sizes[row["group"]] >= min_group and row[measure] is not None]
            small = [f"{name} ({size})" for name, size in sizes.items() if size < min_group]
            line = dict(zip(GAP_COLUMNS, key)) | {
                "measure": measure,
                "groups": len(compared),
                "too_small": ", ".join(small),
            }
            if len(compared) > 1:
                best, worst = (of(compared, key=lambda row: row[measure]) for of in (max, min))
                line |= {"best": best["group"], "worst": worst["group"]} | _gap(best, worst, measure)
            rows.append(dict.fromkeys(GAP_COLUMNS) | line)
    return rows


def _key(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["model"], row["benchmark"], row["fold"], row["prompt_set"]


def _gap(best: dict[str, Any], worst: dict[str, Any], measure: str) -> dict[str, float]:
    (top, top_low, top_high), (bottom, bottom_low, bottom_high) = (
        (row[measure], row[f"{measure}_low"], row[f"{measure}_high"]) for row in (best, worst)
    )
    gap = top - bottom
    return {
        "gap": gap,
        "gap_low": gap - float(np.hypot(top - top_low, bottom_high - bottom)),
        "gap_high": gap + float(np.hypot(top_high - top, bottom - bottom_low)),
    }
