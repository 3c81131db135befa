"""A cache to train from, and what a run leaves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import write_faces
from training.embeddings.fill import embed
from training.recipe import load_recipe

CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


@pytest.fixture
def cached(tmp_path, recipe):
    """Faces and their cache: ``cached(count)``."""

    def make(count: int = 50) -> tuple[Path, Path]:
        data, cache = write_faces(tmp_path / f"{count}.parquet", count, width=30), tmp_path / f"cache{count}"
        embed(load_recipe(recipe()), [str(data)], cache, 16)
        return data, cache

    return make


def head(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")["projection_head.weight"]


def log(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "log.csv").open()))
