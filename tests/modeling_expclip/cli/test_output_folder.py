"""`--output` of the commands that write a checkpoint folder, and what `--overwrite` replaces."""

from __future__ import annotations

import os

import pytest

from modeling_expclip import MINI
from modeling_expclip.cli.main import _parser, main


def merge(source, output, *options) -> int:
    return main(["merge", "--model", str(source), "--output", str(output), *options])


@pytest.fixture
def merged(checkpoint, tmp_path):
    """An earlier checkpoint, with a card by which it is known."""
    output = tmp_path / "new" / "merged"  # whose folder is made
    assert merge(checkpoint, output) == 0
    (output / "README.md").write_text("the earlier one")
    return output


def is_earlier(folder) -> bool:
    return (folder / "README.md").read_text() == "the earlier one"


def test_what_is_there_is_replaced_when_asked_to(checkpoint, merged, capsys):
    assert merge(checkpoint, merged) == 2
    assert f"{merged} is there already; add --overwrite to replace it" in capsys.readouterr().err
    assert is_earlier(merged)
    assert merge(checkpoint, merged, "--overwrite") == 0
    assert not is_earlier(merged) and os.listdir(merged.parent) == ["merged"]
    assert main(["verify", "--model", str(merged)]) == 0


def test_a_link_is_replaced_where_it_leads(checkpoint, merged):
    link = merged.parent / "link"
    link.symlink_to(merged)
    assert merge(checkpoint, link, "--overwrite") == 0
    assert link.is_symlink() and not is_earlier(merged)


def test_an_earlier_checkpoint_stays_where_the_new_one_fails(clip_folder, merged, capsys):
    assert merge(clip_folder, merged, "--overwrite") == 2
    assert "no projection head to merge" in capsys.readouterr().err
    assert is_earlier(merged) and os.listdir(merged.parent) == ["merged"]


def test_an_earlier_checkpoint_comes_back_where_the_new_one_cannot_take_its_name(checkpoint, merged, monkeypatch):
    from pathlib import Path

    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".merged.new"):
            raise OSError("no more names")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    assert merge(checkpoint, merged, "--overwrite") == 2
    assert is_earlier(merged) and os.listdir(merged.parent) == ["merged"]


def test_only_checkpoints_are_replaced(checkpoint, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    assert merge(checkpoint, tmp_path / "thesis", "--overwrite") == 2
    assert "thesis is no checkpoint that expclip wrote, so --overwrite does not replace it" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"


def test_a_checkpoint_is_not_made_of_itself(checkpoint, capsys):
    before = sorted(os.listdir(checkpoint))
    for output in (checkpoint, checkpoint.parent / "." / checkpoint.name):
        assert merge(checkpoint, output, "--overwrite") == 2
        assert "is, contains or lies in" in capsys.readouterr().err
    assert sorted(os.listdir(checkpoint)) == before


def test_the_embedded_model_is_the_default():
    for command in ("merge --output x", "export --backend onnx --output x", "verify", "classify x"):
        assert _parser().parse_args(command.split()).model == MINI


@pytest.mark.parametrize("name", ["notes.txt", ".git", "checkpoint-100"])
def test_what_is_more_than_a_checkpoint_is_not_replaced(checkpoint, merged, capsys, name):
    """A clone of a Hub repository with commits that were not pushed, a folder of training, notes."""
    (merged / name).mkdir() if "." not in name or name == ".git" else (merged / name).write_text("mine")
    assert merge(checkpoint, merged, "--overwrite") == 2
    assert f"holds more than a checkpoint ({name})" in capsys.readouterr().err
    assert (merged / name).exists() and is_earlier(merged)


def test_the_folder_this_runs_in_is_not_replaced(checkpoint, merged, capsys, monkeypatch):
    monkeypatch.chdir(merged)
    for output in (".", str(merged)):
        assert merge(checkpoint, output, "--overwrite") == 2
        assert "the folder this runs in" in capsys.readouterr().err
    assert is_earlier(merged)


def test_what_only_looks_like_a_checkpoint_is_not_replaced(checkpoint, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("config.json", "golden.safetensors"):
        (folder / name).write_text("{}" if name == "config.json" else "")
    assert merge(checkpoint, folder, "--overwrite") == 2
    assert "is no checkpoint that expclip wrote" in capsys.readouterr().err and len(os.listdir(folder)) == 2


def test_a_head_is_not_deleted_with_what_is_replaced(clip_folder, head_file, merged, capsys):
    head = merged / "head.pth"
    head.write_bytes(head_file.read_bytes())
    command = ["convert", "--clip", str(clip_folder), "--head", str(head), "--output", str(merged), "--overwrite"]
    assert main(command) == 2
    assert "from which it would be made" in capsys.readouterr().err and head.exists()
