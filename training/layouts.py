"""Face data sets as people have them on disk: a folder or a list becomes one entry an image, or one a clip of video.

In: a path and the name of its layout. Out: entries (id, frames, label), where the label is the data set's own word or
number turned into a word; ``data.py`` makes a ``datasets`` table of them.
"""

from __future__ import annotations

import codecs
import csv
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from modeling_expclip.processing_expclip import image_endings
from modeling_expclip.prompts import LABEL_SETS

# Class numbers as published; index in the tuple is the number.
RAFDB = (None, "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
FERPLUS_VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", None, None)


@dataclass(frozen=True)
class Entry:
    """One image (one frame) or one clip: ``id`` is its path below the data set's root, ``frames`` are in order."""

    id: str
    frames: tuple[Path, ...]
    label: str | None


def split_layout(source: str) -> tuple[str | None, str]:
    """``LAYOUT=PATH`` -> both; any other text, which may hold an equals sign too, is a path."""
    layout, equals, path = source.partition("=")
    return (layout, path) if equals and layout in LAYOUTS else (None, source)


def find_entries(path: Path, layout: str) -> list[Entry]:
    """Reads ``path`` in one of LAYOUTS. Raises FileNotFoundError or ValueError naming what is not as the layout says."""
    if not path.exists():
        raise FileNotFoundError(f"no face data at {path}")
    entries = list(LAYOUTS[layout](path))
    if not entries:
        raise FileNotFoundError(f"no images below {path} (read as layout {layout!r})")
    return entries


def _images(folder: Path) -> list[Path]:
    """All image files below ``folder``, hidden ones left out, sorted so that frame 2 comes before frame 10."""
    endings = image_endings()
    found, visited = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(root)) in visited:  # a link that leads back
            folders[:] = []
            continue
        visited.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in files if Path(name).suffix.lower() in endings and name[0] != "."]
    for path in found:
        try:
            path.as_posix().encode()
        except UnicodeEncodeError:
            raise ValueError(f"{os.fsencode(path)!r}: the name is not UTF-8, which ids have to be; rename it") from None
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts)], path.as_posix()


def _folders(root: Path) -> Iterator[Entry]:
    """Images in folders named after their class (CAER-S and most others), or in any folders when labels are not wanted."""
    for image in _images(root):
        below = image.relative_to(root)
        yield Entry(below.as_posix(), (image,), below.parent.name or None)


def _numbered(root: Path, names: tuple[str | None, ...]) -> Iterator[Entry]:
    """Images in folders called by class numbers."""
    for entry in _folders(root):
        yield Entry(entry.id, entry.frames, _class_of(entry.label, names))


def _class_of(number: str | None, names: tuple[str | None, ...]) -> str | None:
    """The class of a number. An unknown number stays as it is: who reads labels will name it, who does not is not stopped by it."""
    known = {str(place): name for place, name in enumerate(names)}
    return known.get(number.lstrip("0") or "0" if number else "") or number


def _rafdb(root: Path, part: str = "") -> Iterator[Entry]:
    """RAF-DB: folders 1 to 7, or the basic set's ``EmoLabel/list_patition_label.txt`` beside ``Image/aligned``, whose file names begin
    with the ``part`` they belong to."""
    table = root / "EmoLabel" / "list_patition_label.txt"
    if not table.is_file():
        yield from _numbered(root, RAFDB)
        return
    if not part:
        raise ValueError(
            f"{table} lists training and test faces together; choose rafdb-train={root} or rafdb-test={root}"
        )
    for where, line in _lines(table):
        name, number, *more = [*line.split(), "", ""]
        if not number or any(more) or not name.startswith(("train", "test")):
            raise ValueError(f"{where}: expected `train_00001.jpg 5` or `test_0001.jpg 5`, got {line!r:.80}")
        image = root / "Image" / "aligned" / f"{Path(name).stem}_aligned.jpg"
        if name.startswith(part):
            yield Entry(image.relative_to(root).as_posix(), (image,), _class_of(number, RAFDB))


