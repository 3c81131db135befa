"""Labelled images and clips for evaluation: a benchmark's data on disk becomes samples with frames, a class and a group.

In: ``[LAYOUT=]PATH`` as ``data.py`` takes it. Out: one ``Samples`` a fold; frames are decoded when they are asked for, so a data set of any
size costs the memory of its names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from PIL import Image

from modeling_expclip.prompts import LABEL_SETS, canonical_label
from training.data import image_bytes, load_faces, read_image, sample_frames
from training.layouts import Entry, find_entries, split_layout

FRAMES = 16  # of a clip, as in the paper


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark's data lies on disk: clips or single images, in how many folds."""

    layout: str | None
    dynamic: bool = False
    folds: int = 1


BENCHMARKS = {
    "rafdb": Benchmark("rafdb-test"),
    "affectnet7": Benchmark("affectnet7"),
    "affectnet8": Benchmark("affectnet8"),
    "ferplus": Benchmark("ferplus"),
    "dfew": Benchmark("clips", dynamic=True, folds=5),
    "mafw": Benchmark("clips", dynamic=True, folds=5),
    "ferv39k": Benchmark("clips", dynamic=True),
    "afew": Benchmark("clips", dynamic=True),
}


class Samples:
    """Images or clips with their class's name; ``group`` is what people noted of a sample (an age group, say), or None."""

    def __init__(
        self, ids: Sequence[str], labels: Sequence[str], groups: Sequence[str | None], source: Dataset | list[Entry]
    ):
        self.ids, self.labels, self.groups, self._source = list(ids), list(labels), list(groups), source

    def __len__(self) -> int:
        return len(self.ids)

    def frames(self, row: int) -> list[Image.Image]:
        """The sample's image, or up to FRAMES of its clip's frames, RGB. Raises OSError or ValueError for what cannot be read."""
        if isinstance(self._source, Dataset):
            return [read_image(image_bytes(self._source[row]))]
        files = self._source[row].frames
        return [read_image(files[i].read_bytes()) for i in sample_frames(len(files), FRAMES)]


def load_samples(name: str, source: str, classes: Sequence[str] | None, group: str | None = None) -> dict[str, Samples]:
    """The folds of a benchmark's data, by name ("all" where there is one).

    Args:
        name: one of BENCHMARKS, or any other name for data of one's own.
        source: ``[LAYOUT=]PATH``; a folder with lists ``*set_1*.txt`` to ``*set_5*.txt`` for a benchmark of five folds.
        classes: the candidates, in the paper's or the data's own words; None takes the data's own classes.
        group: a column of Parquet data.

    Raises ValueError for a label that is neither one of ``classes`` nor one of the paper's, naming the first sample that has it.
    """
    benchmark = BENCHMARKS.get(name, Benchmark(None))
    layout, path = split_layout(source)
    lists = _fold_lists(Path(path), benchmark.folds) if benchmark.folds > 1 and not layout else {}
    if lists:
        return {fold: _from_entries(find_entries(file, "list"), classes, file) for fold, file in lists.items()}
    folder = Path(path)
    if (
        layout in ("clips", "list")
        or folder.suffix == ".txt"
        or (not layout and benchmark.layout == "clips" and folder.is_dir())
    ):
        entries = find_entries(folder, layout or ("list" if folder.suffix == ".txt" else "clips"))
        return {"all": _from_entries(entries, classes, folder)}
    if not layout and benchmark.layout and folder.is_dir() and not any(folder.glob("*.parquet")):
        source = f"{benchmark.layout}={path}"
    faces = load_faces([source], labels="own", columns=[group] if group else [])
    labels = [_class_of(label, classes, f"{path}: {name}") for label, name in zip(faces["label"], faces["id"])]
    groups = [None if value is None else str(value) for value in faces[group]] if group else [None] * len(faces)
    return {"all": Samples(faces["id"], labels, groups, faces.select_columns(["image"]))}


def _fold_lists(folder: Path, folds: int) -> dict[str, Path]:
    lists = {}
    for fold in range(1, folds + 1):
        found = sorted(folder.glob(f"*set_{fold}*.txt")) if folder.is_dir() else []
        if len(found) > 1:
            raise ValueError(f"{folder} has several lists of fold {fold}: {', '.join(file.name for file in found)}")
        if found:
            lists[str(fold)] = found[0]
    if lists and len(lists) < folds:
        raise FileNotFoundError(f"{folder} has lists of the folds {', '.join(lists)} only; {folds} are needed")
    return lists


def _from_entries(entries: list[Entry], classes: Sequence[str] | None, path: Path) -> Samples:
    labels = []
    for entry in entries:
        where = f"{path}: {entry.id}"
        if entry.label is None:
            raise ValueError(f"{where} has no label")
        labels.append(_class_of(entry.label, classes, where))
    return Samples([entry.id for entry in entries], labels, [None] * len(entries), entries)


def _class_of(label: str, classes: Sequence[str] | None, where: str) -> str:
    """The candidate a data set's label means: itself, or the paper's name for it. One of the paper's classes that is no candidate (contempt
    among seven) is returned as it is; its samples are listed and not scored."""
    if classes is None or label in classes:
        return label
    if not set(classes) <= {*LABEL_SETS["mafw"]}:
        raise ValueError(f"{where} is labelled {label!r}, which is none of the candidates {', '.join(classes)}")
    try:
        return canonical_label(label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
