"""The order in which training takes pairs: shuffled, cut into windows that fit in memory, shared out
to processes. Numbers only; ``pairs.py`` reads what they stand for.

Shards are shuffled, 16 or more of them are read side by side, and a window takes the next piece of
each: its faces are shuffled. So a batch is drawn from thousands of faces of many places, also where
the data are sorted by person or class, and every shard is read once an epoch, from its start to its
end. Random rows would each cost a disk a seek.

Pairs that fit in one window are shuffled as a whole, and all processes share that order. Of more
pairs each process has as many of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

SIDE_BY_SIDE = 16  # shards, at the least


class Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of the pairs of one shard."""

    shard: int
    start: int
    stop: int


Window = tuple[Piece, ...]  # what is in memory at once


class Order(Sampler[tuple[Window, int] | None]):
    """Of each pair its window, and its row there; ``batch`` of them in a row for each process in
    turn. None stands for a pair of another process, which that one chooses itself.

    Args:
        counts: (shards,) pairs of each shard.
        most: pairs of a window, give or take one of each shard.
        batch: pairs of a process's batch.
        rank, world: number of this process, and how many there are.
        seed: of the order.
        epoch: which epoch begins. Asked, because accelerate tells no sampler that it continues one
            in several processes.
    """

    def __init__(
        self, counts: np.ndarray, most: int, batch: int, rank: int, world: int, seed: int, epoch: Callable[[], int]
    ) -> None:
        self.counts, self.most, self.batch, self.seed, self.epoch = counts, most, batch, seed, epoch
        self.rank, self.world = rank, world
        self.lanes = 1 if counts.sum() <= most else world
        self.rows = int(counts.sum()) // self.lanes  # of a lane

    def __len__(self) -> int:
        return int(self.counts.sum()) // (self.batch * self.world) * self.batch * self.world

    def __iter__(self) -> Iterator[tuple[Window, int] | None]:
        seed = self.seed + self.epoch()
        lanes = [
            self._lane(lane, seed) if self.lanes == 1 or lane == self.rank else itertools.repeat(None)
            for lane in range(self.lanes)
        ]
        for batch in range(len(self) // self.batch):
            yield from itertools.islice(lanes[batch % self.lanes], self.batch)

    def _lane(self, lane: int, seed: int) -> Iterator[tuple[Window, int]]:
        # As the Trainer shuffles other data sets, so that a window of all is in the order of those.
        generator = torch.Generator().manual_seed(seed + (lane << 32))
        for window in self.windows(lane, seed):
            rows = sum(piece.stop - piece.start for piece in window)
            for row in torch.randperm(rows, generator=generator).numpy():
                yield window, row

    def windows(self, lane: int, seed: int) -> Iterator[Window]:
        """The windows of one lane, in their order. Each is sorted: what is in it decides what it is."""
        shards = torch.randperm(len(self.counts), generator=torch.Generator().manual_seed(seed)).numpy()
        ends = np.cumsum(self.counts[shards])
        mine = _pieces(shards, ends, lane * self.rows, (lane + 1) * self.rows)
        groups = min(-(-self.rows // self.most), max(1, len(mine) // SIDE_BY_SIDE))
        for group in range(groups):
            first, last = (lane * self.rows + self.rows * each // groups for each in (group, group + 1))
            pieces = sorted(_pieces(shards, ends, first, last))
            parts = -(-(last - first) // self.most)
            for part in range(parts):
                cut = (_part(piece, part, parts) for piece in pieces)
                yield tuple(piece for piece in cut if piece.start < piece.stop)


def _part(piece: Piece, part: int, parts: int) -> Piece:
    rows = piece.stop - piece.start
    return Piece(piece.shard, piece.start + rows * part // parts, piece.start + rows * (part + 1) // parts)


def _pieces(shards: np.ndarray, ends: np.ndarray, first: int, last: int) -> list[Piece]:
    """Where pairs ``first`` to ``last`` lie, counted through ``shards``, whose last pairs are
    numbered ``ends``."""
    pieces = []
    for place in range(int(np.searchsorted(ends, first, side="right")), len(shards)):
        start = int(ends[place - 1]) if place else 0
        if start >= last:
            break
        piece = Piece(int(shards[place]), max(first - start, 0), min(last, int(ends[place])) - start)
        if piece.start < piece.stop:
            pieces.append(piece)
    return pieces
