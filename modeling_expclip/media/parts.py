"""A run cut into parts, each of which becomes one Parquet file, so that many processes share it out and a stopped run goes on.

`DIR/_plan.jsonl` lists the parts, and is there until all are done; `DIR/part-RUN-000007.parquet` holds the rows of part 7. Whoever
makes a part makes the same rows and the file appears whole, so that none is missing or doubled, whatever stops when.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..system.files import whole_file
from .classify import Classifier
from .parquet import image_groups
from .sources import Source
from .storage import Folder, is_stored
from .table import Row, write

PLAN = "_plan.jsonl"  # readers of Parquet folders pass over names that begin so
_NAME = "part-"


@dataclass(frozen=True)
class Part:
    """Images, or one video or archive, or the rows from `start` up to `stop` of one Parquet file."""

    sources: tuple[Source, ...]
    start: int = 0
    stop: int | None = None

    def rows(self, classifier: Classifier) -> Iterator[Row]:
        for found in classifier(self.sources, {self.sources[0].path: self.start}, self.stop):
            yield from found.rows

    def text(self) -> str:
        sources = [[source.path, source.kind, source.error] for source in self.sources]
        return json.dumps({"sources": sources, "start": self.start, "stop": self.stop})

    @classmethod
    def of(cls, text: str) -> Part:
        found = json.loads(text)
        return cls(tuple(Source(*each) for each in found["sources"]), found["start"], found["stop"])


def cut(sources: Iterable[Source], size: int) -> Iterator[Part]:
    """Parts of some `size` images; archives and videos are not cut, and Parquet files only between their groups of rows."""
    images: list[Source] = []
    for source in sources:
        if source.error is None and source.kind == "table":
            yield from _of_table(source, size)
        elif source.error is None and source.kind != "image":
            yield Part((source,))
        else:
            images.append(source)
            if len(images) == size:
                yield Part(tuple(images))
                images = []
    if images:
        yield Part(tuple(images))


def _of_table(source: Source, size: int) -> Iterator[Part]:
    start = stop = 0
    for rows in image_groups(source.path):
        stop += rows
        if stop - start >= size:
            yield Part((source,), start, stop)
            start = stop
    if stop > start or not stop:
        yield Part((source,), start, stop)


class Run:
    """A run's plan in its output folder.

    Attributes:
        key: tells this run's files from others'.
        moving: there is a video among the sources.
        parts: as lines of text, see `Part.text`.
    """

    def __init__(self, folder: Folder, key: str, moving: bool, parts: list[str]) -> None:
        self.folder, self.key, self.moving, self.parts = folder, key, moving, parts

    @classmethod
    def left(cls, folder: Folder, identity: dict[str, Any]) -> Run | None:
        """The run that was stopped, if there is one.

        Raises:
            ValueError: where it was another than `identity` says.
        """
        if PLAN not in folder.names():
            return None
        name = f"{folder.place}/{PLAN}"
        try:
            head, *parts = folder.read(PLAN).decode().splitlines()
            found = json.loads(head)
            known, key, moving, count = found["run"], found["key"], found["moving"], found["parts"]
            stamps = found["tables"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{name} is damaged; remove it and its parts, or choose another --output") from error
        if count != len(parts):
            raise ValueError(f"{name} is damaged; remove it and its parts, or choose another --output")
        if differing := [item for item, value in _plain(identity).items() if known.get(item) != value]:
            raise ValueError(
                f"{name} was left by a run with another {', '.join(differing)}; repeat that command to finish it, or remove the folder"
            )
        if changed := [path for path, stamp in stamps.items() if _stamp(path) != stamp]:
            raise ValueError(
                f"{changed[0]} has changed since the run of {name} began, and its rows are known by number; put the old file back, or remove "
                "the folder"
            )
        return cls(folder, key, moving, parts)

    @classmethod
    def begin(cls, folder: Folder, identity: dict[str, Any], moving: bool, parts: Iterable[Part]) -> Run:
        parts = list(parts)
        run = cls(folder, uuid.uuid4().hex[:8], moving, [part.text() for part in parts])
        head = {"run": _plain(identity), "key": run.key, "moving": moving, "parts": len(run.parts)}
        # What a store holds is taken to stay.
        numbered = {
            each.path for part in parts for each in part.sources if each.kind in ("table", "archive") and not each.error
        }
        head["tables"] = {path: _stamp(path) for path in sorted(numbered) if not is_stored(path)}
        with folder.writing(PLAN) as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in [json.dumps(head), *run.parts])
        return run

    def name(self, number: int) -> str:
        """The file of a part."""
        return f"{_NAME}{self.key}-{number:06}.parquet"

    def missing(self) -> list[int]:
        """The numbers of the parts that are still to be made."""
        there = self.folder.names()
        return [number for number in range(len(self.parts)) if self.name(number) not in there]

    def finish(self) -> tuple[int, int]:
        """Removes other runs' parts and the plan. Returns the number of rows, and of those with an error."""
        names = [self.name(number) for number in range(len(self.parts))]
        kept = {*names, PLAN}
        for name in self.folder.names() - kept:  # also what killed processes left of a file
            if name.startswith((_NAME, f".{_NAME}", f".{PLAN}")):
                self.folder.remove(name)
        counted = self.folder.counts(names)
        self.folder.remove(PLAN)
        return counted


def others(folder: Folder) -> list[str]:
    """The files of `folder` that hold parts."""
    return sorted(name for name in folder.names() if name.startswith(_NAME) and name.endswith(".parquet"))


def write_part(
    folder: Folder, name: str, rows: list[Row], labels: tuple[str, ...], moving: bool, top_k: int | None
) -> None:
    with folder.writing(name) as path:
        write(rows, labels, path, moving, top_k)


def _plain(identity: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(identity))


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
