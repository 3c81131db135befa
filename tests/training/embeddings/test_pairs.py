"""Training reads pairs a window at a time: which come when, that they are the cache's, and what they take of memory and disk."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.training.conftest import REPOSITORY, write_faces
from training.alignment.run import train_from_cache
from training.embeddings import cache as caches
from training.embeddings import pairs as pairs_module
from training.embeddings.cache import Shard, VectorSet, set_name
from training.embeddings.fill import embed
from training.embeddings.order import Order
from training.embeddings.pairs import Pairs, load_pairs
from training.recipe import ClipRecipe, TeacherRecipe, load_recipe

CLIP, TEACHER = ClipRecipe("c"), TeacherRecipe("vectors")


def write_cache(folder: Path, counts: list[int], widths: tuple[int, int] = (4, 6), left_out: int = 0) -> Path:
    """A cache of random vectors; of every shard's first faces the teacher has not seen ``left_out``, of its last CLIP has not."""
    caches.begin(folder, {"sources": [], "rows": sum(counts), "shard_size": max(counts)})
    generator = torch.Generator().manual_seed(0)
    for recipe, instruction, width in ((CLIP, None, widths[0]), (TEACHER, "", widths[1])):
        each = VectorSet(folder / set_name(recipe, instruction))
        each.begin(recipe, instruction, "somewhere")
        for index, rows in enumerate(counts):
            ids, vectors = [f"face-{index}-{row}" for row in range(rows)], torch.randn(rows, width, generator=generator)
            kept = slice(rows - left_out) if instruction is None else slice(left_out, None)
            each.write(index, Shard(ids[kept], vectors[kept], [], "", ""))
    caches.finish(folder, len(counts))
    return folder


