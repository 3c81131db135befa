"""Paths as people give them become the files to classify: images, videos, Parquet tables and tar archives of images.

Folders are looked through, and what only looks like a file is told before anything opens it.
"""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import archive
from .images import image_endings
from .parquet import ENDING, NoImagesError, check_images, image_rows
from .storage import find_stored, is_stored
from .video import VIDEO_ENDINGS, is_video, read_frames

_FRAMES = 4  # of a video, for a look at it


@dataclass(frozen=True)
class Source:
    """A file or URL, read as its `kind` says (a `video` may be a folder of frames); `error` says why it cannot be."""

    path: str
    kind: Literal["image", "video", "table", "archive"] = "image"
    error: str | None = None


def find_sources(paths: Iterable[str], frames_fps: float | None = None) -> list[Source]:
    """The files that `paths` stand for, in their order, each once.

    What is there but cannot be read as a file (a FIFO, a folder that may not be looked into) has its
    `error`, and so has a folder without images and videos. Of a folder's Parquet files those with an
    image column are taken.

    Args:
        paths: files, URLs, or folders, which are looked through, sorted; also on object storage, and patterns with `*`.
        frames_fps: if given, each folder is one video of frames.

    Raises:
        FileNotFoundError: where a path leads nowhere.
        ValueError: where a Parquet file that was named has no image column.
    """
    paths = [name for path in paths for name in _matching(path)]
    _check_there(paths)
    sources: dict[str, Source] = {}
    for given in paths:
        if frames_fps is not None and os.path.isdir(given):
            found = [Source(given, "video")]
        elif os.path.isdir(given):
            found = _below(given) or [Source(given, error="no image or video files below this folder")]
        elif is_stored(given):
            found = _stored(given)
        else:
            found = [_file(given)]
        sources |= {source.path: source for source in found}
    return list(sources.values())


def first_images(sources: Iterable[Source], fps: float, frames_fps: float | None) -> Iterator[Any]:
    """Images to look at before the run: paths, a few frames of each video, rows of tables.

    What cannot be read is left to the run, and nothing is fetched twice.
    """
    for source in sources:
        if source.error is not None:
            continue
        if source.kind == "image":
            if "://" not in source.path:
                yield source.path
            continue
        with suppress(Exception):  # decoders of damaged files raise whatever they please
            if source.kind == "table":
                yield from (image for _, image in image_rows(source.path) if isinstance(image, bytes))
            elif source.kind == "archive":
                yield from (image for _, image in archive.archived_images(source.path) if isinstance(image, bytes))
            else:
                for frame in itertools.islice(read_frames(source.path, fps, frames_fps), _FRAMES):
                    yield frame.image


def named(error: Exception) -> str:
    """An error as a row holds it: its type, and what it says."""
    return f"{type(error).__name__}: {error}"


def _check_there(paths: list[str]) -> None:
    missing: list[tuple[str, Exception]] = []
    for path in paths:
        try:
            if "://" not in path:
                os.stat(path)
        except PermissionError:  # it may be there; its row will say so
            continue
        except (OSError, ValueError) as cause:
            missing.append((path, cause))
    if missing:
        path, reason = missing[0]
        more = f" and {len(missing) - 1} more of the paths" if len(missing) > 1 else ""
        said = getattr(reason, "strerror", None) or reason
        raise FileNotFoundError(
            f"there is no file or folder {path!r}{more} ({said}); correct the path or leave it out"
        ) from reason


def _file(path: str) -> Source:
    wrong = None if "://" in path else _no_file(path)
    if wrong is None and _is_table(path):
        try:
            check_images(path)
        except NoImagesError:  # somebody named it: a wrong call
            raise
        except (OSError, ValueError) as error:
            wrong = named(error)
    return Source(path, _kind(path), wrong)


def _matching(path: str) -> list[str]:
    """The files and folders that a pattern fits; a name that is there is none."""
    if "://" in path or os.path.lexists(path):
        return [path]
    return sorted(glob.glob(path, recursive=True)) or [path]


def _stored(address: str) -> list[Source]:
    sources = []
    found = find_stored(address)
    for path in found:
        kind, wrong = _kind(path), None
        if kind == "video":
            wrong = "ValueError: videos on object storage are not read; copy it to a disk"
        elif kind == "table":
            try:
                check_images(path)
            except NoImagesError:
                if found == [address]:  # somebody named it: a wrong call
                    raise
                continue
            except (OSError, ValueError) as error:
                wrong = named(error)
        elif found != [address] and not path.lower().endswith(_endings()):
            continue
        sources.append(Source(path, kind, wrong))
    return sources or [Source(address, error="no image files below this address")]


def _endings() -> tuple[str, ...]:
    return tuple(image_endings() | VIDEO_ENDINGS | {ENDING, archive.ENDING})


def _below(folder: str) -> list[Source]:
    endings = _endings()
    closed: list[OSError] = []
    found: dict[Path, Source] = {}
    for place, _, names in os.walk(folder, onerror=closed.append):
        for path in (Path(place, name) for name in names):
            if path.name.lower().endswith(endings):
                with suppress(NoImagesError):  # some other table, an earlier output for one
                    found[path] = _file(str(path))
    for error in closed:
        path = Path(error.filename or folder)
        found[path] = Source(str(path), error=named(error))
    return [found[path] for path in sorted(found)]


def _kind(path: str) -> Literal["image", "video", "table", "archive"]:
    if is_video(path):
        return "video"
    if _is_file(path) and path.lower().endswith(archive.ENDING):
        return "archive"
    return "table" if _is_table(path) else "image"


def _is_table(path: str) -> bool:
    return _is_file(path) and path.lower().endswith(ENDING)


def _is_file(path: str) -> bool:
    return "://" not in path or is_stored(path)


def _no_file(path: str) -> str | None:
    """Why a path is not one to open: opening a FIFO or a device may wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return named(error)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return f"ValueError: {path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"
