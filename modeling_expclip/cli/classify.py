"""What ``expclip classify`` does with its arguments: list the files, go on where a stopped run was, classify, write, draw."""

from __future__ import annotations

import itertools
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..media import table as tables
from ..media.analyzer import FPS
from ..media.classify import Classifier, Row, Settings, find_files, first_images, is_moving
from ..media.crop_check import crops_warning
from ..media.detectors import DEFAULT_MARGIN
from ..media.plot import Timelines
from ..system.terminal import printable
from .journal import Journal


def run_classify(arguments: Namespace, labels: tuple[str, ...]) -> int:
    """Returns the number of faces classified. Raises ValueError, OSError or ImportError for a wrong call."""
    settings = _settings(arguments, labels)
    rows = find_files(arguments.paths, settings.frames_fps)
    _check(arguments, rows)
    reserved = sorted(set(labels) & set(tables.FIXED_COLUMNS))
    if reserved:
        raise ValueError(f"a label cannot be called like a column of the output: {', '.join(reserved)}")
    videos = [row.path for row in rows if is_moving(row)]
    timelines = None if arguments.plot is None else Timelines(videos, arguments.plot, labels)
    output, journal = arguments.output, None
    if output is not None:
        tables.check_output(output)
        journal = Journal(output, _identity(arguments, settings), arguments.overwrite)
    summary, finished, unfinished = tables.Summary(), False, False
    try:
        if timelines is not None:
            timelines.prepare(arguments.overwrite or (journal is not None and journal.resumed))
        if journal is not None and journal.done:
            _take_up(journal, summary, timelines)
            print(f"{len(journal.done)} of {len(rows)} files were done before; going on", file=sys.stderr)
            rows = [row for row in rows if row.path not in journal.done]
        classifier = Classifier(arguments.model, settings, arguments.batch_size, arguments.workers, arguments.compile)
        if arguments.faces is None and (warning := crops_warning(first_images(rows, settings))) is not None:
            print(f"{warning}: add --faces to find faces first, or --no-faces if they are crops", file=sys.stderr)
        for path, found, done in classifier(rows):
            for row in found:
                summary.add(row)
            if timelines is not None:
                timelines.add(path, found, done)
            if journal is not None:
                journal.add(found, path if done else None)
        if journal is not None:
            tables.write(journal.rows(), labels, output, bool(videos))
        finished = True
    finally:  # first what is kept, then what is shown; an interrupted run shows what it has
        if journal is not None:
            unfinished = journal.close(finished)
        if summary.total:
            print(summary.table(labels))
        if unfinished:
            print("unfinished: the same command goes on from here", file=sys.stderr)
    if output is not None:
        print(f"wrote {summary.total} rows to {printable(str(output))}")
    if summary.failed:
        print(f"{summary.failed} of {summary.total} rows hold an error instead of a label", file=sys.stderr)
    return summary.total - summary.failed


def _take_up(journal: Journal, summary: tables.Summary, timelines: Timelines | None) -> None:
    """What an earlier run did: its rows are counted, and drawn where it did not come to that."""
    for path, found in itertools.groupby(journal.rows(), lambda row: row.path):
        known = list(found)
        for row in known:
            summary.add(row)
        if timelines is not None and path in timelines.paths and not timelines.paths[path].exists():
            timelines.add(path, known, True)


def _check(arguments: Namespace, rows: list[Row]) -> None:
    """Raises ValueError for what could only be noticed late, or never."""
    for name in ("margin", "align", "detector"):
        if not arguments.faces and getattr(arguments, name) not in (None, False):
            raise ValueError(f"--{name} is about the faces in photos; add --faces")
    if arguments.margin is not None and arguments.margin < 0:
        raise ValueError(f"--margin {arguments.margin}: the margin around a face cannot be negative")
    for name in ("fps", "window", "frames_fps"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be more than 0")
    if arguments.batch_size < 1 or arguments.workers < 1:
        raise ValueError("--batch-size and --workers must be at least 1")
    videos = [row.path for row in rows if is_moving(row)]
    for name in ("fps", "window", "clip", "plot"):
        if not videos and getattr(arguments, name) is not None:
            raise ValueError(f"--{name} is for videos, and there is none among the paths")
    if arguments.clip is not None and (arguments.fps is not None or arguments.window is not None):
        raise ValueError("--clip asks for one row a video; leave --fps and --window out")
    if arguments.plot is not None and arguments.clip is not None:
        raise ValueError("--plot shows what changes with time; --clip gives one row a video")


def _identity(arguments: Namespace, settings: Settings) -> dict[str, Any]:
    """What must be the same for rows of two runs to stand in one table."""
    model = Path(arguments.model)
    weights = sorted(model.glob("*.safetensors")) + sorted(model.glob("image_tower.*")) if model.is_dir() else []
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    return {"paths": arguments.paths, "model": arguments.model, "weights": stats, **asdict(settings)}


def _settings(arguments: Namespace, labels: tuple[str, ...]) -> Settings:
    return Settings(
        labels=labels,
        prompts=arguments.prompts,
        faces=bool(arguments.faces),
        detector=arguments.detector,
        margin=DEFAULT_MARGIN if arguments.margin is None else arguments.margin,
        align=arguments.align,
        backend=arguments.backend,
        precision=arguments.precision,
        fps=FPS if arguments.fps is None else arguments.fps,
        window=arguments.window,
        clip=arguments.clip,
        frames_fps=arguments.frames_fps,
    )
