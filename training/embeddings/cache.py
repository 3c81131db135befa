"""The embedding cache: vectors of every face as Parquet shards, one set for CLIP and one for each
teacher and instruction.

    CACHE/manifest.json                      the data, and what each set was made with
    CACHE/skipped.csv                        faces that could not be read, and why
    CACHE/clip-KEY/part-00000.parquet        id, embedding (D)
    CACHE/teacher-KEY/part-00000.parquet     id, embedding (H)

Vectors are float32, a teacher's float16 where the recipe says so.

Where faces were looked for, a column ``box`` (x0, y0, x1, y1 in the image's pixels, held upright)
says where each was found.

A shard appears whole, under a name that says which rows of the data it holds; sets are joined on
``id``. Several processes and machines may write to one cache. KEY is made from what decides the
vectors; a set is recognised by its ``set.json``, also under the name that an older version gave it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from modeling_expclip.system.files import read_json, whole_file, write_csv, write_json

from ..recipe import ClipRecipe, FacesRecipe, TeacherRecipe

FORMAT = 1
MANIFEST = "manifest.json"
_BUFFER = 2**18  # bytes of a shard that are read at once
_UNREADABLE = (
    ValueError,
    OSError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
)  # pyarrow's, or other columns
_PLACE = "device_map"  # the one field of a recipe that says where a model is, and not which


def set_name(recipe: ClipRecipe | TeacherRecipe, instruction: str | None = None) -> str:
    """The folder of a set to begin: its kind and a digest of all that decides its vectors."""
    deciding = _deciding(set_recipe(recipe, instruction), recipe)
    return f"{_kind(recipe)}-{hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]}"


def set_recipe(recipe: ClipRecipe | TeacherRecipe, instruction: str | None = None) -> dict[str, Any]:
    """The recipe of one set. Where the model was placed is no part of it."""
    settings = dataclasses.asdict(recipe)
    if _kind(recipe) == "teacher":
        settings["instruction"] = instruction
    return {name: value for name, value in settings.items() if name != _PLACE}


def find_set(cache: Path, recipe: ClipRecipe | TeacherRecipe, instruction: str | None = None) -> VectorSet:
    """The set a recipe asks for, or the one to begin. Of several (version 0.1 made one for each
    ``device_map``) that with most shards."""
    same = [each for each in sets_in(cache) if _is_for(each.folder.name, each.made_with(), recipe, instruction)]
    own = VectorSet(cache / set_name(recipe, instruction))
    return max([own, *same], key=lambda each: len(list(each.folder.glob("part-*.parquet"))))


def _kind(recipe: ClipRecipe | TeacherRecipe) -> str:
    return "clip" if isinstance(recipe, ClipRecipe) else "teacher"


def _is_for(name: str, content: dict[str, Any], recipe: ClipRecipe | TeacherRecipe, instruction: str | None) -> bool:
    """Whether a set of this name, made with ``content``, holds what the recipe asks for."""
    wanted = _deciding(set_recipe(recipe, instruction), recipe)
    return name.startswith(f"{_kind(recipe)}-") and _deciding(content["recipe"], recipe) == wanted


def _deciding(settings: dict[str, Any], recipe: ClipRecipe | TeacherRecipe) -> dict[str, Any]:
    """What decides vectors, as little as says it: without what is at its default, so that sets made
    before a field existed are those made with its default."""
    full = _defaults(type(recipe)) | settings
    return {
        name: value for name, value in full.items() if name != _PLACE and value != _defaults(type(recipe)).get(name)
    }


def _defaults(recipe: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(recipe)}


@dataclass(frozen=True)
class Shard:
    """The vectors of rows ``index * shard_size`` and following: ids, vectors (N, H) float32 or
    float16, and what was skipped.

    ``digest`` identifies the faces (ids and encoded images) that it was made from, ``items`` what a
    teacher read of a row besides its image, ``boxes`` where each face was found, if it was looked
    for.
    """

    ids: list[str]
    vectors: torch.Tensor
    skipped: list[tuple[str, str]]
    digest: str
    items: str
    boxes: list[Sequence[float]] | None = None


class VectorSet:
    """One folder of shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, index: int) -> Path:
        return self.folder / f"part-{index:05d}.parquet"

    def begin(self, recipe: ClipRecipe | TeacherRecipe, instruction: str | None, origin: str) -> None:
        """Records what the set is made with, or raises ValueError if it was begun with other weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.folder / "set.json"
        if not known.exists():
            write_json(known, {"recipe": set_recipe(recipe, instruction), "origin": origin})
            return
        found = self.made_with()
        if found["origin"] != origin or not _is_for(self.folder.name, found, recipe, instruction):
            raise ValueError(
                f"{self.folder} was made with {found['recipe'].get('model')} at {found['origin']}; "
                f"what is here now is {origin}. Use another --output, or pin `revision` in the recipe"
            )

    def made_with(self) -> dict[str, Any]:
        """What ``begin`` recorded."""
        remedy = f"remove {self.folder} and run expclip embed again"
        found = read_json(self.folder / "set.json", remedy)
        if not _is_set(found):
            raise ValueError(f"{self.folder / 'set.json'} does not say what the set was made with; {remedy}")
        return found

    def has(self, index: int) -> bool:
        return self.path(index).is_file()

    def digest(self, index: int) -> str:
        return self.about(index)["digest"]

    def items(self, index: int) -> str:
        return self.about(index)["items"]

    def skipped(self, index: int) -> list[tuple[str, str]]:
        return [(name, reason) for name, reason in self.about(index)["skipped"]]

    def rows(self, index: int) -> int:
        return self.about(index)["rows"]

    def about(self, index: int) -> dict[str, Any]:
        """What one look at a shard's footer tells: ``digest``, ``items``, ``skipped``, ``rows``, and
        as ``dtype`` that of a vector."""
        try:
            footer = pq.read_metadata(self.path(index))
            found = {name: footer.metadata[name.encode()].decode() for name in ("digest", "items", "skipped")}
            pairs = [(str(name), str(reason)) for name, reason in json.loads(found["skipped"])]
            column = footer.schema.to_arrow_schema().field("embedding").type
            dtype = np.dtype((column.value_type.to_pandas_dtype(), (column.list_size,)))
            return {**found, "skipped": pairs, "rows": footer.num_rows, "dtype": dtype}
        except _UNREADABLE as error:
            raise self._damaged(index, error) from error

    def _damaged(self, index: int, error: object) -> ValueError:
        return ValueError(f"{self.path(index)} is damaged ({error}); remove it and run expclip embed again")

    def write(self, index: int, shard: Shard) -> None:
        width, half = shard.vectors.shape[1], shard.vectors.dtype == torch.float16
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(shard.vectors.numpy().reshape(-1)), width)
        metadata = {"digest": shard.digest, "items": shard.items, "skipped": json.dumps(shard.skipped)}
        schema = pa.schema(
            [("id", pa.string()), ("embedding", pa.list_(pa.float16() if half else pa.float32(), width))],
            metadata=metadata,
        )
        table = pa.Table.from_arrays([pa.array(shard.ids, pa.string()), vectors], schema=schema)
        if shard.boxes is not None:
            table = table.append_column("box", pa.array(shard.boxes, pa.list_(pa.int32(), 4)))
        # Dictionaries and compression save nothing on float16 and take four times as long to read;
        # sets of float32 stay the files they were.
        stored = {"use_dictionary": False, "compression": "none"} if half else {}
        with whole_file(self.path(index)) as part:
            # A checksum, or a flipped bit would be one more vector.
            pq.write_table(table, part, write_page_checksum=True, **stored)

    def ids(self, index: int) -> pa.Array:
        """The ids of one shard, in order."""
        try:
            with self._opened(index) as file:
                ids = file.read(columns=["id"]).column("id").combine_chunks()
            if len(ids) != file.metadata.num_rows or ids.null_count or ids.type != pa.string():
                raise ValueError(f"ids of {len(ids)} faces, {ids.null_count} of them empty")
        except _UNREADABLE as error:
            raise self._damaged(index, error) from error
        return ids

    def vectors(self, index: int, dtype: np.dtype, rows: int) -> Iterator[np.ndarray]:
        """The vectors of one shard, each as ``dtype`` says, in order and no more than ``rows`` at a time.

        Raises ValueError where there are others, or no more of them.
        """
        try:
            with self._opened(index) as file:
                left = file.metadata.num_rows
                for batch in file.iter_batches(rows, columns=["embedding"], use_threads=False):
                    block = batch.column(0).flatten().to_numpy().reshape(len(batch), batch.column(0).type.list_size)
                    if (block.dtype, block.shape[1:]) != (dtype.base, dtype.shape):
                        raise ValueError(f"{block.dtype} vectors of {block.shape[1]} numbers")
                    left -= len(block)
                    yield block
            raise ValueError(f"{left} vectors too few")
        except _UNREADABLE as error:
            raise self._damaged(index, error) from error

    def _opened(self, index: int) -> pq.ParquetFile:
        """To be read a little at a time, without the rest in memory."""
        return pq.ParquetFile(self.path(index), page_checksum_verification=True, buffer_size=_BUFFER, pre_buffer=False)


def begin(cache: Path, data: dict[str, Any]) -> None:
    """Starts a cache for ``data``, or checks that an existing one is for the same; ``sources`` may
    have moved.

    Raises ValueError naming what differs.
    """
    cache.mkdir(parents=True, exist_ok=True)
    manifest = cache / MANIFEST
    if manifest.exists():
        found = (
            _defaults(FacesRecipe) | read_manifest(cache)["data"]
        )  # what is younger than the cache was at its default
        for name, value in data.items():
            there = found.get(name)
            unknown = name == "rows" and None in (there, value)  # of a stream, before its end
            if name != "sources" and there != value and not unknown:
                raise ValueError(
                    f"{cache} was begun with {name} {there}, wanted is {value}; "
                    "use another --output, or the same data and settings"
                )
        return
    strangers = [
        path.name for path in cache.iterdir() if not path.name.startswith((".", "clip-", "teacher-", MANIFEST))
    ]
    if strangers:
        raise FileExistsError(f"{cache} is no embedding cache, it holds {strangers[0]}; choose another --output")
    write_json(manifest, {"format": FORMAT, "data": data, "sets": {}})


def read_manifest(cache: Path) -> dict[str, Any]:
    """The manifest of a cache. Raises ValueError for a file that this did not write."""
    manifest = read_json(cache / MANIFEST, "embed into another folder")
    whole = isinstance(manifest, dict) and manifest.get("format") == FORMAT and isinstance(manifest.get("data"), dict)
    sets = manifest.get("sets") if whole else None
    whole = isinstance(sets, dict) and all(
        _is_set(each) and isinstance(each.get("rows"), int) for each in sets.values()
    )
    if not whole or (sets and not {"shards", "fingerprint"} <= {*manifest["data"]}):
        raise ValueError(
            f"{cache / MANIFEST} is not the manifest of an embedding cache of format {FORMAT}; choose another folder"
        )
    return manifest


def _is_set(content: Any) -> bool:
    """Whether ``content`` says what a set was made with."""
    return (
        isinstance(content, dict) and isinstance(content.get("recipe"), dict) and isinstance(content.get("origin"), str)
    )


def sets_in(cache: Path) -> list[VectorSet]:
    """Every set of a cache, complete or not."""
    return [VectorSet(path.parent) for path in sorted(cache.glob("*/set.json"))]


def finish(cache: Path, shards: int) -> dict[str, Any]:
    """Completes the manifest and ``skipped.csv`` with every set all of whose ``shards`` are there;
    returns the manifest.

    Every process calls it when its own work is done. Two at once may overwrite each other's
    manifest, so each looks again after writing until nothing new is there: whoever writes last has
    seen everything.
    """
    manifest = _complete(cache, shards)
    while (again := _complete(cache, shards)) != manifest:
        manifest = again
    return manifest


def _complete(cache: Path, shards: int) -> dict[str, Any]:
    manifest, skipped = read_manifest(cache), set()
    for each in sets_in(cache):
        folder = each.folder
        if all(each.has(index) for index in range(shards)):
            rows = sum(each.rows(index) for index in range(shards))
            manifest["sets"][folder.name] = {**each.made_with(), "rows": rows}
            skipped.update(pair for index in range(shards) for pair in each.skipped(index))
            for left in folder.glob(".*.part"):  # of killed runs
                left.unlink(missing_ok=True)
            digests = "".join(each.digest(index) for index in range(shards))
            manifest["data"] |= {"shards": shards, "fingerprint": hashlib.sha256(digests.encode()).hexdigest()}
    columns = ("id", "error")
    write_csv(cache / "skipped.csv", (dict(zip(columns, pair)) for pair in sorted(skipped)), columns)
    write_json(cache / MANIFEST, manifest)
    return manifest


def complete_set(cache: Path, sets: dict[str, Any], recipe: ClipRecipe | TeacherRecipe) -> VectorSet:
    """The one of a manifest's ``sets`` that the recipe asks for. Raises ValueError, saying what is
    there instead."""
    kind, instruction = _kind(recipe), recipe.instructions[0] if isinstance(recipe, TeacherRecipe) else None
    for name, entry in sets.items():
        if _is_for(name, entry, recipe, instruction):
            return VectorSet(cache / name)
    wanted = set_recipe(recipe, instruction)
    there = [_defaults(type(recipe)) | entry["recipe"] for name, entry in sets.items() if name.startswith(kind)]
    held = "; ".join(_differences(wanted, other) for other in there) or "none that is complete"
    raise ValueError(
        f"{cache} has no complete {kind} vectors as the recipe wants them ({wanted['model'] or wanted['kind']}). "
        f"It has: {held}. Run expclip embed with this recipe"
    )


def _differences(wanted: dict[str, Any], held: dict[str, Any]) -> str:
    return ", ".join(f"{k} {held.get(k)!r} (wanted: {v!r})" for k, v in wanted.items() if held.get(k) != v)
