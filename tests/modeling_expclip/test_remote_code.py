"""The checkpoint's own code, used the way a stranger uses it: from another folder, offline, with an empty cache."""

import os
import subprocess
import sys

import pytest

from tests.conftest import picture

STRANGER = """
import sys
import torch
from PIL import Image
from transformers import (
    AutoConfig, AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor, AutoTokenizer, pipeline
)
from transformers.utils import is_torchvision_available

folder, image, saved = sys.argv[1], Image.open(sys.argv[2]), sys.argv[3]
trust = {"trust_remote_code": True}
assert AutoConfig.from_pretrained(folder, **trust).alignment_dim == 48
model, processor = AutoModel.from_pretrained(folder, **trust), AutoProcessor.from_pretrained(folder, **trust)
assert not any(name.startswith("modeling_expclip") for name in sys.modules), "the library leaked in"
assert type(model).__name__ == "ExpCLIPModel" and type(processor).__name__ == "ExpCLIPProcessor"
assert model.dtype == torch.float32
inputs = processor(images=image, text=["anger", "fear"], return_tensors="pt")
logits = model(**inputs).logits_per_image
again = AutoModelForZeroShotImageClassification.from_pretrained(folder, **trust)
assert torch.equal(again(**inputs).logits_per_image, logits)
stock = pipeline("zero-shot-image-classification", model=folder, **trust)
answer = stock(image, candidate_labels=["anger", "fear"], hypothesis_template="{}")
found = {entry["label"]: entry["score"] for entry in answer}
assert abs(found["anger"] - logits.softmax(-1)[0, 0].item()) < (1e-3 if is_torchvision_available() else 1e-5)
ours = pipeline(model=folder, **trust)
assert type(ours).__name__ == "FacialExpressionPipeline" and len(ours(image)) == 7

# What a user saves is as complete as what was loaded.
model.save_pretrained(saved)
processor.save_pretrained(saved)
reloaded = pipeline(model=saved, **trust)
assert reloaded(image) == ours(image)
print("everything worked")
"""


@pytest.mark.parametrize("torn", [False, True])
def test_a_strangers_session(checkpoint, tmp_path, torn):
    folder = checkpoint
    if torn:  # a name no Python module could have
        folder = tmp_path / "my-model v1.0"
        folder.mkdir()
        for file in checkpoint.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    picture().save(tmp_path / "face.png")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER)
    command = [sys.executable, str(script), str(folder), str(tmp_path / "face.png"), str(tmp_path / "saved")]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "everything worked" in run.stdout, run.stderr[-3000:]
