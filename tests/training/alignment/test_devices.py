"""One process trains on one device, whatever else is visible: devices are counted by patching, for the machine may have none."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from tests.training.conftest import write_faces
from training.alignment.loss import AlignmentModel
from training.alignment.run import train, training_arguments
from training.embeddings.pairs import Pairs
from training.recipe import ClipRecipe, Recipe, load_recipe

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


@pytest.fixture
def devices(monkeypatch):
    """``devices(8)``: the Trainer sees eight GPUs; what is computed stays on the CPU."""

    def make(count: int) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr("training.models.clip.local_device", lambda: torch.device("cpu"))

    return make


@pytest.fixture
def batches(monkeypatch):
    """The size of every batch that the loss saw."""
    seen, forward = [], AlignmentModel.forward

    def recording(self, image, teacher):
        seen.append(len(image))
        return forward(self, image, teacher)

    monkeypatch.setattr(AlignmentModel, "forward", recording)
    return seen


class Vectors(Pairs):
    """Pairs that no cache holds."""

    def __init__(self, image: torch.Tensor, teacher: torch.Tensor) -> None:
        dtypes = [np.dtype((np.float32, vectors.shape[1])) for vectors in (image, teacher)]
        super().__init__((), np.array([len(image)]), dtypes, {})
        self.image, self.teacher = image, teacher

    def __getitems__(self, places):
        rows = torch.tensor([int(row) for _, row in places])
        return {"image": self.image[rows], "teacher": self.teacher[rows]}


def pairs(faces: int, projection_dim: int = 24, alignment_dim: int = 30) -> Pairs:
    torch.manual_seed(0)
    image, teacher = torch.randn(faces, projection_dim), torch.randn(faces, alignment_dim)
    return Vectors(image, teacher)


def small(name: str, clip_folder: Path) -> Recipe:
    return dataclasses.replace(load_recipe(RECIPES / f"{name}.yaml"), clip=ClipRecipe(str(clip_folder)))


def head(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")["projection_head.weight"]


def test_the_papers_recipe_on_eight_devices_is_the_papers(tmp_path, clip_folder, devices, batches, capsys):
    devices(8)
    train(small("paper-b32", clip_folder), pairs(48_640), 30, None, {}, tmp_path / "run", {}, CLASSES)
    assert (len(batches), set(batches)) == (475, {512})  # five times the paper's 95
    said = capsys.readouterr().out
    assert said.count("training on 1 of 8 devices, 7 idle; `torchrun --nproc_per_node 8 -m training.train") == 1


def test_600_faces_on_two_devices_are_trained_on(tmp_path, clip_folder, devices, batches):
    devices(2)
    train(small("mini", clip_folder), pairs(600), 30, None, {}, tmp_path / "run", {}, CLASSES)
    assert (len(batches), set(batches)) == (50, {512})


def test_a_run_on_several_devices_is_that_on_one(tmp_path, recipe, devices, capsys):
    """Head, log and the scores along the way."""
    wanted, faces = load_recipe(recipe()), {"small": str(write_faces(tmp_path / "faces.parquet", 12))}
    for count in (0, 1, 3):
        devices(count)
        train(wanted, pairs(50), 30, None, {}, tmp_path / str(count), faces, CLASSES)
        assert ("idle" in capsys.readouterr().out) == (count > 1)
    rows = {count: list(csv.DictReader((tmp_path / str(count) / "log.csv").open())) for count in (0, 1, 3)}
    assert rows[0] == rows[1] == rows[3] and rows[0][-1]["eval_small_mean_uar"]
    torch.testing.assert_close(head(tmp_path / "3"), head(tmp_path / "0"), atol=0, rtol=0)


def test_a_run_without_a_step_is_refused_before_anything_is_written(tmp_path, clip_folder, monkeypatch):
    """No data is too little today; should the Trainer ever make other batches than asked for, a run must not end untrained."""
    monkeypatch.setattr(TrainingArguments, "train_batch_size", property(lambda _: 1024))
    with pytest.raises(ValueError, match="600 faces in batches of 1024 on 1 process are 0 steps"):
        train(small("mini", clip_folder), pairs(600), 30, None, {}, tmp_path / "run", {}, CLASSES)
    assert not (tmp_path / "run").exists()


def test_arguments_say_one_device(tmp_path, devices):
    devices(4)
    arguments = training_arguments(load_recipe(RECIPES / "mini.yaml").training, 5000, tmp_path / "run", True)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 512)
