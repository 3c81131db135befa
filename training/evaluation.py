"""Zero-shot evaluation of models on benchmarks: features once per model and data set, then every prompt set; evidence is kept.

    OUTPUT/results.csv                            one row a model, benchmark, fold and prompt set
    OUTPUT/MODEL/BENCHMARK/predictions.parquet    every sample: truth, probabilities, or why it has none
    OUTPUT/MODEL/BENCHMARK/rows.json              the pair's rows of results.csv; there once the pair is done

A pair of model and benchmark that is done is not run again. Under torchrun each process embeds its share of the samples.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
import transformers
from tqdm import tqdm

from modeling_expclip.files import read_json, whole_file, write_csv, write_json
from training import metrics
from training.baselines import ZeroShotModel, load_zero_shot_model
from training.bootstrap import intervals
from training.plots import confusion_matrix
from training.processes import rank, world_size
from training.samples import BENCHMARKS, Samples, load_samples

COLUMNS = (
    "model", "benchmark", "fold", "prompt_set", "n", "uar", "war", "uar_low", "uar_high", "war_low", "war_high",
    "skipped", "chance_uar", "seconds", "transformers", "torch",
)  # fmt: skip

_DONE = "rows.json"  # written last


@dataclass(frozen=True)
class Pair:
    """A model and a data set to evaluate it on. ``classes`` None: the data's own."""

    name: str
    model: str
    benchmark: str
    source: str
    classes: tuple[str, ...] | None
    group: str | None = None

    def folder(self, output: Path) -> Path:
        return output / self.name / self.benchmark

    def request(self, prompts: Sequence[str], dtype: str) -> dict[str, Any]:
        """What the results depend on, to tell a finished pair from another request of the same name."""
        return {
            "model": self.model,
            "source": self.source,
            "classes": list(self.classes) if self.classes else None,
            "group": self.group,
            "prompts": list(prompts),
            "dtype": dtype,
        }


def evaluate(
    pairs: Sequence[Pair], prompts: Sequence[str], output: Path, *, batch_size: int, dtype: str
) -> list[dict[str, Any]]:
    """Runs the pairs that are not done and writes ``results.csv``; returns its rows.

    Raises ValueError when ``output`` holds the pair with other settings, or the data cannot be what the benchmark says.
    """
    pending = [pair for pair in pairs if not _is_done(pair, output, prompts, dtype)]
    if pending and world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    model, loaded = None, None
    for pair in pending:
        folds = load_samples(pair.benchmark, pair.source, pair.classes, pair.group)
        if loaded != pair.model:
            model, loaded = load_zero_shot_model(pair.model, dtype=dtype), pair.model
        _run(pair, folds, model, prompts, output, batch_size, dtype)
    if rank():
        return []
    done = [_done(pair.folder(output)) for pair in pairs]
    rows, groups = ([row for each in done for row in each[name]] for name in ("rows", "groups"))
    write_csv(output / "results.csv", map(_rounded, rows), COLUMNS)
    if groups:
        write_csv(output / "groups.csv", map(_rounded, groups), tuple(groups[0]))
    return rows


def _is_done(pair: Pair, output: Path, prompts: Sequence[str], dtype: str) -> bool:
    folder = pair.folder(output)
    if not (folder / _DONE).exists():
        return False
    found, asked = _done(folder)["request"], pair.request(prompts, dtype)
    if found != asked:
        changed = ", ".join(name for name in asked if found.get(name) != asked[name])
        raise ValueError(f"{folder} was made with another {changed}; choose another --output, or remove that folder")
    return True


def _done(folder: Path) -> dict[str, Any]:
    """What a finished pair came to. Raises ValueError for a file that this did not write."""
    remedy = "remove it, and this pair is run again"
    found = read_json(folder / _DONE, remedy)
    kinds = {"request": dict, "rows": list, "groups": list}
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{folder / _DONE} does not hold {', '.join(kinds)}; {remedy}")
    if not all(isinstance(row, dict) and {*row} == {*COLUMNS} for row in found["rows"]):
        raise ValueError(f"{folder / _DONE} holds rows of other columns than results.csv; {remedy}")
    return found


def _run(
    pair: Pair,
    folds: dict[str, Samples],
    model: ZeroShotModel,
    prompts: Sequence[str],
    output: Path,
    batch_size: int,
    dtype: str,
) -> None:
    classes = pair.classes or tuple(sorted({label for samples in folds.values() for label in samples.labels}))
    rows, tables, groups = [], [], []
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for fold, samples in folds.items():
        start = time.perf_counter()
        features, errors = _features(
            f"{pair.name} {pair.benchmark}", samples, model, classes, batch_size, pair.benchmark
        )
        if rank():
            continue
        kept = [i for i, error in enumerate(errors) if error is None]
        if not kept:
            raise ValueError(
                f"{pair.source}, fold {fold}: none of its {len(samples)} samples could be scored; the first: {errors[0]}"
            )
        truth = np.array([classes.index(samples.labels[i]) for i in kept])
        for name in prompts:
            logits = torch.cat([model.logits(part, classes, name) for part in features.split(1024)])  # (n, classes)
            probabilities = logits.softmax(-1).numpy()
            guess = probabilities.argmax(1)
            scores = _scores(guess, truth, len(classes))
            rows.append(
                {"model": pair.name, "benchmark": pair.benchmark, "fold": fold, "prompt_set": name, "n": len(kept)}
                | scores
            )
            tables.append(_predictions(samples, errors, kept, probabilities, classes, fold, name))
            if pair.group:
                groups += _groups(rows[-1], guess, truth, [samples.groups[i] for i in kept], len(classes))
            if name == prompts[-1]:
                matrix += np.array(
                    metrics.load("confusion").compute(predictions=guess, references=truth, num_classes=len(classes))[
                        "confusion"
                    ]
                )
        seconds = time.perf_counter() - start
        for row in rows[-len(prompts) :]:
            row |= {"skipped": len(samples) - len(kept), "chance_uar": 100 / len(classes), "seconds": round(seconds, 2)}
            row |= {"transformers": transformers.__version__, "torch": torch.__version__}
    if rank():
        return
    if len(folds) > 1:
        rows += [_mean([row for row in rows if row["prompt_set"] == name]) for name in prompts]
    folder = pair.folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "predictions.parquet") as part:
        pq.write_table(pa.concat_tables(tables), part)
    with whole_file(folder / f"confusion-{prompts[-1]}.png") as part:
        confusion_matrix(matrix, classes, f"{pair.name} on {pair.benchmark}, {prompts[-1]}", part)
    write_json(
        folder / _DONE,
        {"request": pair.request(prompts, dtype), "classes": classes, "rows": rows, "groups": groups},
    )


