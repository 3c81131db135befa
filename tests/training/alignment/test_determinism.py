"""The same seed, the same result: bit for bit in one process, within stated bounds where sums are taken in another order."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import call, content_of, write_faces
from training.alignment.run import train_from_cache
from training.embeddings.fill import embed
from training.recipe import load_recipe

# Matrix products of other sizes, or on another number of threads, add up in another order.
VECTORS, HEADS, PROBABILITIES = 1e-5, 1e-4, 1e-5
CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


@pytest.fixture
def faces(tmp_path) -> Path:
    return write_faces(tmp_path / "faces.parquet", 50, broken=(11,), width=30)


@pytest.fixture
def two_threads():
    """Some number of threads other than what a test sets itself, restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def content(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): content_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def vectors(cache: Path) -> np.ndarray:
    tables = [pq.read_table(path) for path in sorted(cache.glob("clip-*/part-*.parquet"))]
    return np.concatenate([np.stack(table["embedding"].to_pylist()) for table in tables])  # (faces, D)


def head(run: Path) -> torch.Tensor:
    return load_file(run / "model.safetensors")["projection_head.weight"]


def test_two_caches_are_the_same_files(tmp_path, recipe, faces):
    wanted = load_recipe(recipe())
    for name in ("one", "other"):
        embed(wanted, [str(faces)], tmp_path / name, 8)
    embed(wanted, [str(faces)], tmp_path / "streamed", 8, streaming=True)
    one, other, streamed = (content(tmp_path / name) for name in ("one", "other", "streamed"))
    assert one == other
    assert {name for name in one if one[name] != streamed[name]} == {
        "manifest.json"
    }  # a stream's rows are not known before


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_fills_the_same_cache(tmp_path, recipe, faces, monkeypatch, world):
    """As torchrun starts them, one after the other, and not in order."""
    wanted = load_recipe(recipe())
    embed(wanted, [str(faces)], tmp_path / "alone", 8)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    for rank in reversed(range(world)):
        monkeypatch.setenv("RANK", str(rank))
        embed(wanted, [str(faces)], tmp_path / "shared", 8)
    assert content(tmp_path / "shared") == content(tmp_path / "alone")


def test_other_batches_and_threads_move_vectors_by_rounding_only(tmp_path, recipe, faces, two_threads):
    embed(load_recipe(recipe()), [str(faces)], tmp_path / "eights", 8)
    embed(load_recipe(recipe(), ["faces.batch_size=5"]), [str(faces)], tmp_path / "fives", 50)
    torch.set_num_threads(1)
    embed(load_recipe(recipe()), [str(faces)], tmp_path / "one thread", 8)
    expected = vectors(tmp_path / "eights")
    assert expected.shape == (49, 24)
    for name in ("fives", "one thread"):
        np.testing.assert_allclose(vectors(tmp_path / name), expected, atol=VECTORS, rtol=0)


def test_two_runs_end_in_the_same_files_and_another_seed_in_others(tmp_path, recipe, faces):
    embed(load_recipe(recipe()), [str(faces)], tmp_path / "cache", 16)
    for name, seed in (("one", 3), ("other", 3), ("another seed", 4)):
        wanted = load_recipe(recipe(), [f"training.seed={seed}"])
        train_from_cache(wanted, tmp_path / "cache", tmp_path / name, {}, CLASSES)
    one, other = (
        {
            name: file
            for name, file in content(tmp_path / folder).items()
            if not name.startswith(("runs/", "checkpoint-"))
        }
        for folder in ("one", "other")
    )
    assert {"model.safetensors", "golden.safetensors", "log.csv", "recipe.yaml", "README.md"} <= one.keys()
    assert one == other
    assert (head(tmp_path / "one") - head(tmp_path / "another seed")).abs().max() > 0.01


@pytest.mark.parametrize("order", ["optimizer=sgd", "optimizer=adamw"])
def test_the_order_of_faces_comes_from_the_seed_alone(tmp_path, recipe, faces, order):
    """Neither what was drawn before in this process nor evaluating along the way changes what is learned."""
    embed(load_recipe(recipe()), [str(faces)], tmp_path / "cache", 16)
    wanted = load_recipe(recipe(), [f"training.{order}"])
    train_from_cache(wanted, tmp_path / "cache", tmp_path / "plain", {}, CLASSES)
    torch.rand(1000), np.random.rand(1000)
    train_from_cache(
        wanted,
        tmp_path / "cache",
        tmp_path / "evaluated",
        {"small": str(write_faces(tmp_path / "e.parquet", 8))},
        CLASSES,
    )
    torch.testing.assert_close(head(tmp_path / "plain"), head(tmp_path / "evaluated"), atol=0, rtol=0)


def test_other_threads_move_a_head_by_rounding_only(tmp_path, recipe, faces, two_threads):
    embed(load_recipe(recipe()), [str(faces)], tmp_path / "cache", 16)
    for threads in (2, 1):
        torch.set_num_threads(threads)
        train_from_cache(load_recipe(recipe()), tmp_path / "cache", tmp_path / str(threads), {}, CLASSES)
    torch.testing.assert_close(head(tmp_path / "1"), head(tmp_path / "2"), atol=HEADS, rtol=0)


def test_a_benchmark_gives_the_same_answers_in_any_batches(tmp_path, checkpoint, faces, monkeypatch):
    tables, scores = {}, {}
    for name, batch in (("one", 64), ("other", 64), ("fives", 5), ("singles", 1)):
        output = tmp_path / name
        arguments = ("--model", checkpoint, "--data", f"mine={faces}", "--output", output, "--batch-size", batch)
        assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
        tables[name] = pq.read_table(output / "expclip-small" / "mine" / "predictions.parquet")
        rows = csv.DictReader((output / "results.csv").open(newline=""))
        scores[name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    assert tables["one"].equals(tables["other"]) and scores["one"] == scores["other"]
    for name in ("fives", "singles"):
        assert scores[name] == scores["one"]
        for column in tables["one"].column_names:
            found, expected = (tables[each][column].to_pylist() for each in (name, "one"))
            if column.startswith("p_"):
                np.testing.assert_allclose(np.float64(found), np.float64(expected), atol=PROBABILITIES, rtol=0)
            else:
                assert found == expected
