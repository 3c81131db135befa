"""`expclip classify`: list the files, resume where a stopped run was, classify, write, draw."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media import table
from ..media.label_sets import Words
from ..media.storage import is_stored, local_path
from ..system.files import file_id
from ..system.terminal import printable
from .exit_codes import NOTHING_CLASSIFIED, OK
from .journal import Journal
from .options import add_faces, add_model, check_faces
from .words import add_words, words_of

if TYPE_CHECKING:
    from ..media.plot import Timelines
    from ..media.sources import Source


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "classify",
        help="label faces in images, photos, folders, videos and Parquet files",
        description="Label faces in images, photos, folders, videos and Parquet files.",
    )
    add = command.add_argument
    paths = add(
        "paths",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="images, videos, folders of them, Parquet files with a column 'image', whose rows are called FILE#NUMBER, or tar "
        "archives (WebDataset), whose images are called FILE#NAME; also patterns such as 'faces/*.tar', and s3://, gs:// and hf:// "
        "addresses",
    )
    add_model(command)
    add_words(command, paths)
    add(
        "--top-k",
        type=int,
        metavar="N",
        help="show and write only the N best labels, with the scores they have among all: in CSV and Parquet as "
        "label_1, score_1, ... label_N, score_N in place of a column for each label, in JSON as the only 'scores', best first",
    )
    add(
        "--output",
        type=lambda name: name if is_stored(name) else local_path(name),
        metavar="FILE|DIR",
        help="write all rows to a .csv, .json or .parquet file, which appears whole; folders above it are made; the same "
        "command resumes a run that was stopped; with --engine ray, a folder of Parquet files, here or on object storage",
    )
    add("--overwrite", action="store_true", help="replace the file of --output and images of --plot that are there")

    add_faces(command)

    video = command.add_argument_group("video")
    add = video.add_argument
    add("--fps", type=float, help="frames looked at for each second (default: 4)")
    add(
        "--window", type=float, metavar="S", help="one row for each face and S seconds, from the mean of its embeddings"
    )
    add(
        "--clip",
        choices=("uniform", "paper"),
        help="one row for a whole video, from 16 frames; uniform: the middle of each of 16 equal parts; paper: the same, but of a video of 16 frames or fewer only the first one, as the paper's code does",
    )
    add("--frames-fps", type=float, metavar="N", help="each folder is one video of frames, N for each second")
    add("--plot", type=local_path, metavar="DIR", help="a PNG timeline of each video, in this folder")

    speed = command.add_argument_group("speed")
    add = speed.add_argument
    add(
        "--batch-size",
        type=int,
        default=16,
        metavar="N",
        help="number of faces in one forward pass (default: %(default)s)",
    )
    add("--workers", type=int, default=2, metavar="N", help="threads that read and crop (default: %(default)s)")
    add(
        "--backend",
        choices=("torch", "openvino", "onnx"),
        help="runtime of an exported model (default: the one it was exported for)",
    )
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="number format of torch's image tower (default: %(default)s)",
    )
    add("--compile", action="store_true", help="torch.compile the image tower")

    shared = command.add_argument_group("many machines")
    add = shared.add_argument
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: actors of a Ray cluster ($RAY_ADDRESS, else one of this machine's processors) do the work; it needs the extra ray "
        "(default: %(default)s)",
    )
    add("--actors", type=int, metavar="N", help="number of actors, each with the model (default: as many as fit)")
    add("--actor-cpus", type=float, metavar="X", help="processors of each actor, also parts of one (default: 1)")
    add(
        "--actor-gpus",
        type=float,
        metavar="X",
        help="GPUs of each actor, also parts of one (default: 1 if there are any)",
    )
    add(
        "--part-size",
        type=int,
        metavar="N",
        help="images of a file of --output, which is what a stopped run repeats at most for each actor (default: 2048)",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    said, top_k = words_of(arguments), arguments.top_k
    words = Words.choose(**said)
    labels = words.labels

    from ..media.detectors import FaceDetector

    if arguments.engine == "ray":
        from . import on_ray

        identity = _identity(arguments, []) | _scoring(words)
        analysis, video = _analysis(arguments), _video(arguments)
        if arguments.faces:  # "auto" is decided here, for all machines; where they keep YuNet's file is theirs to know
            detector = FaceDetector(arguments.detector or "auto")
            print(detector, file=sys.stderr)
            analysis["detector"] = arguments.detector if arguments.detector not in (None, "auto") else detector.name
        return on_ray.run(arguments, said, analysis, video, identity, lambda videos: _check(arguments, videos))
    for name in ("actors", "actor_cpus", "actor_gpus", "part_size"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for many machines; add --engine ray")
    if is_stored(arguments.output):
        raise ValueError(f"--output {arguments.output}: only --engine ray writes to object storage; name a file here")

    from ..media.analyzer import FPS, FaceAnalyzer
    from ..media.classify import Classifier
    from ..media.crop_check import crops_warning
    from ..media.plot import Timelines
    from ..media.sources import find_sources, first_images

    sources = find_sources(arguments.paths, arguments.frames_fps)
    videos = [source.path for source in sources if source.kind == "video" and source.error is None]
    _check(arguments, bool(videos))
    table.Layout(labels, bool(videos), top_k).check()
    analysis, video = _analysis(arguments), _video(arguments)
    timelines = None if arguments.plot is None else Timelines(videos, arguments.plot, words)
    output, journal = arguments.output, None
    found_by: str | None = None
    if output is not None:
        table.check_output(output)
    written = {"--output": [output] if output else [], "--plot": timelines.paths.values() if timelines else []}
    there = {file_id(path): f"{option}: {path}" for option, paths in written.items() for path in paths if path.exists()}
    for source in sources if there else ():
        if (same := file_id(source.path)) in there:
            raise ValueError(f"{there[same]} is an input; choose another name or folder")
    if arguments.faces:
        detector = FaceDetector(arguments.detector or "auto")
        print(detector, file=sys.stderr)
        found_by, analysis["detector"] = detector.name, detector.source
    if output is not None:
        identity = _identity(arguments, sources) | _scoring(words) | analysis | video | {"detector": found_by}
        journal = Journal(output, identity, arguments.overwrite)
    summary, finished, unfinished = table.Summary(), False, False
    try:
        if timelines is not None:
            timelines.prepare(arguments.overwrite or (journal is not None and journal.resumed))
        if journal is not None and (journal.done or journal.reached):
            _take_up(journal, summary, timelines)
            rows = "".join(f", {count} rows of {printable(path)}" for path, count in journal.reached.items())
            print(
                f"{len(journal.done)} of {len(sources)} files{rows} were done before; resuming after them",
                file=sys.stderr,
            )
            sources = [source for source in sources if source.path not in journal.done]
        analyzer = FaceAnalyzer(
            arguments.model,
            **analysis,
            compile=arguments.compile,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
        )
        if arguments.faces is None:
            first = first_images(sources, video["fps"] or FPS, arguments.frames_fps)
            if (warning := crops_warning(first)) is not None:
                print(f"{warning}: add --faces to find faces first, or --no-faces if they are crops", file=sys.stderr)
        for found in Classifier(analyzer, said, video)(sources, None if journal is None else journal.reached):
            for row in found.rows:
                summary.add(row)
            if timelines is not None:
                timelines.add(found.path, found.rows, found.done)
            if journal is not None:
                reached = None if found.reached is None else (found.path, found.reached)
                journal.add(found.rows, found.path if found.done else None, reached)
        if journal is not None:
            table.write(journal.rows(), labels, output, bool(videos), top_k)
        finished = True
    finally:  # first what is kept, then what is shown; an interrupted run shows what it has
        if journal is not None:
            unfinished = journal.close(finished)
        if summary.total:
            print(summary.table(labels, top_k))
        if unfinished:
            print("unfinished: the same command resumes from here", file=sys.stderr)
    if output is not None:
        print(f"wrote {summary.total} rows to {printable(str(output))}")
    if summary.failed:
        print(f"{summary.failed} of {summary.total} rows hold an error instead of a label", file=sys.stderr)
    return OK if summary.total > summary.failed else NOTHING_CLASSIFIED


def _take_up(journal: Journal, summary: table.Summary, timelines: Timelines | None) -> None:
    """What an earlier run did: its rows are counted, and drawn where it did not come to that."""
    for path, found in itertools.groupby(journal.rows(), lambda row: row.path):
        known = list(found)
        for row in known:
            summary.add(row)
        if timelines is not None and path in timelines.paths and not timelines.paths[path].exists():
            timelines.add(path, known, True)


def _check(arguments: argparse.Namespace, videos: bool) -> None:
    """Raises ValueError for what could only be noticed late, or never."""
    check_faces(arguments)
    for name in ("fps", "window", "frames_fps"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be more than 0")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise ValueError(f"--top-k {arguments.top_k} must be at least 1")
    if arguments.batch_size < 1 or arguments.workers < 1:
        raise ValueError("--batch-size and --workers must be at least 1")
    for name in ("fps", "window", "clip", "plot"):
        if not videos and getattr(arguments, name) is not None:
            raise ValueError(f"--{name} is for videos, and there is none among the paths")
    if arguments.clip is not None and (arguments.fps is not None or arguments.window is not None):
        raise ValueError("--clip asks for one row a video; leave --fps and --window out")
    if arguments.plot is not None and arguments.clip is not None:
        raise ValueError("--plot shows what changes with time; --clip gives one row a video")


def _identity(arguments: argparse.Namespace, sources: list[Source]) -> dict[str, Any]:
    """What, beside the options, must be the same for rows of two runs to stand in one table."""
    model = Path(arguments.model)
    weights = sorted(model.glob("*.safetensors")) + sorted(model.glob("image_tower.*")) if model.is_dir() else []
    identity = {"paths": arguments.paths, "model": arguments.model, "weights": _stats(weights)}
    # Their rows are known by number, so they must be the same files; what a store holds is taken to stay.
    here = [source for source in sources if source.error is None and not is_stored(source.path)]
    tables = [Path(source.path) for source in here if source.kind in ("table", "archive")]
    return identity | ({"tables": _stats(tables)} if tables else {})


def _scoring(words: Words) -> dict[str, Any]:
    """None, not False, where labels are scored against each other: then the runs of earlier versions may be finished."""
    by_themselves = {"multi_label": words.multi_label or None, "contrasts": words.contrasts}
    return {"labels": words.labels, "prompts": words.prompts} | by_themselves


def _stats(files: list[Path]) -> list[tuple[str, int, int]]:
    return [(file.name, (status := file.stat()).st_size, status.st_mtime_ns) for file in files]


def _analysis(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `FaceAnalyzer` that decide about the rows."""
    from ..media.faces import DEFAULT_MARGIN

    return {
        "faces": bool(arguments.faces),
        "margin": DEFAULT_MARGIN if arguments.margin is None else arguments.margin,
        "align": arguments.align,
        "backend": arguments.backend,
        "precision": arguments.precision,
    }


def _video(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `FaceAnalyzer.video`."""
    from ..media.analyzer import FPS

    return {
        "fps": FPS if arguments.fps is None and arguments.clip is None else arguments.fps,
        "window": arguments.window,
        "clip": arguments.clip,
        "frames_fps": arguments.frames_fps,
    }
