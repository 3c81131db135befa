"""Labelled images and clips for evaluation: a benchmark's data on disk becomes samples with frames,
a class and a group.

In: ``[LAYOUT=]PATH`` as ``data/faces.py`` takes it. Out: one ``Samples`` a fold; frames are decoded
on access, so a data set of any size costs the memory of its names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from PIL import Image

from modeling_expclip.media.video import clip_indices
from modeling_expclip.prompts import LABEL_SETS, canonical_label

from ..data.faces import NoFaceError, find_face, image_bytes, load_faces, read_image
from ..data.layouts import Entry, find_entries, split_layout
from ..data.parts import part_of, refuse_several_parts


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
    "ferplus": Benchmark("ferplus-test"),
    "dfew": Benchmark("clips", dynamic=True, folds=5),
    "mafw": Benchmark("clips", dynamic=True, folds=5),
    "ferv39k": Benchmark("clips", dynamic=True),
    "afew": Benchmark("clips", dynamic=True),
}


class Samples:
    """Images or clips with their class's name; ``groups`` is what people noted of each sample (an
    age group, say), or None. ``short_clips`` is the rule for short clips (see ``clip_indices``),
    None where samples are images. ``crop``: ``detect``, ``yunet`` or ``mtcnn`` to find the largest
    face of each image, None to take images as they are."""

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[str],
        groups: Sequence[str | None],
        source: Dataset | list[Entry],
        short_clips: str | None = None,
        crop: str | None = None,
    ):
        self.ids, self.labels, self.groups = list(ids), list(labels), list(groups)
        self.short_clips, self.crop, self._source = short_clips, crop, source

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def frames_differ(self) -> int:
        """How many clips have another number of frames than their annotation list says."""
        if isinstance(self._source, Dataset):
            return 0
        return sum(entry.listed not in (None, len(entry.frames)) for entry in self._source)

    def frames(self, row: int) -> list[Image.Image]:
        """The sample's image, or the paper's 16 frames of its clip, RGB; with ``crop`` the faces,
        of frames that show one. Raises OSError or ValueError for what cannot be read, NoFaceError
        where no face is found."""
        images = self._images(row)
        return images if self.crop is None else _faces_of(images, self.crop)

    def first_images(self) -> Iterator[Image.Image]:
        """The first image of each sample that can be read."""
        for row in range(len(self)):
            try:
                yield self._images(row)[0]
            except (OSError, ValueError):  # the run itself says so
                continue

    def _images(self, row: int) -> list[Image.Image]:
        if isinstance(self._source, Dataset):
            return [read_image(image_bytes(self._source[row]))]
        files = self._source[row].frames
        chosen = clip_indices(len(files), self.short_clips) if self.short_clips else [0]
        images = {i: read_image(files[i].read_bytes()) for i in dict.fromkeys(chosen)}
        return [images[i] for i in chosen]

    def digest(self) -> str:
        """Identifies the data: sha256 of ids, labels, groups and the content of every image, or of
        a clip's 16 frames."""
        return self._hash(_content)

    def stamp(self) -> str:
        """As ``digest``, from sizes and times of files instead of their content: the same stamp,
        the same data."""
        return self._hash(_size_and_time)

    def _hash(self, of: Callable[[Path], bytes]) -> str:
        digest = hashlib.sha256()
        for row, about in enumerate(zip(self.ids, self.labels, self.groups)):
            digest.update(json.dumps(about).encode())
            for part in self._parts(row):
                digest.update(hashlib.sha256(of(part) if isinstance(part, Path) else part).digest())
        return f"sha256 {digest.hexdigest()}"

    def _parts(self, row: int) -> Iterator[Path | bytes]:
        """What a sample is made of: files, or the bytes that a table holds."""
        if isinstance(self._source, Dataset):
            image = self._source[row]["image"] or {"bytes": None, "path": None}
            yield Path(image["path"]) if image["bytes"] is None and image["path"] else image["bytes"] or b""
            return
        files = self._source[row].frames
        yield str(len(files)).encode()
        yield from (files[i] for i in dict.fromkeys(clip_indices(len(files))))  # of a short clip all, whatever its rule


def _faces_of(images: list[Image.Image], crop: str) -> list[Image.Image]:
    faces, found = [], {}  # a short clip shows one image more than once
    for image in images:
        if id(image) not in found:
            try:
                found[id(image)] = find_face(image, crop)[0]
            except NoFaceError:
                found[id(image)] = None
        if found[id(image)] is not None:
            faces.append(found[id(image)])
    if not faces:
        raise NoFaceError("no face found")
    return faces


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:  # its row says so, too
        return type(error).__name__.encode()


def _size_and_time(file: Path) -> bytes:
    try:
        found = file.stat()
    except OSError as error:
        return type(error).__name__.encode()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()  # the last cannot be set by hand


