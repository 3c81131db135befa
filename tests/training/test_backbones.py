"""The recipes for other backbones, from faces to a verified checkpoint: small random models of the real classes, in the files that
their repositories on the Hub have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPImageProcessorPil

from modeling_expclip import ExpCLIPModel, ExpMetaCLIP2Model, ExpSigLIPModel, load_checkpoint, verify
from tests.backbones import write_metaclip2, write_siglip2
from tests.conftest import picture, small_clip, small_tokenizer
from tests.training.conftest import call, write_faces
from tests.training.teachers.models import write_blip
from tests.training.teachers.test_image_text import SIDE, write_idefics
from training.evaluation.adapters import load_zero_shot_model
from training.recipe import load_recipe

SIZE = {"height": 32, "width": 32}


def flip(folder: Path) -> Path:
    """As FLIP-base-16: a config that calls every end of text 2, weights that torch saved, the vocabulary twice."""
    model = small_clip(legacy_eos=True)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE).save_pretrained(folder)
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def openai(folder: Path) -> Path:
    small_clip(legacy_eos=True).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


# recipe: what writes its backbone and its teacher, and the class that comes out
WHOLE: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Path], type]] = {
    "flip-b16": (flip, lambda folder: write_blip(folder, "blip2"), ExpCLIPModel),
    "metaclip2": (write_metaclip2, lambda folder: write_blip(folder, "blip2"), ExpMetaCLIP2Model),
    "siglip2": (write_siglip2, lambda folder: write_blip(folder, "blip2"), ExpSigLIPModel),
    "laptop-b32": (openai, lambda folder: write_idefics(folder, "right"), ExpCLIPModel),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_makes_a_checkpoint(name, tmp_path, monkeypatch):
    write_backbone, write_teacher, model_class = WHOLE[name]
    folders = {section: tmp_path / section for section in ("clip", "teacher")}
    for section, write in (("clip", write_backbone), ("teacher", write_teacher)):
        folders[section].mkdir()
        write(folders[section])
    clip_folder = str(folders["clip"])
    faces = write_faces(tmp_path / "faces.parquet", 24)
    changes = [f"{section}.model={folder}" for section, folder in folders.items()]
    changes += ["clip.revision=null", "teacher.revision=null", "training.max_steps=2"]
    if load_recipe(name).teacher.longest_edge:
        changes += [f"teacher.longest_edge={SIDE}"]
    options = ("--override", *changes)
    assert call("embed", name, "--data", faces, "--output", tmp_path / "cache", *options, monkeypatch=monkeypatch) == 0
    options = ("--evaluate", f"faces={faces}", *options)
    run = ("train", name, "--embeddings", tmp_path / "cache", "--output-dir", tmp_path / "run")
    assert call(*run, *options, monkeypatch=monkeypatch) == 0
    model, processor = load_checkpoint(tmp_path / "run")
    assert type(model) is model_class
    assert verify(tmp_path / "run")["logits_per_image"] < 1e-3

    # The benchmark scores it as the model does; without the head it is the backbone that went in.
    ours, towers, plain = map(load_zero_shot_model, (str(tmp_path / "run"), f"clip-of:{tmp_path / 'run'}", clip_folder))
    inputs = processor(images=[picture(1)], text=["anger.", "fear."], return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
    got = ours.logits(ours.image_features([picture(1)]), ("anger", "fear"), "class_name")
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    for one, other in zip(
        *([each.image_features([picture(1)]), each.text_features(["fear"])] for each in (towers, plain))
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_revisions_are_commits_or_the_recipe_says_why_not(name):
    recipe = load_recipe(name)
    for model in (recipe.clip, recipe.teacher):
        assert model.revision is None or (len(model.revision) == 40 and int(model.revision, 16))
        assert model.model.count("/") == 1
    text = (Path(__file__).parents[2] / "training" / "recipes" / f"{name}.yaml").read_text()
    assert None not in (recipe.clip.revision, recipe.teacher.revision) or "pin" in text.partition("clip:")[0]
