"""The embedding pass: CLIP and a teacher see every face once, their vectors go to the embedding cache.

Faces are read as ``data/faces.py`` loads them, in shards of consecutive rows; each shard becomes
one Parquet file of CLIP's vectors and one for each of the teacher's instructions. What is there
already is checked against the faces and not made again.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm

from modeling_expclip.system.lock import only_run

from ..data.faces import (
    FINDS_FACES,
    contents,
    crop_in_use,
    face_columns,
    face_detector,
    face_of,
    image_bytes,
    load_faces,
    warn_of_scenes,
)
from ..data.read_ahead import read_ahead
from ..data.streams import Stream
from ..models.clip import FrozenClip
from ..models.sources import origin_of
from ..recipe import FacesRecipe, Recipe
from ..support.processes import local_device, rank, world_size
from ..teachers.registry import check, load_teacher, teacher_origin
from . import cache
from .cache import Shard, VectorSet


@dataclass
class Job:
    """One set of vectors to make: ``embed`` turns items of ``column`` into (B, H) as they are stored."""

    vectors: VectorSet
    column: str
    embed: Callable[[list[Any]], torch.Tensor]


@dataclass
class _Progress:
    """What one job has of the shard at hand."""

    ids: list[str] = field(default_factory=list)
    parts: list[torch.Tensor] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)


def _named(shards: Iterator[Any], sources: list[str]) -> Iterator[Any]:
    """Shards of a stream, which is read, and may turn out to be damaged, as it goes."""
    while True:
        try:
            shard = next(shards, None)
        except (OSError, ValueError) as error:
            raise ValueError(f"{', '.join(sources)} cannot be read: {error}") from error
        if shard is None:
            return
        yield shard


def shards_of(
    faces: Dataset | Stream, size: int, rank: int, world: int
) -> Iterator[tuple[int, Iterable[dict[str, Any]] | None]]:
    """All shards as (index, rows); rows is None for those of other processes. Of a table these take
    every ``world``-th shard, of a stream shards that follow each other, for each then reads files
    of its own."""
    if isinstance(faces, Dataset):
        for index in range(-(-len(faces) // size)):
            mine = index % world == rank
            yield index, faces.select(range(index * size, min(len(faces), (index + 1) * size))) if mine else None
        return
    lengths = faces.lengths() if world > 1 else None
    if lengths is not None:
        shards = -(-sum(map(sum, lengths)) // size)
        mine = range(shards * rank // world, shards * (rank + 1) // world)
        rows = faces.rows(lengths, mine.start * size)
        for index in range(shards):
            yield index, list(itertools.islice(rows, size)) if index in mine else None
        return
    if world > 1 and rank == 0:
        print(f"only Parquet says how many rows its files hold: each of {world} processes reads this whole stream")
    rows = iter(faces)
    for index in itertools.count():
        shard = list(itertools.islice(rows, size))  # encoded images, so one shard fits in memory
        if not shard:
            return
        yield index, shard if index % world == rank else None


def embed_shard(
    index: int, rows: Iterable[dict[str, Any]], jobs: list[Job], faces: FacesRecipe, step: Callable[[int], Any]
) -> None:
    """Makes what ``jobs`` lack of one shard. Batches are ``faces.batch_size`` consecutive readable
    rows and never cross shards.

    Raises ValueError when a shard that is there was made from other faces.
    """
    todo = [job for job in jobs if not job.vectors.has(index)]
    progress = {id(job): _Progress() for job in todo}
    digest, items = hashlib.sha256(), {job.column: hashlib.sha256() for job in jobs}

    def read(record: dict[str, Any]) -> tuple[bytes | None, Any]:
        try:
            content = image_bytes(record)
        except (OSError, ValueError) as error:  # ValueError: a path that no file can have
            return None, error
        if not todo:
            return content, None
        # Also where only captions are still to be read: batches must not depend on which sets are
        # there already.
        try:
            return content, face_of(record, content, faces)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged files; the row is listed with its reason
            return content, error

    seen: set[str] = set()
    for records, loaded in read_ahead(read, _batched(rows, faces.batch_size)):
        for record, (content, _) in zip(records, loaded):
            if record["id"] in seen:
                raise ValueError(f"the id {record['id']!r} occurs twice; ids must tell faces apart")
            seen.add(record["id"])
            box = record["box"] if faces.crop == "boxes" else None
            size = -1 if content is None else len(content)
            digest.update(f"{record['id']}\0{box}\0{size}\0".encode() + (content or b""))
            for column, sha in items.items():
                if column != "image":
                    sha.update(f"{record[column]!r}\0".encode())
        for job in todo:
            _embed_batch(job, progress[id(job)], records, [face for _, face in loaded])
        step(len(records))
    for known in cache.sets_in(jobs[0].vectors.folder.parent):
        if known.has(index) and known.digest(index) != digest.hexdigest():
            raise ValueError(
                f"{known.path(index)} was made from other faces than these; use another --output, or, if faces were repaired, "
                f"remove {known.path(index).name} from every set"
            )
    for job in jobs:
        column = "" if job.column == "image" else items[job.column].hexdigest()
        if job in todo:
            done = progress[id(job)]
            vectors = torch.cat(done.parts) if done.parts else torch.empty(0, 1)  # Parquet knows no lists of length 0
            boxes = done.boxes if faces.crop in FINDS_FACES else None
            job.vectors.write(index, Shard(done.ids, vectors, done.skipped, digest.hexdigest(), column, boxes))
        elif job.vectors.items(index) != column:
            raise ValueError(
                f"{job.vectors.path(index)} was made when column {job.column!r} held something else; use another --output"
            )


def _embed_batch(job: Job, progress: _Progress, records: list[dict[str, Any]], faces: list[Any]) -> None:
    """``faces``: of each record its image and box, or why it has none."""
    kept, values, boxes = [], [], []
    for record, face in zip(records, faces):
        if isinstance(face, Exception):
            progress.skipped.append((record["id"], f"{type(face).__name__}: {face}"))
            continue
        image, box = face
        value = image if job.column == "image" else record[job.column]
        if value is None or (isinstance(value, str) and not value.strip()):
            progress.skipped.append((record["id"], f"nothing in column {job.column!r}"))
        else:
            kept.append(record["id"])
            values.append(value)
            boxes.append(box)
    if not kept:
        return
    try:
        vectors = job.embed(values)
    except ValueError as error:
        raise ValueError(f"faces {kept[0]} to {kept[-1]}: {error}") from error
    if not vectors.isfinite().all() or vectors.shape[1:] != (progress.parts or [vectors])[0].shape[1:]:
        raise ValueError(
            f"faces {kept[0]} to {kept[-1]}: {job.vectors.folder.name} got vectors of shape {tuple(vectors.shape)} that are not finite "
            f"in {str(vectors.dtype).removeprefix('torch.')}, or not as long as those before"
        )
    progress.ids += kept
    progress.boxes += boxes
    progress.parts.append(vectors)


def _batched(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


def embed(recipe: Recipe, sources: list[str], output: Path, shard_size: int, *, streaming: bool = False) -> int:
    """Fills the cache at ``output``, or what it lacks. ``RANK`` and ``WORLD_SIZE`` (torchrun) share
    the shards out. Returns how many there are.

    Raises ValueError when the cache is for other faces or models, or when no face could be read;
    OSError where it cannot be written to, or another run writes there.
    """
    if shard_size < 1:
        raise ValueError(f"--shard-size is {shard_size}; it must be at least 1")
    check(recipe.teacher)
    if recipe.faces.crop in FINDS_FACES:
        face_detector(recipe.faces.crop)  # where it cannot be had, that is no reason to skip every face
    with only_run(output, rank()):
        return _fill(recipe, sources, output, shard_size, streaming)


def sets_of(recipe: Recipe, output: Path) -> list[VectorSet]:
    """CLIP's set, and the teacher's of each instruction."""
    teacher = [cache.find_set(output, recipe.teacher, instruction) for instruction in recipe.teacher.instructions]
    return [cache.find_set(output, recipe.clip), *teacher]


def _fill(recipe: Recipe, sources: list[str], output: Path, shard_size: int, streaming: bool) -> int:
    column = recipe.teacher.input_column
    columns = {column, *face_columns(recipe.faces)} - {"image"}
    faces = load_faces(sources, columns=sorted(columns), frames=recipe.faces.frames, streaming=streaming)
    total = len(faces) if isinstance(faces, Dataset) else None
    if total is not None and len(set(faces["id"])) < total:
        twice = next(name for name, count in Counter(faces["id"]).items() if count > 1)
        raise ValueError(f"the id {twice!r} occurs twice; ids must tell faces apart")
    settings = {name: getattr(recipe.faces, name) for name in ("margin", "frames", "batch_size")}
    settings["crop"] = crop_in_use(recipe.faces.crop)
    cache.begin(output, {"sources": sources, "rows": total, "shard_size": shard_size, **settings})

    clip = functools.cache(lambda: FrozenClip(recipe.clip))  # not loaded when nothing is left to do
    teacher = functools.cache(lambda: load_teacher(recipe.teacher, local_device()))
    vectors, *of_teacher = sets_of(recipe, output)
    vectors.begin(recipe.clip, None, origin_of(recipe.clip.model, recipe.clip.revision))
    jobs = [Job(vectors, "image", lambda items: clip()(items))]
    origin, stored = teacher_origin(recipe.teacher), getattr(torch, recipe.teacher.storage_dtype)
    for instruction, vectors in zip(recipe.teacher.instructions, of_teacher):
        vectors.begin(recipe.teacher, instruction, origin)
        jobs.append(Job(vectors, column, lambda items, text=instruction: teacher()(items, text).to(stored)))

    if recipe.faces.crop == "none":
        first = contents(faces if total is not None else _named(iter(faces), sources))
        warn_of_scenes(first, ", ".join(sources), "--override faces.crop=detect finds the faces")
    found = shards_of(faces, shard_size, rank(), world_size())
    found = found if total is not None else _named(found, sources)
    shards = 0
    with tqdm(total=total and -(-total // world_size()), desc="embed", unit=" faces", disable=rank() > 0) as bar:
        for index, rows in found:
            shards = index + 1
            if rows is not None:
                embed_shard(index, rows, jobs, recipe.faces, bar.update)
    report(output, [job.vectors for job in jobs], shards)
    return shards


def report(output: Path, sets: list[VectorSet], shards: int) -> None:
    """Says what the cache holds now. Raises ValueError when none of the faces could be read."""
    manifest = cache.finish(output, shards)
    waiting = [each.folder.name for each in sets if each.folder.name not in manifest["sets"]]
    if waiting:
        print(f"this process is done; other processes still work on {', '.join(waiting)}")
        return
    for each in sets:
        rows = manifest["sets"][each.folder.name]["rows"]
        if not rows:
            raise ValueError(f"no face could be embedded; {output / 'skipped.csv'} says why")
        print(f"{each.folder}: {rows} faces, {sum(len(each.skipped(i)) for i in range(shards))} skipped")
