"""Faces as a stream of rows that can begin anywhere, so that several processes share it out and
each reads its own part.

Parquet files say at their ends how many rows they hold. A process skips the files before its part
without opening them, and in the first of its own the rows before it, which are read but neither
converted nor decoded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pyarrow.parquet as pq
from datasets import IterableDataset

_READERS = 16  # files whose ends are read at once; over a network most of it is waiting

Named = Callable[[dict[str, Any], int], dict[str, Any]]


class Stream:
    """Rows of tables, one table after the other; ``named`` gives the columns of a row that depend
    on its number in the table."""

    def __init__(self, tables: Sequence[tuple[IterableDataset, Named]]) -> None:
        self.tables = list(tables)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for table, named in self.tables:
            for number, row in enumerate(table):
                yield {**row, **named(row, number)}

    def lengths(self) -> list[list[int]] | None:
        """The number of rows of each file of each table; None where one does not say it. Raises
        ValueError for damaged files."""
        files = [_parquet_files(table) for table, _ in self.tables]
        if None in files:
            return None
        with ThreadPoolExecutor(_READERS) as readers:
            return [list(readers.map(_rows_of, each)) for each in files]

    def rows(self, lengths: list[list[int]], start: int) -> Iterator[dict[str, Any]]:
        """The rows from number ``start`` of all; ``lengths`` are those of ``lengths()``."""
        for (table, named), counts in zip(self.tables, lengths):
            first = 0  # of this file, in its table
            for index, count in enumerate(counts):
                if start < count:
                    part = table.shard(num_shards=len(counts), index=index).skip(start)
                    for number, row in enumerate(part, first + start):
                        yield {**row, **named(row, number)}
                start, first = max(0, start - count), first + count


def joined(streams: Sequence[Stream]) -> Stream:
    return Stream(list(itertools.chain.from_iterable(stream.tables for stream in streams)))


def _parquet_files(table: IterableDataset) -> list[str] | None:
    source = table._ex_iterable  # there is no public name for the files that a stream reads
    while hasattr(source, "ex_iterable"):
        source = source.ex_iterable
    options = getattr(source, "kwargs", {})
    files = options.get("files")
    whole = not any(options.get("row_groups_list") or ())
    if not whole or not isinstance(files, list) or len(files) != table.num_shards:
        return None
    return files if all(isinstance(file, str) and file.endswith(".parquet") for file in files) else None


def _rows_of(file: str) -> int:
    try:
        with fsspec.open(file) as content:
            return pq.read_metadata(content).num_rows
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {error}") from error
