"""``expclip classify``: pictures, photos, folders and videos become one row for each face.

Paths come in, are listed, and pass the pipeline one stream at a time; rows leave file by file, so that a run that was
stopped can go on where it was.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..system.terminal import printable
from .analyzer import FPS, FaceAnalyzer
from .detectors import DEFAULT_MARGIN
from .images import image_endings
from .video import VIDEO_ENDINGS, is_video, read_frames

NO_FACE = "no face found"
_FRAMES = 4  # of a video, for a look at it


@dataclass
class Row:
    """What is known of one face. ``time`` (seconds) and, for a person who is followed, ``face`` are of a video; ``box`` and
    ``detection_score`` stay empty for a picture that is a face crop."""

    path: str
    time: float | None = None
    face: int | None = None
    box: tuple[int, int, int, int] | None = None
    detection_score: float | None = None
    label: str | None = None
    error: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What decides about the rows; ``expclip classify --help`` says what each means."""

    labels: tuple[str, ...]
    prompts: str = "ensemble10"
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


def find_files(paths: Iterable[str], frames_fps: float | None = None) -> list[Row]:
    """A row for each file or URL as given, and for each image and video file below a folder, sorted.

    What cannot be read as a file (a FIFO, a broken link, a folder that may not be looked into) is a row that says so, and so is a
    folder without any. With ``frames_fps`` a folder is one video of frames.
    """
    rows: dict[str, Row] = {}
    for given in paths:
        if frames_fps is not None or not _is_folder(given):
            rows[given] = Row(given, error=_no_file(given))
            continue
        found = _below(given)
        for row in found:
            rows[row.path] = row
        if not found:
            rows[given] = Row(given, error="no image or video files below this folder")
    return list(rows.values())


def _below(folder: str) -> list[Row]:
    endings = image_endings() | VIDEO_ENDINGS
    closed: list[OSError] = []
    found: dict[Path, str | None] = {}
    for place, _, names in os.walk(folder, onerror=closed.append):
        for path in (Path(place, name) for name in names):
            if path.suffix.lower() in endings:
                found[path] = _no_file(path, missing=True)
    found |= {Path(error.filename or folder): _named(error) for error in closed}
    return [Row(str(path), error=found[path]) for path in sorted(found)]


def _no_file(path: str | Path, missing: bool = False) -> str | None:
    """Why a path is not one to open: opening a FIFO or a device may wait for ever. URLs and, unless ``missing`` says that it should be
    there, what does not exist are left to the reader."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return _named(error) if missing else None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return f"ValueError: {path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"


def is_moving(row: Row) -> bool:
    """Whether a row of ``find_files`` is a video: such a file, or a folder, which is there only as frames."""
    return row.error is None and (is_video(row.path) or _is_folder(row.path))


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # a name too long, no permission: reading it will say so in its row
        return False


def first_images(rows: Iterable[Row], settings: Settings) -> Iterator[Any]:
    """The paths of images, and some frames of each video, to look at before the run; what cannot be read is left to the run."""
    for row in rows:
        if row.error is None and is_moving(row):
            with suppress(Exception):  # decoders of damaged files raise whatever they please
                for frame in itertools.islice(read_frames(row.path, settings.fps, settings.frames_fps), _FRAMES):
                    yield frame.image
        elif row.error is None and "://" not in row.path:  # nothing is fetched twice
            yield row.path


class Classifier:
    """The analyzer of a checkpoint (folder or Hub id) with the settings of a run."""

    def __init__(
        self, model: str, settings: Settings, batch_size: int = 16, workers: int = 2, compile: bool = False
    ) -> None:
        self.analyzer = FaceAnalyzer(
            model,
            faces=settings.faces,
            detector=settings.detector,
            margin=settings.margin,
            align=settings.align,
            backend=settings.backend,
            precision=settings.precision,
            compile=compile,
            batch_size=batch_size,
            workers=workers,
        )
        self.settings = settings
        self._labels: dict[str, Any] = {"labels": settings.labels, "prompts": settings.prompts}

    def __call__(self, rows: list[Row]) -> Iterator[tuple[str, list[Row], bool]]:
        """Rows of ``find_files`` -> path, finished rows of it, and whether they are its last; in order."""
        with tqdm(total=len(rows), desc="classify", unit="file", disable=None) as bar:
            for moving, group in itertools.groupby(rows, is_moving):
                for row, found, last in self._videos(group) if moving else self._images(list(group)):
                    yield row.path, found, last
                    bar.update(last)

    def _images(self, rows: list[Row]) -> Iterator[tuple[Row, list[Row], bool]]:
        readable = ((None, row.path) for row in rows if row.error is None)
        answers = self.analyzer.stream(readable, **self._labels)
        for row in rows:
            photo = None if row.error is not None else next(answers)[1]
            if photo is not None and photo.faces:
                yield row, [Row(row.path, face=number, **face) for number, face in enumerate(photo.faces)], True
                continue
            if photo is not None:
                row.error = NO_FACE if photo.error is None else _named(photo.error)
            yield row, [row], True

    def _videos(self, rows: Iterator[Row]) -> Iterator[tuple[Row, list[Row], bool]]:
        settings = self.settings
        for row in rows:
            try:
                entries = self.analyzer.video(
                    row.path,
                    **self._labels,
                    fps=settings.fps,
                    window=settings.window,
                    clip=settings.clip,
                    frames_fps=settings.frames_fps,
                )
                row.error = NO_FACE
                for entry in tqdm(entries, desc=printable(Path(row.path).name), unit="row", leave=False, disable=None):
                    row.error = None
                    yield row, [Row(row.path, **entry)], False
            except ImportError:  # no PyAV: a wrong call, not a bad file
                raise
            except Exception as error:  # decoders of damaged files raise whatever they please
                row.error = _named(error)
            yield row, [] if row.error is None else [row], True


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
