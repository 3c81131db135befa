"""`expclip classify --engine ray`: the files are cut into parts, Ray's actors each load the model and turn parts into Parquet files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ..media import parts, table
from ..media.analyzer import FPS
from ..media.classify import Classifier
from ..media.crop_check import crops_warning
from ..media.scorer import ExpressionScorer
from ..media.sources import find_sources, first_images
from ..media.storage import Folder
from ..system.cluster import connected
from ..system.files import file_id
from ..system.lock import held
from ..system.stall import explained
from ..system.terminal import one_line, printable
from .exit_codes import NOTHING_CLASSIFIED, OK

PART_SIZE = 2048  # images; some 200 kB of Parquet, and minutes of a processor


class PartWriter:
    """What an actor does: the model is loaded with the first part, and each part becomes a file.

    An error is its answer, for Ray would pass it on without its type, and try one in a constructor again for ever.
    """

    def __init__(
        self,
        scorer: ExpressionScorer,
        words: dict[str, Any],
        video: dict[str, Any],
        cwd: str,
        threads: int,
        run: dict[str, Any],
    ) -> None:
        with suppress(
            OSError
        ):  # relative paths are those of the command; on other machines there may be no such folder
            os.chdir(cwd)
        self._scorer, self._words, self._video, self._threads, self._run = scorer, words, video, threads, run

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"error": [self._make(name, text) for name, text in zip(batch["name"], batch["part"])]}

    def _make(self, name: str, text: str) -> str:
        try:
            import torch

            # Else OMP_NUM_THREADS of who started Ray would hold for each actor, and they would stand in each other's way.
            torch.set_num_threads(self._threads)
            classify = Classifier(self._scorer.classifier.analyzer, self._words, self._video)
            rows = list(parts.Part.of(text).rows(classify))
            parts.write_part(name=name, rows=rows, **self._run)
        except (ValueError, OSError, ImportError) as error:
            return one_line(error)
        return ""


def run(
    arguments: argparse.Namespace,
    words: dict[str, Any],
    analysis: dict[str, Any],
    video: dict[str, Any],
    identity: dict[str, Any],
    check: Callable[[bool], None],
) -> int:
    """Runs the command, or what is left of it.

    Args:
        words, analysis, video: as for `Classifier` and `FaceAnalyzer`.
        identity: what must be the same for rows to stand in one table.
        check: raises ValueError for options that do not go together; is given whether there are videos.
    """
    _check(arguments)
    folder = Folder(arguments.output)
    identity = identity | analysis | video
    scorer = ExpressionScorer(
        arguments.model,
        **words,
        **analysis,
        compile=arguments.compile,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )
    with ExitStack() as stack:
        if isinstance(arguments.output, Path):
            lock = arguments.output.with_name(f".{arguments.output.name}.lock")
            stack.enter_context(held(lock, arguments.output, "--output"))
        plan = parts.Run.left(folder, identity)
        if plan is None:
            plan = _begin(arguments, folder, identity, scorer.labels, video["fps"] or FPS, check)
            missing = plan.missing()
        else:
            missing = plan.missing()
            done = len(plan.parts) - len(missing)
            print(f"{done} of {len(plan.parts)} parts were done before; resuming with the others", file=sys.stderr)
        try:
            if missing:
                _share_out(arguments, plan, missing, scorer, words, video)
        except BaseException:
            print("unfinished: the same command resumes from here", file=sys.stderr)
            raise
        rows, failed = plan.finish()
    print(f"wrote {rows} rows to {printable(folder.place)}, in {len(plan.parts)} files")
    if failed:
        print(f"{failed} of {rows} rows hold an error instead of a label", file=sys.stderr)
    return OK if rows > failed else NOTHING_CLASSIFIED


def _check(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output is None or (isinstance(output, Path) and (output.suffix.lower() in table.FORMATS or output.is_file())):
        raise ValueError("--engine ray writes a folder of Parquet files; name one with --output, such as faces/")
    if isinstance(output, str) and output.startswith(("s3://", "gs://")) and not output[5:].partition("/")[0]:
        raise ValueError(f"--output {output} names no bucket; write {output.partition('://')[0]}://bucket/folder")
    if arguments.plot is not None:
        raise ValueError("--plot draws on this machine; leave --engine ray out")
    for name in ("actors", "part_size", "actor_cpus"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be more than 0")
    if arguments.actor_gpus is not None and arguments.actor_gpus < 0:
        raise ValueError(f"--actor-gpus {arguments.actor_gpus} must not be less than 0")


def _begin(
    arguments: argparse.Namespace,
    folder: Folder,
    identity: dict[str, Any],
    labels: tuple[str, ...],
    fps: float,
    check: Callable[[bool], None],
) -> parts.Run:
    sources = find_sources(arguments.paths, arguments.frames_fps)
    moving = any(source.kind == "video" and source.error is None for source in sources)
    check(moving)
    table.Layout(labels, moving, arguments.top_k).check()
    there = {name for name in folder.names() if not name.startswith(".")}
    if there and not arguments.overwrite:
        raise FileExistsError(
            f"{folder.place} is there already; add --overwrite to replace it, or choose another --output"
        )
    if foreign := sorted(there - set(parts.others(folder))):
        raise FileExistsError(
            f"{folder.place} holds other files than parts ({', '.join(foreign[:5])}), so --overwrite does not replace it; "
            "choose another --output"
        )
    replaced = {f"{folder.place}/{name}" for name in there}
    ids = {file_id(path) for path in replaced} - {None}
    for source in sources if there else ():
        if source.path in replaced or file_id(source.path) in ids:
            raise ValueError(f"--output {folder.place}: {source.path} is an input; choose another folder")
    if arguments.faces is None and (warning := crops_warning(first_images(sources, fps, arguments.frames_fps))):
        print(f"{warning}: add --faces to find faces first, or --no-faces if they are crops", file=sys.stderr)
    return parts.Run.begin(folder, identity, moving, parts.cut(sources, arguments.part_size or PART_SIZE))


def _share_out(
    arguments: argparse.Namespace,
    plan: parts.Run,
    missing: list[int],
    scorer: ExpressionScorer,
    words: dict[str, Any],
    video: dict[str, Any],
) -> None:
    with connected() as ray:
        import ray.data

        size, cpus, gpus = _actors(arguments, ray.cluster_resources(), len(missing))
        todo = [{"name": plan.name(number), "part": plan.parts[number]} for number in missing]
        # Of its own block each, for an actor takes a block, and one that is lost is made again.
        table = ray.data.from_items(todo, override_num_blocks=min(len(todo), 10_000))
        run = {"folder": plan.folder, "labels": scorer.labels, "moving": plan.moving, "top_k": arguments.top_k}
        made = table.map_batches(
            PartWriter,
            fn_constructor_kwargs={
                "scorer": scorer,
                "words": words,
                "video": video,
                "cwd": os.getcwd(),
                "threads": max(1, int(cpus)),
                "run": run,
            },
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        with explained(ray, PartWriter.__name__) as went_on:
            for row in made.iter_rows():
                if row["error"]:
                    raise OSError(row["error"])
                went_on()


def _actors(arguments: argparse.Namespace, have: dict[str, float], parts: int) -> tuple[int, float, float]:
    """How many actors there shall be, and the share of CPUs and GPUs of each."""
    cpus = arguments.actor_cpus or 1.0
    gpus = min(1.0, have.get("GPU", 0.0)) if arguments.actor_gpus is None else arguments.actor_gpus
    fit = _times(cpus, have.get("CPU", 0))
    if gpus:
        fit = min(fit, _times(gpus, have.get("GPU", 0)))
    wanted = arguments.actors or max(1, fit)
    if not fit:
        raise ValueError(
            f"an actor of {cpus:g} CPUs and {gpus:g} GPUs does not fit into a cluster of {have.get('CPU', 0):g} and {have.get('GPU', 0):g}; "
            "lower --actor-cpus or --actor-gpus"
        )
    return min(wanted, parts), cpus, gpus


def _times(share: float, whole: float) -> int:
    return int(whole / share + 1e-9)  # 1 // 0.2 is 4