def _affectnet(root: Path) -> Iterator[Entry]:
    """AffectNet: ``images/*`` with ``annotations/*_exp.npy``, or folders 0 to 7."""
    if not (root / "annotations").is_dir():
        yield from _numbered(root, AFFECTNET)
        return
    for image in _images(root / "images"):
        annotation = root / "annotations" / f"{image.stem}_exp.npy"
        try:
            number = str(np.load(annotation, allow_pickle=False).item())
        except OSError:
            raise
        except Exception as error:  # numpy raises many kinds on damaged files
            raise ValueError(f"{annotation}: expected the number of a class, {type(error).__name__}: {error}") from None
        yield Entry(image.relative_to(root).as_posix(), (image,), _class_of(number, AFFECTNET))


def _affectnet7(root: Path) -> Iterator[Entry]:
    """AffectNet without contempt."""
    return (entry for entry in _affectnet(root) if entry.label != "contempt")


def _ferplus(root: Path) -> Iterator[Entry]:
    """FERPlus: folders with a ``label.csv`` of ten votes an image (most votes win; "unknown" and "no face" are left out),
    or folders named after the classes."""
    tables = sorted(root.rglob("label.csv"))
    if not tables:
        yield from _folders(root)
    for table in tables:
        for where, line in _lines(table):
            name, votes = _votes(line, where)
            label = FERPLUS_VOTES[votes.index(max(votes))]
            if label is not None:
                image = table.parent / name
                yield Entry(image.relative_to(root).as_posix(), (image,), label)


def _votes(line: str, where: str) -> tuple[str, list[float]]:
    """The image and the ten votes of a line of ``label.csv``."""
    try:
        name, _, *votes = next(csv.reader([line]))
        numbers = [float(vote) for vote in votes]
    except (ValueError, csv.Error):
        name, numbers = "", []
    right = len(numbers) == len(FERPLUS_VOTES) and 0 < sum(numbers) < math.inf and min(numbers) >= 0
    if not right or not name or Path(name).is_absolute():
        raise ValueError(f"{where}: expected an image, its box and ten votes, got {line!r:.80}")
    return name, numbers


def _clips(root: Path) -> Iterator[Entry]:
    """Video as folders of frames: each folder with images in it is a clip, its parent's name is the label."""
    frames: dict[Path, list[Path]] = {}
    for image in _images(root):
        frames.setdefault(image.parent, []).append(image)
    for clip, images in frames.items():
        below = clip.relative_to(root)
        yield Entry(below.as_posix(), tuple(images), below.parent.name or None)


def _annotation_list(path: Path) -> Iterator[Entry]:
    """The paper's lists, ``path num_frames label`` a line: a folder of frames (or an image), from the list's own folder, and an index
    into the paper's classes."""
    seen: dict[str, str] = {}
    for where, line in _lines(path):
        fields = line.rsplit(maxsplit=2)
        if len(fields) != 3 or not re.fullmatch("[0-9]{1,9}", fields[1]):
            raise ValueError(f"{where}: expected `path num_frames label`, got {line!r:.80}")
        if fields[0] in seen:
            raise ValueError(f"{where}: {fields[0]} stands in {seen[fields[0]]} already")
        seen[fields[0]] = where
        clip = path.parent / fields[0]
        try:
            frames = _images(clip) if clip.is_dir() else [clip]
        except OSError as error:  # a name that no file can have
            raise ValueError(f"{where}: {error.strerror}: {fields[0]:.80}") from None
        if len(frames) != int(fields[1]):
            raise ValueError(f"{where}: the list says {fields[1]} frames, {clip} has {len(frames)}")
        yield Entry(fields[0], tuple(frames), _class_of(fields[2], LABEL_SETS["mafw"]))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text that are not blank, and where they stand. Raises ValueError for bytes that are no text."""
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is not UTF-8 ({error.reason} at its byte {error.start + 1}); save it as UTF-8"
            ) from None
        if "\0" in text:
            raise ValueError(f"{where} holds a zero byte: this is no text file in UTF-8")
        if text.strip():
            yield where, text


LAYOUTS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "folders": _folders,
    "caers": _folders,
    "rafdb": _rafdb,
    "rafdb-train": partial(_rafdb, part="train"),
    "rafdb-test": partial(_rafdb, part="test"),
    "affectnet7": _affectnet7,
    "affectnet8": _affectnet,
    "ferplus": _ferplus,
    "clips": _clips,
    "list": _annotation_list,
}
