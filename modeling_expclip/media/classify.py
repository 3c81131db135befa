"""Images, videos, and Parquet files and archives of images become rows, one for each face, file by file, so that a stopped run can resume."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..system.terminal import printable
from .analyzer import FaceAnalyzer
from .archive import archived_images
from .parquet import check_images, image_rows
from .sources import Source, named
from .table import Row

NO_FACE = "no face found"


class Found(NamedTuple):
    """Rows of one source, `done` with its last. Of a Parquet file, `reached` of its rows are done with these."""

    path: str
    rows: list[Row]
    done: bool = False
    reached: int | None = None


class Classifier:
    """An analyzer's answers as rows.

    Args:
        analyzer: reads images and videos.
        words: `labels`, `label_set`, `prompts`, `multi_label` and `contrasts`, as for `FaceAnalyzer.photo`.
        video: how videos are read: `fps`, `window`, `clip` and `frames_fps` of `FaceAnalyzer.video`.
    """

    def __init__(
        self, analyzer: FaceAnalyzer, words: Mapping[str, Any], video: Mapping[str, Any] | None = None
    ) -> None:
        self.analyzer = analyzer
        self._words = words
        self._video = video or {}

    def __call__(
        self, sources: Iterable[Source], reached: Mapping[str, int] | None = None, stop: int | None = None
    ) -> Iterator[Found]:
        """The rows of each source, in order, with a row for what cannot be read.

        Args:
            sources: from `find_sources`.
            reached: for Parquet files and archives, the number of rows to pass over.
            stop: of a Parquet file, the number of the row to end before.
        """
        sources = list(sources)
        with tqdm(total=len(sources), desc="classify", unit="file", disable=None) as bar:
            for kind, group in itertools.groupby(sources, lambda source: "error" if source.error else source.kind):
                for found in self._of_kind(kind, group, reached or {}, stop):
                    yield found
                    bar.update(found.done)

    def _of_kind(
        self, kind: str, sources: Iterator[Source], reached: Mapping[str, int], stop: int | None
    ) -> Iterator[Found]:
        if kind == "image":  # all in one stream, for batches are gathered across them
            for path, rows in self.rows(((source.path, source.path) for source in sources), str):
                yield Found(path, rows, done=True)
            return
        for source in sources:
            if kind == "error":
                yield Found(source.path, [Row(source.path, error=source.error)], done=True)
            elif kind == "table":
                yield from self._table(source.path, reached.get(source.path, 0), stop)
            elif kind == "archive":
                start = reached.get(source.path, 0)
                yield from self._inside(source.path, archived_images(source.path, start), start)
            else:
                yield from self._of_video(source.path)

    def _table(self, path: str, start: int, stop: int | None) -> Iterator[Found]:
        try:
            count = check_images(path)
        except (OSError, ValueError) as error:  # it was there when it was looked for
            yield Found(path, [Row(path, error=named(error))], done=True)
            return
        numbered = ((str(number), image) for number, image in image_rows(path, start, stop))
        yield from self._inside(path, numbered, start, count)

    def _inside(
        self, path: str, inside: Iterator[tuple[str, bytes | str]], start: int, count: int | None = None
    ) -> Iterator[Found]:
        """The rows of a file's images, of which each has a name in it, from image `start` of `count` on."""
        names: dict[int, str] = {}
        without: dict[int, str] = {}  # rows that hold no image
        damage: list[str] = []

        def images() -> Iterator[tuple[int, bytes]]:
            try:
                for number, (known_as, image) in enumerate(inside, start):
                    names[number] = known_as
                    if isinstance(image, bytes):
                        yield number, image
                    else:
                        without[number] = image
            except (OSError, ValueError, LookupError) as error:
                damage.append(named(error))

        def name(number: int) -> str:
            return f"{path}#{names.pop(number)}"

        reached = start
        with _bar(path, count, start) as bar:
            for number, rows in self.rows(images(), name):
                skipped = [Row(name(i), error=without.pop(i)) for i in range(reached, number)]
                bar.update(number + 1 - reached)
                reached = number + 1
                yield Found(path, skipped + rows, reached=reached)
        left = [Row(name(number), error=reason) for number, reason in without.items()]
        yield Found(path, left + [Row(path, error=error) for error in damage], done=True)

    def rows(self, items: Iterable[tuple[Any, Any]], name: Callable[[Any], str]) -> Iterator[tuple[Any, list[Row]]]:
        """Keys and images -> keys and the rows of each image, whose path is the `name` of its key."""
        for key, image in self.analyzer.stream(items, **self._words):
            path, detector = name(key), self.analyzer.detector
            if image.faces:
                yield (
                    key,
                    [Row(path, face=number, detector=detector, **face) for number, face in enumerate(image.faces)],
                )
            elif image.error is None:
                yield key, [Row(path, detector=detector, error=NO_FACE)]
            else:
                yield key, [Row(path, error=named(image.error))]

    def _of_video(self, path: str) -> Iterator[Found]:
        error: str | None = NO_FACE
        try:
            with _bar(path) as bar:
                for answer in self.analyzer.video(path, **self._words, **self._video):
                    error = None
                    yield Found(path, [Row(path, detector=self.analyzer.detector, **answer)])
                    bar.update()
        except ImportError:  # no PyAV: a wrong call, not a bad file
            raise
        except Exception as damage:  # decoders of damaged files raise whatever they please
            error = named(damage)
        detector = self.analyzer.detector if error == NO_FACE else None
        yield Found(path, [] if error is None else [Row(path, detector=detector, error=error)], done=True)


def _bar(path: str, rows: int | None = None, done: int = 0) -> tqdm:
    return tqdm(total=rows, initial=done, desc=printable(Path(path).name), unit="row", leave=False, disable=None)
