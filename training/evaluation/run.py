"""Zero-shot evaluation of models on benchmarks: features once per model and data set, then every
prompt set; evidence is kept.

    OUTPUT/results.csv                            one row a model, benchmark, fold and prompt set
    OUTPUT/differences.csv                        of each two models on the same data, with intervals
    OUTPUT/classes.csv                            recall of each class
    OUTPUT/groups.csv                             one row a group of people, with --group
    OUTPUT/MODEL/BENCHMARK/predictions.parquet    every sample: true class, probabilities, or why it has none
    OUTPUT/MODEL/BENCHMARK/rows.json              the pair's rows of results.csv; there once the pair is done

A pair of model and benchmark that is done is not run again; one whose weights, data or settings are
others now is refused. Under torchrun each process embeds its share of the samples.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
import transformers
from tqdm import tqdm

from modeling_expclip.system.files import read_json, whole_file, write_csv, write_json

from ..data.faces import crop_in_use, warn_of_scenes
from ..data.read_ahead import read_ahead
from ..support.plots import confusion_matrix
from ..support.processes import rank, world_size
from . import comparison
from .adapters import ZeroShotModel, load_zero_shot_model, weights_of
from .metrics.recall import confusion
from .predictions import predictions_table
from .samples import Samples, load_samples
from .scores import CLASS_COLUMNS, class_recalls, interval_columns, mean_of_folds, of_groups, score_columns, scores

COLUMNS = (
    "model", "benchmark", "fold", "prompt_set", "n", "uar", "war", "uar_low", "uar_high", "war_low", "war_high",
    "skipped", "chance_uar", "seconds", "transformers", "torch", "short_clips", "frames_differ", "crop", "model_source", "weights",
    "data_source", "data", "expclip", "pillow",
)  # fmt: skip

_PREDICTIONS, _DONE = "predictions.parquet", "rows.json"  # the latter written last


class Results(NamedTuple):
    """Rows of results.csv, groups.csv and differences.csv."""

    rows: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    differences: list[dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """A model and a data set to evaluate it on; see ``load_samples``. ``classes`` None: the data's
    own. ``min_samples`` above 1 adds a UAR of the classes with so many samples, beside that of the
    classes that occur."""

    name: str
    model: str
    benchmark: str
    source: str
    classes: tuple[str, ...] | None
    group: str | None = None
    class_names: tuple[str, ...] | None = None
    frames_root: str | None = None
    short_clips: str | None = None
    crop: str | None = None
    min_samples: int = 1

    def folder(self, output: Path) -> Path:
        return output / folder_name(self.name) / self.benchmark

    def request(self, prompts: Sequence[str], dtype: str) -> dict[str, Any]:
        """What the results depend on besides weights and data, to tell a finished pair from another
        request of the same name."""
        return {
            "model": self.model,
            "source": self.source,
            "classes": list(self.classes) if self.classes else None,
            "group": self.group,
            "class_names": list(self.class_names) if self.class_names else None,
            "frames_root": self.frames_root,
            "short_clips": self.short_clips,
            "crop": crop_in_use(self.crop),
            "min_samples": self.min_samples,
            "prompts": list(prompts),
            "dtype": dtype,
        }

    def load(self) -> dict[str, Samples]:
        return load_samples(
            self.benchmark, self.source, self.classes, self.group,
            class_names=self.class_names, frames_root=self.frames_root, short_clips=self.short_clips,
            crop=self.crop,
        )  # fmt: skip


def folder_name(model: str) -> str:
    """Where results of a model are, below the output."""
    return model.replace(" ", "-")


def columns_of(min_samples: int) -> tuple[str, ...]:
    """Columns of results.csv."""
    return tuple(dict.fromkeys([*COLUMNS, *score_columns(min_samples), *interval_columns(min_samples)]))


def evaluate(pairs: Sequence[Pair], prompts: Sequence[str], output: Path, *, batch_size: int, dtype: str) -> Results:
    """Runs the pairs that are not done and writes the tables; of processes other than the first,
    all are empty.

    Raises ValueError when ``output`` holds the pair with other settings, weights or data, or the
    data cannot be what the benchmark says.
    """
    for pair in pairs:
        crop_in_use(pair.crop)  # where it cannot be had, that is no reason to leave every sample out
    loaded: dict[Pair, dict[str, Samples]] = {}

    def folds_of(pair: Pair) -> dict[str, Samples]:
        same = replace(pair, name="", model="")
        if same not in loaded:
            loaded[same] = pair.load()
            if pair.crop is None:
                warn_of_scenes(
                    next(iter(loaded[same].values())).first_images(), pair.source, "--crop detect finds the faces"
                )
        return loaded[same]

    weights = {model: weights_of(model) for model in dict.fromkeys(pair.model for pair in pairs)}
    pending = []
    for pair in pairs:
        folds = folds_of(pair)
        _check_counts(pair, folds)
        if not _is_done(pair, output, pair.request(prompts, dtype), weights[pair.model], folds):
            pending.append(pair)
    if pending and world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    model, at_hand = None, None
    for pair in pending:
        if at_hand != pair.model:
            model, at_hand = load_zero_shot_model(pair.model, dtype=dtype), pair.model
        _run(pair, folds_of(pair), model, prompts, output, batch_size, dtype, weights[pair.model])
    if rank():
        return Results([], [], [])
    done = [_done(pair.folder(output)) for pair in pairs]
    rows, groups = ([row for each in done for row in each[name]] for name in ("rows", "groups"))
    scored = [(each["rows"][0], pair.folder(output) / _PREDICTIONS) for each, pair in zip(done, pairs)]
    compared = comparison.compare(scored, pairs[0].min_samples)
    min_samples = pairs[0].min_samples
    write_csv(output / "results.csv", map(_rounded, rows), columns_of(min_samples))
    write_csv(output / "classes.csv", map(_rounded, class_recalls(scored)), CLASS_COLUMNS)
    for name, table, columns in (
        ("groups.csv", groups, tuple(groups[0]) if groups else ()),
        ("differences.csv", compared, comparison.columns_of(min_samples)),
    ):
        if table:
            write_csv(output / name, map(_rounded, table), columns)
        else:
            (output / name).unlink(missing_ok=True)  # an earlier run's, of other models or data than results.csv
    return Results(rows, groups, compared)


def _check_counts(pair: Pair, folds: dict[str, Samples]) -> None:
    """Raises ValueError before anything is computed where no class has ``min_samples``."""
    for fold, samples in folds.items():
        known = [label for label in samples.labels if not pair.classes or label in pair.classes]
        largest = max(map(known.count, {*known}), default=pair.min_samples)  # without any, the run says why
        if largest < pair.min_samples:
            raise ValueError(
                f"{pair.source}, fold {fold}: no class has {pair.min_samples} samples, the largest has {largest}; lower --min-samples"
            )


def _is_done(pair: Pair, output: Path, request: dict[str, Any], weights: str, folds: dict[str, Samples]) -> bool:
    folder = pair.folder(output)
    if not all((folder / name).exists() for name in (_DONE, _PREDICTIONS)):
        return False
    found = _done(folder)
    changed = [name for name in request if found["request"].get(name) != request[name]]
    if found["weights"] != weights:
        changed.append(f"content of the model {pair.model} (it was {found['weights']:.19}, it is {weights:.19})")
    if (
        not changed
        and found["stamp"] != _of_all(folds, Samples.stamp)
        and found["data"] != (data := _of_all(folds, Samples.digest))
    ):
        changed.append(f"content of the data {pair.source} (it was {found['data']:.19}, it is {data:.19})")
    if changed:
        raise ValueError(
            f"{folder} was made with another {', '.join(changed)}; choose another --output, or remove that folder"
        )
    return True


def _of_all(folds: dict[str, Samples], of: Callable[[Samples], str]) -> str:
    """What identifies the data of all folds, from what identifies that of each."""
    found = [f"{fold} {of(samples)}" for fold, samples in folds.items()]
    return f"sha256 {hashlib.sha256(repr(found).encode()).hexdigest()}"


def _own_version() -> str:
    try:
        return version("expclip")
    except PackageNotFoundError:  # training runs from a clone
        return "not installed"


def _done(folder: Path) -> dict[str, Any]:
    """What a finished pair came to. Raises ValueError for a file that this did not write."""
    remedy = "remove it, and this pair is run again"
    found = read_json(folder / _DONE, remedy)
    kinds = {"request": dict, "rows": list, "groups": list}
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{folder / _DONE} does not hold {', '.join(kinds)}; {remedy}")
    if not all(isinstance(found.get(name), str) for name in ("weights", "data", "stamp")):
        raise ValueError(
            f"{folder / _DONE} does not say which weights and data it was made with, as version 0.1 did not; {remedy}"
        )
    min_samples = found["request"].get("min_samples")
    columns = {*columns_of(min_samples if isinstance(min_samples, int) else 1)}
    if not found["rows"] or not all(isinstance(row, dict) and {*row} == columns for row in found["rows"]):
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
    weights: str,
) -> None:
    # The stamp first: what changes after it shows in the next run's.
    stamp, data = ("", "") if rank() else (_of_all(folds, Samples.stamp), _of_all(folds, Samples.digest))
    traced = {
        "model_source": pair.model, "weights": weights, "data_source": pair.source, "data": data,
        "transformers": transformers.__version__, "torch": torch.__version__, "expclip": _own_version(), "pillow": PIL.__version__,
    }  # fmt: skip
    classes = pair.classes or tuple(sorted({label for samples in folds.values() for label in samples.labels}))
    rows, tables, groups = [], [], []
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for fold, samples in folds.items():
        start = time.perf_counter()
        features, errors = _features(f"{pair.name} {pair.benchmark}", samples, model, classes, batch_size)
        if rank():
            continue
        kept = [i for i, error in enumerate(errors) if error is None]
        if not kept:
            raise ValueError(
                f"{pair.source}, fold {fold}: none of its {len(samples)} samples could be scored; the first: {errors[0]}"
            )
        references = np.array([classes.index(samples.labels[i]) for i in kept])
        for name in prompts:
            logits = torch.cat([model.logits(part, classes, name) for part in features.split(1024)])  # (n, classes)
            probabilities = logits.softmax(-1).numpy()
            predictions = probabilities.argmax(1)
            about = {"model": pair.name, "benchmark": pair.benchmark, "fold": fold, "prompt_set": name, "n": len(kept)}
            rows.append(about | scores(predictions, references, len(classes), pair.min_samples))
            tables.append(predictions_table(samples, errors, probabilities, classes, fold, name))
            if pair.group:
                people = [samples.groups[i] for i in kept]
                groups += of_groups(about, predictions, references, people, len(classes), pair.min_samples)
            if name == prompts[-1]:
                matrix += confusion(predictions, references, len(classes))
        seconds = time.perf_counter() - start
        for row in rows[-len(prompts) :]:
            row |= {"skipped": len(samples) - len(kept), "chance_uar": 100 / len(classes), "seconds": round(seconds, 2)}
            row |= {"short_clips": samples.short_clips or "", "frames_differ": samples.frames_differ}
            row |= {"crop": crop_in_use(samples.crop) or "", **traced}
    if rank():
        return
    if len(folds) > 1:
        rows += [
            mean_of_folds([row for row in rows if row["prompt_set"] == name], pair.min_samples) for name in prompts
        ]
    folder = pair.folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / _PREDICTIONS) as part:
        pq.write_table(pa.concat_tables(tables), part)
    title, plot = f"{pair.name} on {pair.benchmark}, {prompts[-1]}", folder / f"confusion-{prompts[-1]}.png"
    confusion_matrix(matrix, classes, title, plot)
    content = {"weights": weights, "data": data, "stamp": stamp, "request": pair.request(prompts, dtype)}
    write_json(folder / _DONE, content | {"classes": classes, "rows": rows, "groups": groups})


def _features(
    title: str, samples: Samples, model: ZeroShotModel, classes: Sequence[str], batch_size: int
) -> tuple[torch.Tensor, list[str | None]]:
    """Features of the samples that can be read and have a candidate's label, in order, and for each
    sample its error or None."""
    mine = range(rank(), len(samples), world_size())
    errors: dict[int, str] = {}
    found: dict[int, torch.Tensor] = {}
    bar = tqdm(total=len(mine), desc=title, unit=" samples", disable=rank() > 0)
    clips = samples.short_clips is not None

    def read(row: int) -> list[PIL.Image.Image] | str:
        """The sample's frames, or why it has none."""
        if samples.labels[row] not in classes:
            return f"labelled {samples.labels[row]}, which is no candidate"
        try:
            return samples.frames(row)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged files; the row keeps its reason
            return f"{type(error).__name__}: {error}"

    batches = [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]
    for rows, contents in read_ahead(read, batches):
        errors |= {row: content for row, content in zip(rows, contents) if isinstance(content, str)}
        frames = {row: content for row, content in zip(rows, contents) if not isinstance(content, str)}
        if frames:
            images = list(frames.values())
            features = model.video_features(images) if clips else model.image_features([image for (image,) in images])
            found |= dict(zip(frames, features))
        bar.update(len(rows))
    bar.close()
    if world_size() > 1:
        found, errors = _gathered(found, errors)
    ordered = [found[row] for row in sorted(found)]
    return torch.stack(ordered) if ordered else torch.empty(0), [errors.get(row) for row in range(len(samples))]


def _gathered(found: dict[int, torch.Tensor], errors: dict[int, str]) -> tuple[dict[int, torch.Tensor], dict[int, str]]:
    """Features and errors of all processes. Features are views, each of which would be sent with
    its whole batch, so they go as one tensor."""
    shared: list[Any] = [None] * world_size()
    dist.all_gather_object(shared, (list(found), torch.stack(list(found.values())) if found else (), errors))
    found = {row: feature for rows, features, _ in shared for row, feature in zip(rows, features)}
    return found, {row: error for _, _, part in shared for row, error in part.items()}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in row.items()}
