"""What training reads of a cache: CLIP's and the teacher's vector of each face, joined on ``id``.

One window of them is in memory at a time (``order.py`` says which), read from the shards as they
are: a copy to map into memory would be the disk once more, and rows of it that are far apart would
each cost a seek.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset

from ..recipe import ClipRecipe, TeacherRecipe
from ..support.processes import rank
from .cache import MANIFEST, VectorSet, complete_set, read_manifest
from .order import Order, Piece, Window

WINDOW = 128 * 2**20  # bytes of vectors in memory
_BLOCK = 2**20  # bytes of vectors that are decoded at once, of each of the shards side by side
_READERS = 4


class Pairs(Dataset):
    """For each face that has both its ``image`` (D) and its ``teacher`` (H) vector.

    ``counts`` (shards,) says how many of them each shard has, ``widths`` is (D, H). ``origin`` says
    what they were made from: the faces, what else the teacher read, CLIP's and the teacher's
    weights.
    """

    def __init__(
        self, sets: tuple[VectorSet, VectorSet], counts: np.ndarray, dtypes: list[np.dtype], origin: dict[str, str]
    ) -> None:
        self.sets, self.counts, self.dtypes, self.origin = sets, counts, dtypes, origin
        self.widths = tuple(each.shape[0] for each in dtypes)
        self.window: Window = ()
        self.vectors: list[np.ndarray] = []  # of the window: (rows, D) and (rows, H)
        self.readers: dict[int, _Reader] = {}  # of shards that were read in part

    def __len__(self) -> int:
        return int(self.counts.sum())

    def order(self, batch: int, rank: int, world: int, seed: int, epoch: Callable[[], int]) -> Order:
        """The sampler for this process, see ``Order``."""
        return Order(self.counts, self.most, batch, rank, world, seed, epoch)

    @property
    def most(self) -> int:
        """How many pairs are in memory at a time."""
        return max(1, WINDOW // sum(each.itemsize for each in self.dtypes))

    def __getitems__(self, places: list[tuple[Window, int]]) -> dict[str, torch.Tensor]:
        """A batch, float32: (B, D) and (B, H). ``places`` are what ``order`` gives.

        Raises ValueError naming the shard that is damaged, OSError where one cannot be read.
        """
        parts = []
        for window, rows in itertools.groupby(places, operator.itemgetter(0)):
            self._load(window)
            chosen = torch.from_numpy(np.array([row for _, row in rows]))
            parts.append([torch.from_numpy(vectors)[chosen].float() for vectors in self.vectors])
        image, teacher = (torch.cat(part) for part in zip(*parts))
        return {"image": image, "teacher": teacher}

    def blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All pairs once, in the order of the data, a few at a time: float32 (N, D) and (N, H)."""
        for shard, count in enumerate(self.counts):
            reader = _Reader(self.sets, shard, self.dtypes)
            most = _rows(max(self.dtypes, key=lambda each: each.itemsize))
            for start in range(0, count, most):
                into = [np.empty(min(most, count - start), each) for each in self.dtypes]
                reader.read(into)
                yield tuple(torch.from_numpy(vectors).float() for vectors in into)

    def _load(self, window: Window) -> None:
        if window == self.window:
            return
        self.window, self.vectors = (), []  # first, or two would be in memory
        rows = np.cumsum([0, *(piece.stop - piece.start for piece in window)])
        vectors = [np.empty(rows[-1], each) for each in self.dtypes]

        def read(piece: Piece, start: int) -> dict[int, _Reader]:
            reader = self.readers.get(piece.shard)
            if reader is None or reader.row != piece.start:  # a shard's first piece, or a run that goes on
                reader = _Reader(self.sets, piece.shard, self.dtypes)
                reader.skip(piece.start)
            reader.read([each[start : start + piece.stop - piece.start] for each in vectors])
            # One that has read its shard is done here: a window of narrow vectors has hundreds, of megabytes each.
            return {piece.shard: reader} if reader.row < self.counts[piece.shard] else {}

        with ThreadPoolExecutor(_READERS) as threads:
            unfinished = list(threads.map(read, window, rows))
        pa.default_memory_pool().release_unused()  # Arrow keeps what threads that ended have freed
        # Of another group of shards none is read any further.
        self.readers = {shard: each for found in unfinished for shard, each in found.items()}
        self.window, self.vectors = window, vectors


