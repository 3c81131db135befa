"""Face data sets as people have them on disk: a folder or a list becomes one entry an image, or one
a clip of video.

In: a path and the name of its layout. Out: entries (id, frames, label), where the label is the data
set's own word or number turned into a word; ``faces.py`` makes a ``datasets`` table of them.
"""

from __future__ import annotations

import codecs
import csv
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from modeling_expclip.media.images import image_endings
from modeling_expclip.prompts import LABEL_SETS

from ..support.processes import rank
from .parts import refuse_several_parts

# Class numbers as published; index in the tuple is the number.
RAFDB = (None, "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
FERPLUS_VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", None, None)
FERPLUS_USAGE = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
_ALL_VOTES = "fer2013new.csv"  # FER+'s own file, for all images of FER2013
_ALL_VOTES_HEADER = "usage,image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,nf"


@dataclass(frozen=True)
class Entry:
    """One image (one frame) or one clip: ``id`` is its path below the data set's root, ``frames``
    are in order, ``listed`` is how many an annotation list says there are."""

    id: str
    frames: tuple[Path, ...]
    label: str | None
    listed: int | None = None


def split_layout(source: str) -> tuple[str | None, str]:
    """``LAYOUT=PATH`` -> both; any other text, which may hold an equals sign too, is a path."""
    layout, equals, path = source.partition("=")
    return (layout, path) if equals and layout in LAYOUTS else (None, source)


def find_entries(path: Path, layout: str, frames_root: Path | None = None) -> list[Entry]:
    """Reads ``path`` in one of LAYOUTS. Raises FileNotFoundError or ValueError naming what is not
    as the layout says.

    Args:
        frames_root: the folder in which the clips of an annotation list lie, where the list names
            them on another machine.
    """
    if not path.exists():
        raise FileNotFoundError(f"no face data at {path}")
    if frames_root is None:
        entries = list(LAYOUTS[layout](path))
    elif layout == "list":
        entries = list(_annotation_list(path, frames_root))
    else:
        raise ValueError(
            f"{path} is read as layout {layout!r}, which knows where its frames are; leave the frames root out"
        )
    if not entries:
        raise FileNotFoundError(f"no images below {path} (read as layout {layout!r})")
    return entries


def _note(text: str) -> None:
    """Something to know that stops nothing; one process of torchrun says it."""
    if rank() == 0:
        print(text, file=sys.stderr)


def _images(folder: Path) -> list[Path]:
    """All image files below ``folder``, hidden ones left out, sorted so that frame 2 comes before
    frame 10."""
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
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{os.fsencode(path)!r}: the name is not UTF-8, which ids have to be; rename it"
            ) from error
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts)], path.as_posix()


def _folders(root: Path) -> Iterator[Entry]:
    """Images in folders named after their class (CAER-S and most others), or in any folders when
    labels are not wanted."""
    for image in _images(root):
        below = image.relative_to(root)
        yield Entry(below.as_posix(), (image,), below.parent.name or None)


def _numbered(root: Path, names: tuple[str | None, ...]) -> Iterator[Entry]:
    """Images in folders called by class numbers."""
    for entry in _folders(root):
        yield Entry(entry.id, entry.frames, _class_of(entry.label, names))


def _class_of(number: str | None, names: tuple[str | None, ...]) -> str | None:
    """The class of a number. An unknown number stays as it is: who reads labels will name it, who
    does not is not stopped by it."""
    known = {str(place): name for place, name in enumerate(names)}
    return known.get(number.lstrip("0") or "0" if number else "") or number


def _rafdb(root: Path, part: str = "") -> Iterator[Entry]:
    """RAF-DB: folders 1 to 7, or the basic set's ``EmoLabel/list_patition_label.txt`` beside
    ``Image/aligned``, whose file names begin with the ``part`` they belong to."""
    table = root / "EmoLabel" / "list_patition_label.txt"
    if not table.is_file():
        if part:
            refuse_several_parts(root, f"rafdb-{part}")
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
            number = str(np.load(annotation, allow_pickle=False).item())  # noqa: TID251, no pickles
        except OSError:
            raise
        except Exception as error:  # numpy raises many kinds on damaged files
            raise ValueError(
                f"{annotation}: expected the number of a class, {type(error).__name__}: {error}"
            ) from error
        yield Entry(image.relative_to(root).as_posix(), (image,), _class_of(number, AFFECTNET))


