"""Parts of a data set (train, validation, test) by the names of its folders and Parquet files, so
that none is scored unnoticed beside another."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from modeling_expclip.media.images import image_endings

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # FER2013Train -> FER, Train; val_set -> val, set
_PARTS = {  # of several that fit, the first: FER2013's PublicTest is for validation
    "train": r"train(ing)?(set)?",
    "validation": r"(val|valid|validation|dev)(set)?|public test",
    "test": r"test(ing)?(set)?",
}
_FIRST = ("test", "validation", "train")  # what to score, best first


def part_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test``, as a word of the name of a file or folder says, or None."""
    words = " ".join(_WORDS.findall(name)).lower()
    return next((part for part, word in _PARTS.items() if re.search(rf"\b({word})\b", words)), None)


def refuse_several_parts(root: Path, option: str) -> None:
    """Raises ValueError where ``root`` would be read whole although it holds several parts, naming them.

    Args:
        root: a folder; two levels of it are looked at, and the Parquet files that are read from it.
        option: what stands before the path on the command line, ``rafdb`` of ``rafdb=PATH``, to say
            what to give instead.
    """
    for paths in _siblings(root):
        found: dict[str, Path] = {}
        for path in paths:
            part = part_of(path.name)
            if part and part not in found and _holds_data(path):
                found[part] = path
        if len(found) > 1:
            names = " and ".join(str(found[part].relative_to(root)) for part in _PARTS if part in found)
            best = next(found[part] for part in _FIRST if part in found)
            raise ValueError(
                f"{root} holds several parts of a data set, {names}, which would be read as one; give one of them, such as {option}={best}"
            )


def _siblings(root: Path) -> Iterator[list[Path]]:
    """What lies side by side: the folders of ``root``, those of each of them, and Parquet files."""
    folders = _folders(root)
    yield folders
    for folder in folders:
        yield _folders(folder)
    yield sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _holds_data(path: Path) -> bool:
    endings = image_endings()
    return path.is_file() or any(
        os.path.splitext(name)[1].lower() in endings
        for _, _, names in os.walk(path, followlinks=False)
        for name in names
    )
