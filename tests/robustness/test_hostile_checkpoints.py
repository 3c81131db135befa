"""A checkpoint made to hurt who looks at it: its reader's stack, disk and terminal stay whole, and the answer is one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_expclip.checkpoint.convert import convert
from modeling_expclip.cli.main import main
from tests.robustness.test_checkpoints import edited


def again(checkpoint: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(checkpoint, folder)


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    return again(checkpoint, tmp_path / "copy")


@pytest.mark.parametrize(
    "name",
    ["processor_config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json", "export.json"],
)
@pytest.mark.parametrize("depth", [400, 100_000])
def test_nested_json_is_one_line_of_publish_and_verify(folder, capsys, name, depth):
    (folder / name).write_text('{"a":' * depth + "1" + "}" * depth)
    for command in (["publish", "--repo", "a/b", "--dry-run"], ["verify"]):
        code = main([*command, "--model", str(folder)])
        out, err = capsys.readouterr()
        if name == "preprocessor_config.json" and (command == ["verify"] or depth == 400):
            assert code == 0  # nothing reads it, or it says nothing of the model
        else:
            assert code in (1, 2) and not out and len(err.splitlines()) == 1 and str(folder) in err


def test_what_has_no_content_is_not_waited_for(folder, capsys):
    os.mkfifo(folder / "more.json")
    (folder / "folder.json").mkdir()
    assert main(["verify", "--model", str(folder)]) == 0


def test_a_terminal_is_not_written_to_by_a_checkpoint(checkpoint, folder, capsys):
    escape = "\x1b[31m\x1b]0;owned\x07"
    for name, where, value in (
        ("config.json", ("model_type",), escape),
        ("config.json", ("vision_config", "hidden_act"), escape),
        ("config.json", ("auto_map",), {"AutoModel": f"{escape}.x"}),
        ("processor_config.json", ("image_processor", "resample"), escape),
        ("processor_config.json", ("note",), f"/home/{escape}/faces"),
    ):
        again(checkpoint, folder)
        edited(folder / name, where, value)
        for command in (["publish", "--repo", "a/b", "--dry-run"], ["verify"]):
            assert main([*command, "--model", str(folder)]) in (1, 2)
            out, err = capsys.readouterr()
            assert len(err.splitlines()) == 1 and err[:-1].isprintable() and not out
    again(checkpoint, folder)
    (folder / f"{escape}.json").write_text("{}")
    (folder / "caf\udce9.json").write_text("{}")
    assert main(["publish", "--repo", "a/b", "--dry-run", "--model", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err[:-1].isprintable() and err.count("a name that cannot be shown") == 2


def test_a_config_larger_than_older_weights(tmp_path, clip_folder):
    """pytorch_model.bin is not opened before the config makes sense: its tensors may be of stride 0."""
    copied = shutil.copytree(clip_folder, tmp_path / "clip")
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(state, copied / "pytorch_model.bin")
    torch.save({"mlp.weight": torch.ones(48, 24)}, tmp_path / "head.pth")
    convert(str(copied), tmp_path / "head.pth", tmp_path / "out")
    edited(copied / "config.json", ("text_config", "vocab_size"), 10**12)
    with pytest.raises(ValueError, match=r"is of a model of \d+ numbers, but the weights are \d+ bytes"):
        convert(str(copied), tmp_path / "head.pth", tmp_path / "out2")