def _affectnet7(root: Path) -> Iterator[Entry]:
    """AffectNet without contempt."""
    return (entry for entry in _affectnet(root) if entry.label != "contempt")


def _ferplus(root: Path, part: str = "") -> Iterator[Entry]:
    """FER+: a folder of images with ``fer2013new.csv`` in it or beside it, of which ``part`` is
    read; folders with a ``label.csv`` each, as FER+'s own program leaves them; or folders named
    after the classes.

    Both tables hold ten votes an image. The class with most votes is the label; a tie, "unknown"
    and "no face" leave the image out.
    """
    tables = sorted(root.rglob("label.csv"))
    beside = [root / _ALL_VOTES, *([root.parent / _ALL_VOTES] if any(root.glob("*.png")) else [])]
    whole = next((table for table in beside if table.is_file()), None)
    if part and (tables or not whole):
        refuse_several_parts(root, f"ferplus-{part}")
    if not tables and whole:
        yield from _all_votes(whole, root, part)
    elif not tables:
        yield from _folders(root)
    for table in tables:
        rows = [_votes(line, where, "an image, its box") for where, line in _lines(table)]
        for name, label in _voted(table, [(name, votes) for name, _, votes in rows]):
            image = table.parent / name
            yield Entry(image.relative_to(root).as_posix(), (image,), label)


def _all_votes(table: Path, root: Path, part: str) -> Iterator[Entry]:
    """The images below ``root`` that ``fer2013new.csv`` has votes for."""
    images = {image.name: image for image in _images(root)}
    (where, header), *lines = [*_lines(table)] or [(str(table), "")]
    if ",".join(word.strip().lower() for word in header.split(",")) != _ALL_VOTES_HEADER:
        raise ValueError(f"{where}: expected the columns {_ALL_VOTES_HEADER}, got {header!r:.80}")
    rows = []
    for where, line in lines:
        usage, name, votes = _votes(line, where, "a usage, an image")
        if usage not in FERPLUS_USAGE.values():
            raise ValueError(f"{where}: expected one of {', '.join(FERPLUS_USAGE.values())}, got {usage!r:.80}")
        # Images without a name were taken out by FER+'s authors.
        if (name and usage == FERPLUS_USAGE[part]) if part else name in images:
            rows.append((usage, name, votes))
    if len({usage for usage, *_ in rows}) > 1:
        choices = " or ".join(f"ferplus-{part}={root}" for part in FERPLUS_USAGE)
        raise ValueError(f"{table} lists training and test faces together; choose {choices}")
    if part and not any(name in images for _, name, _ in rows):
        raise FileNotFoundError(f"none of the {len(rows)} images of {FERPLUS_USAGE[part]} in {table} lies below {root}")
    for name, label in _voted(table, [(name, votes) for _, name, votes in rows]):
        image = images.get(name, root / name)
        yield Entry(image.relative_to(root).as_posix(), (image,), label)


def _voted(table: Path, rows: list[tuple[str, list[float]]]) -> list[tuple[str, str]]:
    """Images and their votes -> images and the class that most votes are for; says how many are
    left out."""
    found = []
    for name, votes in rows:
        label = FERPLUS_VOTES[votes.index(max(votes))]
        if label is not None and votes.count(max(votes)) == 1:
            found.append((name, label))
    if len(found) < len(rows):
        _note(
            f"{table}: {len(rows) - len(found)} of {len(rows)} faces are left out: a tie, or most votes say unknown or no face"
        )
    return found