def _features(
    title: str, samples: Samples, model: ZeroShotModel, classes: Sequence[str], batch_size: int, benchmark: str
) -> tuple[torch.Tensor, list[str | None]]:
    """Features of the samples that can be read and have a candidate's label, in order, and for each sample its error or None."""
    mine = range(rank(), len(samples), world_size())
    errors: dict[int, str] = {}
    found: dict[int, torch.Tensor] = {}
    bar = tqdm(total=len(mine), desc=title, unit=" samples", disable=rank() > 0)
    for start in range(0, len(mine), batch_size):
        rows = list(mine[start : start + batch_size])
        frames = {}
        for row in rows:
            if samples.labels[row] not in classes:
                errors[row] = f"labelled {samples.labels[row]}, which is no candidate"
                continue
            try:
                frames[row] = samples.frames(row)
            except MemoryError:
                raise
            except Exception as error:  # decoders raise many kinds on damaged files; the row keeps its reason
                errors[row] = f"{type(error).__name__}: {error}"
        if frames:
            clips = BENCHMARKS[benchmark].dynamic if benchmark in BENCHMARKS else max(map(len, frames.values())) > 1
            images = list(frames.values())
            features = model.video_features(images) if clips else model.image_features([image for image, *_ in images])
            found |= dict(zip(frames, features))
        bar.update(len(rows))
    bar.close()
    if world_size() > 1:
        found, errors = _gathered(found, errors)
    ordered = [found[row] for row in sorted(found)]
    return torch.stack(ordered) if ordered else torch.empty(0), [errors.get(row) for row in range(len(samples))]


def _gathered(found: dict[int, torch.Tensor], errors: dict[int, str]) -> tuple[dict[int, torch.Tensor], dict[int, str]]:
    """Features and errors of all processes. Features are views, each of which would be sent with its whole batch, so they go as one tensor."""
    shared: list[Any] = [None] * world_size()
    dist.all_gather_object(shared, (list(found), torch.stack(list(found.values())) if found else (), errors))
    found = {row: feature for rows, features, _ in shared for row, feature in zip(rows, features)}
    return found, {row: error for _, _, part in shared for row, error in part.items()}


def _scores(guess: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, float]:
    around = intervals(guess, truth, classes)
    scores = {name: metrics.load(name).compute(predictions=guess, references=truth)[name] for name in ("uar", "war")}
    return scores | {
        f"{name}_{end}": value for name in ("uar", "war") for end, value in zip(("low", "high"), around[name])
    }


def _mean(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over folds, as the paper reports; folds have no common sample, so no interval is given."""
    mean = {
        **folds[0],
        "fold": "mean",
    }
    mean |= {name: sum(row[name] for row in folds) for name in ("n", "skipped", "seconds")}
    mean |= {name: sum(row[name] for row in folds) / len(folds) for name in ("uar", "war")}
    return mean | dict.fromkeys(("uar_low", "uar_high", "war_low", "war_high"))


def _groups(
    row: dict[str, Any], guess: np.ndarray, truth: np.ndarray, groups: list[str | None], classes: int
) -> list[dict[str, Any]]:
    """UAR of each group of people, with its interval, and how far it is below the best group."""
    found = []
    for name in sorted({group for group in groups if group is not None}):
        own = np.array([group == name for group in groups])
        score = _scores(guess[own], truth[own], classes)
        found.append(
            {key: row[key] for key in ("model", "benchmark", "fold", "prompt_set")}
            | {"group": name, "n": int(own.sum())}
            | score
        )
    best = max((entry["uar"] for entry in found), default=0.0)
    return [entry | {"gap": best - entry["uar"]} for entry in found]


def _predictions(
    samples: Samples,
    errors: list[str | None],
    kept: list[int],
    probabilities: np.ndarray,
    classes: Sequence[str],
    fold: str,
    prompts: str,
) -> pa.Table:
    full = np.full((len(samples), len(classes)), np.nan)
    full[kept] = probabilities
    guess = [None if error is not None else classes[int(row.argmax())] for error, row in zip(errors, full)]
    columns = {
        "id": pa.array(samples.ids, pa.string()),
        "fold": pa.array([fold] * len(samples)),
        "prompt_set": pa.array([prompts] * len(samples)),
        "truth": pa.array(samples.labels, pa.string()),
        "guess": pa.array(guess, pa.string()),
        "error": pa.array(errors, pa.string()),
    }
    columns |= {f"p_{name}": pa.array(full[:, i], mask=np.isnan(full[:, i])) for i, name in enumerate(classes)}
    return pa.table(columns)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in row.items()}