def vectors_by_id(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    sets = []
    for kind in ("clip", "teacher"):
        tables = [pq.read_table(path) for path in sorted(folder.glob(f"{kind}-*/part-*.parquet"))]
        sets.append({name: np.float32(row) for table in tables for name, row in zip(table["id"].to_pylist(), table["embedding"].to_pylist())})  # fmt: skip
    return {name: (sets[0][name], sets[1][name]) for name in sets[0] if name in sets[1]}


def order(counts: list[int], most: int, batch: int = 8, rank: int = 0, world: int = 1, seed: int = 0, epoch: int = 0) -> Order:  # fmt: skip
    return Order(np.array(counts), most, batch, rank, world, seed, lambda: epoch)


def places(taken: Order) -> Iterator[tuple[int, int]]:
    """Shard and row of every pair that is this process's."""
    for place in taken:
        if place is not None:
            window, row = place
            spots = [(piece.shard, each) for piece in window for each in range(piece.start, piece.stop)]
            yield spots[row]


COUNTS = [[30], [7, 0, 13, 1, 40], [16] * 40, [5] * 100, [300, 2, 2]]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("most", [1, 10, 64, 10_000])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_takes_no_pair_twice_and_all_but_a_last_batch(counts, most, world):
    batch, total = 2, sum(counts)
    steps = total // (batch * world)
    taken = [list(order(counts, most, batch, rank, world)) for rank in range(world)]
    assert {len(each) for each in taken} == {len(order(counts, most, batch, 0, world))} == {steps * batch * world}
    mine = []  # as accelerate shares batches out
    for rank, each in enumerate(taken):
        for step in range(steps):
            start = (step * world + rank) * batch
            mine += each[start : start + batch]
    assert None not in mine and len(mine) == steps * batch * world
    spots = []
    for window, row in mine:
        for piece in window:
            if row < piece.stop - piece.start:
                spots.append((piece.shard, piece.start + int(row)))
                break
            row -= piece.stop - piece.start
    assert len(set(spots)) == len(spots)
    assert all(row < counts[shard] for shard, row in spots)
    # Where pieces of shards are rounded, a row more of each.
    assert all(sum(piece.stop - piece.start for piece in window) < most + len(window) for window, _ in mine)


def test_what_fits_is_shuffled_as_any_data_set():
    expected = torch.randperm(90, generator=torch.Generator().manual_seed(3 + 2)).tolist()
    counts = [30, 20, 40]
    rows = [row for _, row in order(counts, 90, 10, seed=3, epoch=2)]
    assert rows == expected
    alone = list(order(counts, 90, 10))
    assert [list(order(counts, 90, 5, rank, 2)) for rank in range(2)] == [alone, alone]


def test_each_epoch_and_seed_has_its_order_and_always_the_same():
    counts = [16] * 40
    orders = {
        (seed, epoch): list(places(order(counts, 100, seed=seed, epoch=epoch))) for seed in (0, 5) for epoch in (0, 1)
    }
    assert list(places(order(counts, 100, seed=5, epoch=1))) == orders[5, 1]
    assert len({tuple(each) for each in orders.values()}) == 4


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_is_drawn_from_many_shards(world):
    """Shards follow the data, which may be sorted by class: a batch of few shards would have few classes to tell apart."""
    taken = list(places(order([512] * 64, 4096, 256, world=world)))
    for start in range(0, len(taken), 256):
        shards = [shard for shard, _ in taken[start : start + 256]]
        assert len(set(shards)) >= 14 and max(map(shards.count, shards)) < 64
    # Neighbours of the data, a person's pictures, are no neighbours of the order.
    assert sum(one[0] == other[0] for one, other in itertools.pairwise(taken)) < len(taken) / 8


@pytest.fixture
def small_window(monkeypatch):
    """Room for 24 pairs of 4 and 6 numbers."""
    monkeypatch.setattr(pairs_module, "WINDOW", 24 * 40)


@pytest.mark.parametrize("left_out", [0, 3])
def test_batches_are_the_caches_vectors(tmp_path, small_window, left_out):
    counts = [20] * 18 + [left_out, 11]
    folder = write_cache(tmp_path / "cache", counts, left_out=left_out)
    pairs, expected = load_pairs(folder, CLIP, TEACHER), vectors_by_id(folder)
    assert len(pairs) == len(expected) and pairs.widths == (4, 6) and pairs.most == 24
    whole = [torch.cat(part).numpy() for part in zip(*pairs.blocks())]
    for found, part in zip(whole, zip(*expected.values())):
        np.testing.assert_array_equal(found, np.stack(part))
    names = {image.tobytes(): name for name, (image, _) in expected.items()}
    taken, seen = list(pairs.order(7, 0, 1, 0, lambda: 1)), []
    for start in range(0, len(taken), 7):
        batch = pairs.__getitems__(taken[start : start + 7])
        assert batch["image"].dtype == batch["teacher"].dtype == torch.float32
        for image, teacher in zip(batch["image"].numpy(), batch["teacher"].numpy()):
            seen.append(names[image.tobytes()])
            np.testing.assert_array_equal(teacher, expected[seen[-1]][1])
    assert len(set(seen)) == len(seen) == len(expected) // 7 * 7
    # From the middle, as a run that goes on: the same batch.
    again = load_pairs(folder, CLIP, TEACHER).__getitems__(taken[140:147])
    assert all(torch.equal(again[name], pairs.__getitems__(taken[140:147])[name]) for name in again)


def test_each_shard_is_decoded_once_an_epoch(tmp_path, small_window, monkeypatch):
    pairs = load_pairs(write_cache(tmp_path / "cache", [20] * 40), CLIP, TEACHER)
    opened, whole = [], VectorSet.vectors
    monkeypatch.setattr(VectorSet, "vectors", lambda self, index, *rest: opened.append((self.folder.name, index)) or whole(self, index, *rest))  # fmt: skip
    taken = list(pairs.order(8, 0, 1, 0, lambda: 0))
    for start in range(0, len(taken), 8):
        pairs.__getitems__(taken[start : start + 8])
    assert len(set(opened)) == 80 and len(opened) <= 80 + 2 * 2  # two groups of 20 shards, cut where one has begun


def test_shards_that_were_read_to_their_end_are_let_go(tmp_path, monkeypatch):
    """A window of narrow vectors has hundreds of shards, whose readers hold megabytes each."""
    pairs = load_pairs(write_cache(tmp_path, [8] * 60), CLIP, TEACHER)
    alive, most = 0, 0

    class Counted(pairs_module._Reader):
        def __init__(self, *arguments) -> None:
            nonlocal alive, most
            super().__init__(*arguments)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(pairs_module, "_Reader", Counted)
    first = next(iter(pairs.order(8, 0, 1, 0, lambda: 0)))
    assert len(first[0]) == 60  # all of them are in the window
    pairs.__getitems__([first])
    assert 0 < most <= 2 * pairs_module._READERS and alive == 0


def test_ids_in_another_order_or_twice(tmp_path):
    folder = write_cache(tmp_path / "cache", [5, 5])
    teacher = VectorSet(next(folder.glob("teacher-*")))
    vectors = torch.randn(5, 6)
    teacher.write(1, Shard([f"face-1-{row}" for row in (1, 0, 2, 3, 4)], vectors, [], "", ""))
    with pytest.raises(ValueError, match="part-00001.parquet list faces in another order; embed again"):
        load_pairs(folder, CLIP, TEACHER)
    for each in (teacher, VectorSet(next(folder.glob("clip-*")))):
        width = 6 if each is teacher else 4
        names = [*(f"face-1-{row}" for row in range(4)), "face-0-2"]
        each.write(1, Shard(names, torch.randn(5, width), [], "", ""))
    with pytest.raises(ValueError, match="the id 'face-0-2' stands for two faces"):
        load_pairs(folder, CLIP, TEACHER)


def test_vectors_that_are_damaged_are_named_when_they_are_due(tmp_path, recipe):
    """Not before: to look at each of a hundred million would be an epoch's reading."""
    data, cache = write_faces(tmp_path / "faces.parquet", 60, width=30), tmp_path / "cache"
    wanted = load_recipe(recipe())
    embed(wanted, [str(data)], cache, 16)
    shard = next(cache.glob("teacher-*/part-00002.parquet"))
    content = shard.read_bytes()
    place = pq.read_metadata(shard).row_group(0).column(1)
    middle = place.dictionary_page_offset + place.total_compressed_size // 2
    shard.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    assert len(load_pairs(cache, wanted.clip, wanted.teacher)) == 60
    with pytest.raises(ValueError, match="part-00002.parquet is damaged .*remove it and run expclip embed again"):
        train_from_cache(wanted, cache, tmp_path / "run", {}, ())
    shard.unlink()
    embed(wanted, [str(data)], cache, 16)
    assert shard.read_bytes() == content
    train_from_cache(wanted, cache, tmp_path / "run", {}, ())
    assert (tmp_path / "run" / "config.json").is_file()


# Trains in windows that hold 16 pairs of 24 and 30 numbers, up to the step it is told.
_RUN = """
import sys
from pathlib import Path
import torch
from training.alignment import trainer
from training.alignment.run import train_from_cache
from training.embeddings import pairs
from training.recipe import load_recipe

torch.set_num_threads(1)
pairs.WINDOW = 16 * 54 * 4
recipe, cache, output, last = sys.argv[1:]

class Until(trainer.ExpCLIPTrainer):
    def training_step(self, *arguments, **more):
        if self.state.global_step == int(last):
            raise SystemExit(0)
        return super().training_step(*arguments, **more)

sys.modules["training.alignment.run"].ExpCLIPTrainer = Until
train_from_cache(load_recipe(recipe), Path(cache), Path(output), {}, ())
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_within_a_later_epoch_it_ends_in_the_same_head(tmp_path, recipe, processes):
    from safetensors.torch import load_file

    data, cache = write_faces(tmp_path / "faces.parquet", 150, width=30), tmp_path / "cache"
    settings = recipe(training={"max_steps": 25, "batch_size": 16})  # an epoch has 9 steps
    embed(load_recipe(settings), [str(data)], cache, 8)
    (tmp_path / "run.py").write_text(_RUN)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]

    def run(output: str, last: int) -> None:
        command = [*start, tmp_path / "run.py", settings, cache, tmp_path / output, last]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        result = subprocess.run(list(map(str, command)), cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)  # fmt: skip
        assert result.returncode == 0, result.stderr

    run("undisturbed", -1)
    run("stopped", 17)  # the newest checkpoint is of step 15
    assert not (tmp_path / "stopped" / "config.json").exists() and (tmp_path / "stopped" / "checkpoint-15").is_dir()
    run("stopped", -1)
    one, other = (load_file(tmp_path / name / "model.safetensors")["projection_head.weight"] for name in ("undisturbed", "stopped"))  # fmt: skip
    assert torch.equal(one, other)
    assert (tmp_path / "undisturbed" / "log.csv").read_bytes() == (tmp_path / "stopped" / "log.csv").read_bytes()


def test_a_run_older_than_a_field_is_recognised(tmp_path, recipe, capsys):
    data, cache = write_faces(tmp_path / "faces.parquet", 40, width=30), tmp_path / "cache"
    wanted, output = load_recipe(recipe()), tmp_path / "run"
    embed(wanted, [str(data)], cache, 16)
    train_from_cache(wanted, cache, output, {}, ())
    begun = yaml.safe_load((output / "recipe.yaml").read_text())
    del begun["recipe"]["teacher"]["storage_dtype"]
    (output / "recipe.yaml").write_text(yaml.safe_dump(begun))
    train_from_cache(wanted, cache, output, {}, ())
    assert "is finished" in capsys.readouterr().out


def test_float16_halves_a_teachers_set_and_moves_vectors_by_rounding_only(tmp_path, recipe):
    data, cache = write_faces(tmp_path / "faces.parquet", 64, width=1024), tmp_path / "cache"
    whole, half = (load_recipe(recipe(), [f"teacher.storage_dtype={name}"]) for name in ("float32", "float16"))
    assert set_name(whole.teacher, "") != set_name(half.teacher, "")
    for wanted in (whole, half):
        embed(wanted, [str(data)], cache, 32)
    sizes = [sum(path.stat().st_size for path in (cache / set_name(each.teacher, "")).glob("part-*")) for each in (whole, half)]  # fmt: skip
    assert sizes[1] < 0.55 * sizes[0]
    one, other = (load_pairs(cache, each.clip, each.teacher) for each in (whole, half))
    assert other.most > 1.8 * one.most
    for (image, teacher), (same, rounded) in zip(one.blocks(), other.blocks(), strict=True):
        assert torch.equal(image, same) and rounded.dtype == torch.float32
        assert torch.equal(teacher.half().float(), rounded)
    train_from_cache(half, cache, tmp_path / "run", {}, ())
    assert (tmp_path / "run" / "config.json").is_file()


def test_a_vector_beyond_float16_is_refused(tmp_path, recipe):
    import pyarrow as pa

    table = pq.read_table(write_faces(tmp_path / "faces.parquet", 20))
    vectors = [[value * (1e6 if row == 9 else 1) for value in vector] for row, vector in enumerate(table["embedding"].to_pylist())]  # fmt: skip
    place = table.schema.get_field_index("embedding")
    pq.write_table(table.set_column(place, "embedding", pa.array(vectors, pa.list_(pa.float32()))), tmp_path / "large.parquet")  # fmt: skip
    with pytest.raises(ValueError, match="faces face-8 to face-15: .*not finite in float16"):
        embed(
            load_recipe(recipe(), ["teacher.storage_dtype=float16"]),
            [str(tmp_path / "large.parquet")],
            tmp_path / "cache",
            32,
        )


_MEMORY = """
import re, sys
from pathlib import Path
import pyarrow.parquet
from training.embeddings import pairs as module
from training.recipe import ClipRecipe, TeacherRecipe
from training.alignment.run import mean_of

# Not getrusage, whose figure a process inherits from the one that started it.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
module.WINDOW = 16 * 2**20
before = peak()
pairs = module.load_pairs(Path(sys.argv[1]), ClipRecipe("c"), TeacherRecipe("vectors"))
mean_of(teacher for _, teacher in pairs.blocks())
taken = list(pairs.order(512, 0, 1, 0, lambda: 0))
for start in range(0, len(taken), 512):
    pairs.__getitems__(taken[start : start + 512])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux' /proc")
def test_memory_does_not_grow_with_the_pairs(tmp_path):
    """A third of 214 MB of vectors, and all of them."""
    peaks = []
    for shards in (32, 96):
        folder = write_cache(tmp_path / str(shards), [512] * shards, (64, 1024))
        command = [sys.executable, "-c", _MEMORY, str(folder)]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout) / 2**20)
    assert peaks[1] - peaks[0] < 48, peaks


def test_pairs_are_a_data_set_of_torch(tmp_path):
    pairs = load_pairs(write_cache(tmp_path / "cache", [30, 10]), CLIP, TEACHER)
    loader = torch.utils.data.DataLoader(pairs, 8, sampler=pairs.order(8, 0, 1, 0, lambda: 0), collate_fn=lambda batch: batch)  # fmt: skip
    assert isinstance(pairs, Pairs) and [len(batch["image"]) for batch in loader] == [8] * 5
