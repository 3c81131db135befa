"""Recipes that name no teacher, and teachers in eight bits."""

import importlib.util
import re

import pytest
import torch

from tests.training.teachers.models import ASK, VISION_KINDS, teacher
from training.recipe import TeacherRecipe
from training.teachers.registry import load_teacher


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "llm"}, "unknown kind 'llm' of a teacher; choose one of blip2, instructblip, image-text, captions"),
        ({"model": None}, "kind 'blip2' needs a model"),
        ({"layer": 3}, "'blip2' does not read layer (got 3): leave it out, or choose one of the kinds that do: image-"),
        ({"column": "face"}, "'blip2' does not read column"),
        ({"kind": "captions", "pooling": "image"}, "'captions' does not read pooling"),
        ({"kind": "image-text", "preprocessing": "paper"}, "'image-text' does not read preprocessing"),
        ({"kind": "vectors"}, "'vectors' does not read model"),
    ],
)
def test_bad_specs(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_teacher(TeacherRecipe(**{"kind": "blip2", "model": "somewhere/else"} | options))


def test_quantisation_without_bitsandbytes_says_what_to_install(monkeypatch, blips):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install bitsandbytes"):
        teacher("blip2", blips["blip2"], quantization="8bit")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@VISION_KINDS
def test_eight_bits_are_nearly_as_good(kind, blips, faces):
    vectors = teacher(kind, blips[kind], quantization="8bit", dtype="bfloat16")(faces, ASK)
    assert torch.cosine_similarity(vectors, teacher(kind, blips[kind])(faces, ASK)).min() > 0.98


def test_a_folder_that_is_not_there():
    with pytest.raises(ValueError, match=r"\./nowhere \(folder or Hub id\) has no config to load"):
        teacher("captions", "./nowhere")