def load_samples(
    name: str,
    source: str,
    classes: Sequence[str] | None,
    group: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    frames_root: str | None = None,
    short_clips: str | None = None,
    crop: str | None = None,
) -> dict[str, Samples]:
    """The folds of a benchmark's data, by name ("all" where there is one).

    Args:
        name: one of BENCHMARKS, or any other name for data of one's own.
        source: ``[LAYOUT=]PATH``; also a folder of annotation lists for a benchmark of clips, of
            five folds as ``*set_1*.txt`` to ``*set_5*.txt``.
        classes: the candidates, in the paper's or the data's own words; None takes the data's own classes.
        group: a column of Parquet data.
        class_names: what labels that are numbers mean, from 0.
        frames_root: the folder in which the clips of annotation lists lie, where the lists name
            them on another machine.
        crop: ``detect``, ``yunet``, ``mtcnn`` or None, see ``Samples``.
        short_clips: ``paper`` or ``uniform``, see ``clip_indices``; None is ``paper`` for
            BENCHMARKS, ``uniform`` for others.

    Raises FileNotFoundError or ValueError for data that is not as it should be: several parts of a
    data set in one folder, or a label that is neither one of ``classes`` nor one of the paper's,
    naming the first sample that has it.
    """
    benchmark = BENCHMARKS.get(name, Benchmark(None))
    layout, path = split_layout(source)
    folder = Path(path)

    def candidates(labels: Sequence[str], where: Sequence[str]) -> list[str]:
        return [_class_of(_named(own, class_names, classes, at), classes, at) for own, at in zip(labels, where)]

    def from_entries(path: Path, layout: str) -> Samples:
        entries = find_entries(path, layout, Path(frames_root) if frames_root else None)
        where = [f"{path}: {entry.id}" for entry in entries]
        unlabelled = next((at for entry, at in zip(entries, where) if entry.label is None), None)
        if unlabelled:
            raise ValueError(f"{unlabelled} has no label")
        labels = candidates([entry.label for entry in entries], where)
        clips = benchmark.dynamic if name in BENCHMARKS else any(len(entry.frames) > 1 for entry in entries)
        rule = short_clips or ("paper" if name in BENCHMARKS else "uniform")
        return Samples(
            [entry.id for entry in entries], labels, [None] * len(entries), entries, rule if clips else None, crop
        )

    if not layout and benchmark.dynamic and folder.is_dir() and (lists := _lists(folder, name, benchmark.folds)):
        return {fold: from_entries(file, "list") for fold, file in lists.items()}
    if layout == "list" or (not layout and folder.suffix == ".txt"):
        return {"all": from_entries(folder, "list")}
    if frames_root:
        raise ValueError(f"{path} is no annotation list; leave the frames root of {name} out")
    if folder.is_dir():
        refuse_several_parts(folder, name)
    if layout == "clips" or (not layout and benchmark.layout == "clips" and folder.is_dir()):
        return {"all": from_entries(folder, "clips")}
    if not layout and benchmark.layout and folder.is_dir() and not any(folder.glob("*.parquet")):
        source = f"{benchmark.layout}={path}"
    faces = load_faces([source], labels="own", columns=[group] if group else [])
    labels = candidates(faces["label"], [f"{path}: {row}" for row in faces["id"]])
    groups = [None if value is None else str(value) for value in faces[group]] if group else [None] * len(faces)
    return {"all": Samples(faces["id"], labels, groups, faces.select_columns(["image"]), crop=crop)}


def _lists(folder: Path, benchmark: str, folds: int) -> dict[str, Path]:
    """A benchmark's annotation lists, by fold, in a folder that may hold other benchmarks' too;
    none in a folder of clips."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
    named = {file: {name for name in BENCHMARKS if name in _letters(file.stem)} for file in files}
    own = [file for file, names in named.items() if benchmark in names]
    if folds > 1:
        own = own or [file for file, names in named.items() if not names]
    lists = {}
    for fold in [str(number) for number in range(1, folds + 1)] if folds > 1 else ["all"]:
        found = own if folds == 1 else [f for f in own if re.search(rf"set_?{fold}(?![0-9])", f.stem, re.IGNORECASE)]
        found = [file for file in found if part_of(file.stem) != "train"]
        found = [file for file in found if part_of(file.stem) == "test"] or found
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ValueError(
                f"{folder} has several lists of {f'fold {fold} of ' if folds > 1 else ''}{benchmark}: {names}; leave one there"
            )
        if found:
            lists[fold] = found[0]
    if lists and len(lists) < folds:
        raise FileNotFoundError(f"{folder} has lists of the folds {', '.join(lists)} only; {folds} are needed")
    return lists


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _named(label: str, class_names: Sequence[str] | None, classes: Sequence[str] | None, where: str) -> str:
    """What a label that is a number means; any other is itself."""
    if not re.fullmatch("-?[0-9]+", label) or label in (classes or ()):
        return label
    if not class_names:
        raise ValueError(
            f"{where} is labelled {label}, a number without a name; say with --class-names what 0, 1 ... mean"
        )
    if not 0 <= int(label) < len(class_names):
        raise ValueError(
            f"{where}: label {label} is beyond the {len(class_names)} class names {', '.join(class_names)}"
        )
    return class_names[int(label)]


def _class_of(label: str, classes: Sequence[str] | None, where: str) -> str:
    """The candidate a data set's label means: itself, or the paper's name for it. One of the
    paper's classes that is no candidate (contempt among seven) is returned as it is; its samples
    are listed and not scored."""
    if classes is None or label in classes:
        return label
    if not set(classes) <= {*LABEL_SETS["mafw"]}:
        raise ValueError(f"{where} is labelled {label!r}, which is none of the candidates {', '.join(classes)}")
    try:
        return canonical_label(label)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
