"""Checkpoints that released versions wrote, under tests/fixtures/checkpoints: they must load, and answer as they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from modeling_expclip import ExpCLIPModel, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.checkpoint.merge import merge
from modeling_expclip.cli.main import main

VERSIONS = sorted((Path(__file__).parents[2] / "fixtures" / "checkpoints").glob("v*"))
LOGITS, SCORES = 1e-3, 1e-4  # tolerances; another machine's float32 moves logits by less

WITH_ITS_OWN_CODE = """
import json, sys
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

folder, picture, labels, prompts = *sys.argv[1:3], json.loads(sys.argv[3]), sys.argv[4]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=Image.open(picture), text=labels, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits_per_image[0].tolist()
found = pipeline(model=folder, trust_remote_code=True)(picture, candidate_labels=labels, prompts=prompts)
scores = {entry["label"]: entry["score"] for entry in found}
assert not any(name.startswith("modeling_expclip") for name in sys.modules), "the library leaked in"
print(json.dumps({"logits": logits, "scores": [scores[label] for label in labels]}))
"""


def recorded(version: Path) -> dict[str, Any]:
    return json.loads((version / "answers.json").read_text())


def test_there_are_old_checkpoints():
    assert "v0.1" in [version.name for version in VERSIONS]


@pytest.mark.parametrize("merged", [False, True], ids=["as it is", "merged now"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_this_librarys_code_answers_as_they_did(version, merged, tmp_path):
    expected, folder = recorded(version), version / "expclip"
    if merged:
        folder = tmp_path / "merged"
        merge(version / "expclip", folder)
    model, processor = load_checkpoint(folder)
    assert type(model) is (CLIPModel if merged else ExpCLIPModel)
    face = Image.open(version / "picture.png")
    inputs = processor(images=face, text=expected["labels"], padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits_per_image[0].tolist()
    assert logits == pytest.approx(expected["logits"], abs=LOGITS)
    recognise = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    answer = recognise(face, candidate_labels=expected["labels"], prompts=expected["prompts"])
    scores = {entry["label"]: entry["score"] for entry in answer}
    assert [scores[label] for label in expected["labels"]] == pytest.approx(expected["scores"], abs=SCORES)
    assert main(["verify", "--model", str(folder)]) == 0


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_the_code_they_carry_answers_as_it_did(version, tmp_path):
    """In a process without this library, with an empty cache."""
    expected = recorded(version)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    script = tmp_path / "stranger.py"
    script.write_text(WITH_ITS_OWN_CODE)
    arguments = [version / "expclip", version / "picture.png", json.dumps(expected["labels"]), expected["prompts"]]
    command = [sys.executable, script, *arguments]
    run = subprocess.run(list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    answers = json.loads(run.stdout.splitlines()[-1])
    assert answers["logits"] == pytest.approx(expected["logits"], abs=LOGITS)
    assert answers["scores"] == pytest.approx(expected["scores"], abs=SCORES)
