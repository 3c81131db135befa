import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_expclip import verify
from modeling_expclip.checkpoint.golden import VerificationError
from modeling_expclip.cli.main import main


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_untouched_checkpoint_verifies(checkpoint, capsys):
    assert main(["verify", "--model", str(checkpoint)]) == 0
    assert "logits_per_image: largest difference" in capsys.readouterr().out


def test_verify_gives_the_differences(checkpoint):
    differences = verify(checkpoint)
    assert set(differences) == {"pixel_values", "logits_per_image"}
    assert all(0 <= difference < 1e-4 for difference in differences.values())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"cut"),
        ("golden.safetensors", b"cut"),
        ("tokenizer.json", b"{}"),
        ("export.json", b"{}"),
        ("golden.safetensors", None),
    ],
)
def test_whatever_was_changed_is_one_error(copy, name, content):
    (copy / name).unlink(missing_ok=True)
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(VerificationError, match=name.partition(".")[0].replace("model", "weights")):
        verify(copy)


def test_what_is_not_there_was_not_changed(copy):
    (copy / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        verify(copy)
    with pytest.raises(FileNotFoundError, match=r"no folder '\./nowhere'"):
        verify("./nowhere")


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
    assert main(["verify", "--model", str(copy)]) == 1
    error = capsys.readouterr().err
    assert "preprocessing has changed" in error or "Input image size" in error


def test_changes_that_no_golden_prompt_touches_are_noticed(copy, capsys):
    state = load_file(copy / "model.safetensors")
    state["text_model.embeddings.token_embedding.weight"][7] += 1  # a byte that no golden prompt contains
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    path = copy / "processor_config.json"
    path.write_text(path.read_text().replace("0.00392156862745098", "0.00390625"))
    assert main(["verify", "--model", str(copy)]) == 1
    assert (
        "changed since the checkpoint was written: model.safetensors, processor_config.json" in capsys.readouterr().err
    )


def test_card_and_code_may_be_edited(copy):
    (copy / "README.md").write_text("my own words")
    assert main(["verify", "--model", str(copy)]) == 0


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors"])
def test_files_cut_off(copy, capsys, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    assert main(["verify", "--model", str(copy)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_golden_without_its_metadata(copy, capsys):
    save_file(load_file(copy / "golden.safetensors"), copy / "golden.safetensors")
    assert main(["verify", "--model", str(copy)]) == 1
    assert "lacks logit_tolerance" in capsys.readouterr().err


def test_config_of_another_head(copy, capsys):
    path = copy / "config.json"
    path.write_text(path.read_text().replace('"alignment_dim": 48', '"alignment_dim": 47'))
    assert main(["verify", "--model", str(copy)]) == 1
    assert "projection_head.weight" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_a_wrong_call(capsys):
    assert main(["verify", "--model", "./nowhere"]) == 2
    assert "no folder './nowhere'" in capsys.readouterr().err


def test_missing_weights_and_missing_golden(copy, capsys):
    state = load_file(copy / "model.safetensors")
    del state["projection_head.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert main(["verify", "--model", str(copy)]) == 1
    assert "projection_head.weight" in capsys.readouterr().err


def test_missing_golden_is_an_error(copy, capsys):
    (copy / "golden.safetensors").unlink()
    assert main(["verify", "--model", str(copy)]) == 1
    assert "has no golden.safetensors" in capsys.readouterr().err
