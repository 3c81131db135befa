"""Images, videos and Parquet tables become one row for each face, file by file, so that a run that was stopped can resume."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..checkpoint.folder import load_checkpoint
from ..faces import DEFAULT_MARGIN, FaceDetector
from ..pipeline_expclip import FacialExpressionPipeline
from ..system.terminal import printable
from ..timeline import FPS, RESOLUTION
from .parquet import check_images, image_rows
from .sources import Source, named
from .table import Row

NO_FACE = "no face found"


@dataclass(frozen=True)
class Settings:
    """What decides about the rows; ``expclip classify --help`` says what each means."""

    labels: tuple[str, ...]
    prompts: str | tuple[str, ...] = "ensemble10"
    faces: bool = False
    detector: str | None = None
    margin: float = DEFAULT_MARGIN
    align: bool = False
    backend: str | None = None
    precision: str = "fp32"
    fps: float = FPS
    window: float | None = None
    clip: str | None = None
    frames_fps: float | None = None


class Found(NamedTuple):
    """Rows of one source. `reached` of its table's rows are done with them; `done` says that they are its last."""

    path: str
    rows: list[Row]
    done: bool = False
    reached: int | None = None


class Classifier:
    """The pipeline of a checkpoint (folder or Hub id) with the settings of a run."""

    def __init__(
        self, model: str, settings: Settings, batch_size: int = 16, workers: int = 2, compile: bool = False
    ) -> None:
        loaded, processor = load_checkpoint(model)
        self.pipeline = FacialExpressionPipeline(
            model=loaded,
            tokenizer=processor.tokenizer,
            image_processor=processor.image_processor,
            backend=settings.backend,
            precision=settings.precision,
            compile=compile,
        )
        self.settings = settings
        self._asked = {"labels": settings.labels, "prompts": settings.prompts}
        self._options: dict[str, Any] = {
            "margin": settings.margin,
            "align": settings.align,
            "batch_size": batch_size,
            "workers": workers,
        }
        self._faces = FaceDetector(settings.detector) if settings.faces else False
        self._video_faces = FaceDetector(settings.detector, resolution=RESOLUTION) if settings.faces else False

    def __call__(self, sources: list[Source], reached: Mapping[str, int] | None = None) -> Iterator[Found]:
        """The rows of each source, in order; of a table those after the ones that were `reached` before."""
        with tqdm(total=len(sources), desc="classify", unit="file", disable=None) as bar:
            for kind, group in itertools.groupby(sources, lambda source: "error" if source.error else source.kind):
                for found in self._of_kind(kind, group, reached or {}):
                    yield found
                    bar.update(found.done)

    def _of_kind(self, kind: str, sources: Iterator[Source], reached: Mapping[str, int]) -> Iterator[Found]:
        if kind == "image":
            yield from self._images(sources)
            return
        for source in sources:
            if kind == "error":
                yield Found(source.path, [Row(source.path, error=source.error)], done=True)
            elif kind == "table":
                yield from self._table(source.path, reached.get(source.path, 0))
            else:
                yield from self._video(source.path)

    def _images(self, sources: Iterator[Source]) -> Iterator[Found]:
        items = ((source.path, source.path) for source in sources)
        for path, rows in self._rows(items, str):
            yield Found(path, rows, done=True)

    def _table(self, path: str, start: int) -> Iterator[Found]:
        without: dict[int, str] = {}  # rows that hold no image
        damage: list[str] = []

        def images() -> Iterator[tuple[int, bytes]]:
            try:
                for number, image in image_rows(path, start):
                    if isinstance(image, bytes):
                        yield number, image
                    else:
                        without[number] = image
            except (OSError, ValueError) as error:
                damage.append(named(error))

        def name(number: int) -> str:
            return f"{path}#{number}"

        reached = start
        with _bar(path, check_images(path), start) as bar:
            for number, rows in self._rows(images(), name):
                skipped = [Row(name(i), error=without.pop(i)) for i in range(reached, number)]
                bar.update(number + 1 - reached)
                reached = number + 1
                yield Found(path, skipped + rows, reached=reached)
        left = [Row(name(number), error=reason) for number, reason in without.items()]
        yield Found(path, left + [Row(path, error=error) for error in damage], done=True)

    def _rows(self, items: Iterable[tuple[Any, Any]], name: Callable[[Any], str]) -> Iterator[tuple[Any, list[Row]]]:
        """Keys and images -> keys and the rows of each image, whose path is the `name` of its key."""
        for key, image in self.pipeline.embed(items, self._faces, self._asked, **self._options):
            if image.embeds is None:
                error = NO_FACE if image.error is None else named(image.error)
                yield key, [Row(name(key), error=error)]
                continue
            faces = zip(image.places, image.scores)
            yield (
                key,
                [
                    Row(name(key), None, number, box, score, max(scores, key=scores.__getitem__), None, scores)
                    for number, ((box, score), scores) in enumerate(faces)
                ],
            )

    def _video(self, path: str) -> Iterator[Found]:
        settings = self.settings
        error: str | None = NO_FACE
        try:
            entries = self.pipeline.timeline(
                path,
                candidate_labels=settings.labels,
                prompts=settings.prompts,
                faces=self._video_faces,
                fps=settings.fps,
                window=settings.window,
                clip=settings.clip,
                frames_fps=settings.frames_fps,
                **self._options,
            )
            with _bar(path) as bar:
                for entry in entries:
                    error = None
                    yield Found(path, [Row(path, **entry)])
                    bar.update()
        except ImportError:  # no PyAV: a wrong call, not a bad file
            raise
        except Exception as damage:  # decoders of damaged files raise whatever they please
            error = named(damage)
        yield Found(path, [] if error is None else [Row(path, error=error)], done=True)


def _bar(path: str, rows: int | None = None, done: int = 0) -> tqdm:
    return tqdm(total=rows, initial=done, desc=printable(Path(path).name), unit="row", leave=False, disable=None)
