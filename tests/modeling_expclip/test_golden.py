import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_expclip.cli import main


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_untouched_checkpoint_verifies(checkpoint, capsys):
    assert main(["verify", "--model", str(checkpoint)]) == 0
    assert "logits_per_image: largest difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    "key", ["projection_head.weight", "visual_projection.weight", "text_model.embeddings.position_embedding.weight"]
)
def test_wrong_weights_are_noticed(copy, capsys, key):
    state = load_file(copy / "model.safetensors")
    state[key] = state[key] + 0.05 * torch.randn(state[key].shape, generator=torch.Generator().manual_seed(0))
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert main(["verify", "--model", str(copy)]) == 1
    assert "logits_per_image differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"), [("do_normalize", True), ("resample", 0), ("size", {"height": 32, "width": 40})]
)
def test_wrong_preprocessing_is_noticed(copy, capsys, name, value):
    path = copy / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"][name] = value
    path.write_text(json.dumps(config))
    assert main(["verify", "--model", str(copy)]) != 0
    error = capsys.readouterr().err
    assert "preprocessing has changed" in error or "Input image size" in error


def test_missing_weights_and_missing_golden(copy, capsys):
    state = load_file(copy / "model.safetensors")
    del state["projection_head.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert main(["verify", "--model", str(copy)]) == 2
    assert "projection_head.weight" in capsys.readouterr().err


def test_missing_golden_is_an_error(copy, capsys):
    (copy / "golden.safetensors").unlink()
    assert main(["verify", "--model", str(copy)]) == 2
    assert "has no golden.safetensors" in capsys.readouterr().err