def _rows(dtype: np.dtype) -> int:
    return max(1, _BLOCK // dtype.itemsize)


class _Reader:
    """The pairs of one shard from its start, a few at a time; ``row`` is the next."""

    def __init__(self, sets: tuple[VectorSet, VectorSet], shard: int, dtypes: list[np.dtype]) -> None:
        self.row = 0
        self.columns = [
            _Column(each.vectors(shard, dtype, _rows(dtype)), kept)
            for each, dtype, kept in zip(sets, dtypes, joined(sets, shard)[1])
        ]

    def read(self, into: list[np.ndarray]) -> None:
        """Fills arrays (n, D) and (n, H) with the next n."""
        for column, vectors in zip(self.columns, into):
            column.read(vectors)
        self.row += len(into[0])

    def skip(self, rows: int) -> None:
        for column in self.columns:
            column.skip(rows)
        self.row += rows


class _Column:
    """The rows of blocks (n, H) that are ``kept`` (N,), any number at a time."""

    def __init__(self, blocks: Iterator[np.ndarray], kept: np.ndarray) -> None:
        self.blocks, self.kept, self.left = blocks, kept, None

    def _next(self, most: int) -> np.ndarray:
        while self.left is None or not len(self.left):
            block = next(self.blocks)  # there is one more: ``vectors`` raises where a shard ends early
            self.left, self.kept = block[self.kept[: len(block)]], self.kept[len(block) :]
        rows, self.left = self.left[:most], self.left[most:]
        return rows

    def read(self, into: np.ndarray) -> None:
        start = 0
        while start < len(into):
            rows = self._next(len(into) - start)
            into[start : start + len(rows)] = rows
            start += len(rows)

    def skip(self, rows: int) -> None:
        while rows:
            rows -= len(self._next(rows))


def joined(sets: tuple[VectorSet, VectorSet], shard: int) -> tuple[pa.Array, tuple[np.ndarray, np.ndarray]]:
    """The ids of one shard's pairs, and which rows of either set they are."""
    left, right = (each.ids(shard) for each in sets)
    if left.equals(right):
        return left, (np.ones(len(left), bool), np.ones(len(left), bool))
    kept = tuple(pc.is_in(one, value_set=other) for one, other in ((left, right), (right, left)))
    if not left.filter(kept[0]).equals(right.filter(kept[1])):
        raise ValueError(f"{sets[0].path(shard)} and {sets[1].path(shard)} list faces in another order; embed again")
    return left.filter(kept[0]), tuple(mask.to_numpy(zero_copy_only=False) for mask in kept)


def load_pairs(cache: Path, clip: ClipRecipe, teacher: TeacherRecipe) -> Pairs:
    """Joins CLIP's and the teacher's vectors on ``id``. Reads ids only; vectors when they are wanted.

    Raises FileNotFoundError where there is no cache, ValueError where it is not complete or does
    not hold the recipe's sets.
    """
    if not (cache / MANIFEST).is_file():
        raise FileNotFoundError(f"no embedding cache at {cache}; make one with `expclip embed`")
    if len(teacher.instructions) > 1:
        raise ValueError(
            f"the recipe has {len(teacher.instructions)} instructions and a head learns from one; "
            "choose it with --override teacher.instruction='...'"
        )
    manifest = read_manifest(cache)
    sets = (complete_set(cache, manifest["sets"], clip), complete_set(cache, manifest["sets"], teacher))
    shards = range(manifest["data"]["shards"])
    counts, items, dtypes = np.zeros(len(shards), np.int64), hashlib.sha256(), []
    hashes = array("q")  # of all ids, in one process: their names would be a gigabyte for ten million
    for shard in shards:
        first, second = (each.about(shard) for each in sets)
        if first["digest"] != second["digest"]:
            raise ValueError(
                f"shard {shard} of {sets[0].folder} and {sets[1].folder} hold different faces; embed again"
            )
        ids, _ = joined(sets, shard)
        if not len(ids):
            continue
        dtypes = dtypes or [first["dtype"], second["dtype"]]
        for each, about, dtype in zip(sets, (first, second), dtypes):
            if about["dtype"] != dtype:
                raise ValueError(
                    f"{each.folder} holds vectors of {dtype.shape[0]} {dtype.base} and of {about['dtype'].shape[0]} "
                    f"{about['dtype'].base} numbers; they must be of one length and kind"
                )
        if rank() == 0:
            hashes.extend(map(hash, ids.to_pylist()))
        counts[shard] = len(ids)
        items.update(second["items"].encode())
    total = int(counts.sum())
    if (twice := _twice(sets, np.asarray(hashes), shards)) is not None:
        raise ValueError(
            f"{cache}: the id {twice!r} stands for two faces; give every face an id of its own and embed again"
        )
    if total < 2:
        raise ValueError(f"{cache} has {total} faces with both vectors; training compares faces, so it needs 2 or more")
    origins = {kind: manifest["sets"][each.folder.name]["origin"] for kind, each in zip(("clip", "teacher"), sets)}
    origins |= {"data": manifest["data"]["fingerprint"], "items": items.hexdigest()}
    return Pairs(sets, counts, dtypes, origins)


def _twice(sets: tuple[VectorSet, VectorSet], hashes: np.ndarray, shards: range) -> str | None:
    """An id that occurs twice, or None. ``hashes`` (N,), of all ids, are sorted."""
    hashes.sort()
    same = {*hashes[1:][hashes[1:] == hashes[:-1]].tolist()}
    if not same:
        return None
    names = (name for shard in shards for name in joined(sets, shard)[0].to_pylist() if hash(name) in same)
    return next((name for name, count in Counter(names).items() if count > 1), None)
