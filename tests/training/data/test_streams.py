"""Streams shared out among processes: the shards of one, and nobody reads what is another's."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.training.conftest import write_faces
from training.data.faces import load_faces
from training.embeddings.fill import embed, shards_of
from training.recipe import load_recipe


def shards(cache: Path) -> dict[str, bytes]:
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in sorted(cache.glob("*/part-*.parquet"))}


@pytest.fixture
def files(tmp_path):
    """Four files of 10 faces in groups of 4 rows, without ids, which are then their numbers in all."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(4):
        table = pq.read_table(write_faces(tmp_path / f"{i}.parquet", 10, seed=i, broken=(3,))).drop_columns("id")
        pq.write_table(table, folder / f"{i}.parquet", row_group_size=4)
    return folder


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_any_number_of_processes_fills_the_cache_of_one(tmp_path, recipe, files, world, monkeypatch):
    second = write_faces(tmp_path / "more.parquet", 9, seed=9)
    sources = [str(files), str(second)]
    embed(load_recipe(recipe()), sources, tmp_path / "whole", 8)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        embed(load_recipe(recipe()), sources, tmp_path / "streamed", 8, streaming=True)
    assert len(shards(tmp_path / "whole")) == 14
    assert shards(tmp_path / "streamed") == shards(tmp_path / "whole")


def test_a_process_reads_its_own_files_only(files):
    """What is another's may even be damaged, but for the end, which says how many rows there are."""
    whole = {rank: list(shards_of(load_faces([str(files)], streaming=True), 10, rank, 2)) for rank in (0, 1)}
    for file in sorted(files.iterdir())[2:]:
        content = bytearray(file.read_bytes())
        end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[4:end] = bytes(end - 4)
        file.write_bytes(content)
    first = list(shards_of(load_faces([str(files)], streaming=True), 10, 0, 2))
    assert first == whole[0] and [rows is None for _, rows in first] == [False, False, True, True]
    with pytest.raises((OSError, ValueError)):
        list(shards_of(load_faces([str(files)], streaming=True), 10, 1, 2))


def test_a_process_converts_its_own_rows_only(files, monkeypatch):
    """Also where its part begins within a file."""
    converted = []
    monkeypatch.setattr("training.data.faces._known", lambda *_: converted.append(1))
    parts = [list(shards_of(load_faces([str(files)], streaming=True), 8, rank, 3)) for rank in range(3)]
    assert len(converted) == 40
    assert [[i for i, rows in part if rows] for part in parts] == [[0], [1, 2], [3, 4]]


def test_a_stream_that_does_not_say_its_length_is_walked(files, monkeypatch, capsys):
    whole = [rows for _, rows in shards_of(load_faces([str(files)], streaming=True), 8, 0, 1)]
    monkeypatch.setattr("training.data.streams._parquet_files", lambda _: None)
    parts = [list(shards_of(load_faces([str(files)], streaming=True), 8, rank, 2)) for rank in range(2)]
    assert [rows or other for (_, rows), (_, other) in zip(*parts)] == whole
    assert capsys.readouterr().out.count("each of 2 processes reads this whole stream") == 1