def _votes(line: str, where: str, before: str) -> tuple[str, str, list[float]]:
    """The two columns ``before`` the votes, and the ten votes, of a line of ``label.csv`` or
    ``fer2013new.csv``."""
    try:
        first, second, *votes = next(csv.reader([line]))
        numbers = [float(vote) for vote in votes]
    except (ValueError, csv.Error):
        first, second, numbers = "", "", []
    right = len(numbers) == len(FERPLUS_VOTES) and 0 < sum(numbers) < math.inf and min(numbers) >= 0
    if not right or not first or any(Path(name).is_absolute() for name in (first, second)):
        raise ValueError(f"{where}: expected {before} and ten votes, got {line!r:.80}")
    return first, second, numbers


def _clips(root: Path) -> Iterator[Entry]:
    """Video as folders of frames: each folder with images in it is a clip, its parent's name is the
    label."""
    frames: dict[Path, list[Path]] = {}
    for image in _images(root):
        frames.setdefault(image.parent, []).append(image)
    for clip, images in frames.items():
        below = clip.relative_to(root)
        yield Entry(below.as_posix(), tuple(images), below.parent.name or None)


def _annotation_list(path: Path, frames_root: Path | None = None) -> Iterator[Entry]:
    """The paper's lists, ``path num_frames label`` a line: a folder of frames (or an image), from
    the list's own folder or below ``frames_root``, and an index into the paper's classes.

    Raises FileNotFoundError where a clip is missing. Another number of frames is counted and said:
    who crops faces again loses some.
    """
    rows: dict[str, tuple[str, int, str]] = {}
    for where, line in _lines(path):
        fields = line.rsplit(maxsplit=2)
        if len(fields) != 3 or not re.fullmatch("[0-9]{1,9}", fields[1]):
            raise ValueError(f"{where}: expected `path num_frames label`, got {line!r:.80}")
        if fields[0] in rows:
            raise ValueError(f"{where}: {fields[0]} stands in {rows[fields[0]][0]} already")
        rows[fields[0]] = (where, int(fields[1]), fields[2])
    places = {name: path.parent / name for name in rows} if frames_root is None else _below(frames_root, list(rows))
    missing, entries = [], []
    for name, (where, listed, label) in rows.items():
        place = places[name]
        try:
            frames = [] if not place.exists() else _images(place) if place.is_dir() else [place]
        except OSError as error:  # a name that no file can have
            raise ValueError(f"{where}: {error.strerror}: {name:.80}") from error
        if not frames:
            missing.append(f"{where}: there is no {place}, or it holds no images")
        entries.append(Entry(name, tuple(frames), _class_of(label, LABEL_SETS["mafw"]), listed))
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} ({len(missing)} of the list's {len(rows)} are missing); say with --frames-root NAME=FOLDER of "
            "expclip benchmark where the clips lie, or mend the list"
        )
    other = [entry for entry in entries if entry.listed != len(entry.frames)]
    if other:
        _note(
            f"{path}: {len(other)} of {len(entries)} clips have another number of frames than the list says, such as {other[0].id} "
            f"({len(other[0].frames)}, not {other[0].listed}); the frames that are there are used"
        )
    yield from entries


def _below(root: Path, names: list[str]) -> dict[str, Path]:
    """Where clips lie whose paths are another machine's: all lose as many leading parts as it takes
    to find one of them in ``root``."""
    parts = {name: [part for part in name.split("/") if part not in ("", ".")] for name in names}
    for drop in range(max(map(len, parts.values()), default=0)):
        if any(len(own) > drop and os.path.exists(root.joinpath(*own[drop:])) for own in parts.values()):
            return {name: root.joinpath(*own[drop:]) for name, own in parts.items()}
    return {name: root.joinpath(*own) for name, own in parts.items()}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text that are not blank, and where they stand. Raises ValueError for bytes
    that are no text."""
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is not UTF-8 ({error.reason} at its byte {error.start + 1}); save it as UTF-8"
            ) from error
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
    **{f"ferplus-{part}": partial(_ferplus, part=part) for part in FERPLUS_USAGE},
    "clips": _clips,
    "list": _annotation_list,
}
