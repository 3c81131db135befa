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
    """An earlier checkpoint, with a file by which it is known."""
    output = tmp_path / "new" / "merged"  # whose folder is made
    assert merge(checkpoint, output) == 0
    (output / "mark").write_text("the earlier one")
    return output


def test_what_is_there_is_replaced_when_asked_to(checkpoint, merged, capsys):
    assert merge(checkpoint, merged) == 2
    assert f"{merged} is there already; add --overwrite to replace it" in capsys.readouterr().err
    assert (merged / "mark").exists()
    assert merge(checkpoint, merged, "--overwrite") == 0
    assert not (merged / "mark").exists() and os.listdir(merged.parent) == ["merged"]
    assert main(["verify", "--model", str(merged)]) == 0


def test_a_link_is_replaced_where_it_leads(checkpoint, merged):
    link = merged.parent / "link"
    link.symlink_to(merged)
    assert merge(checkpoint, link, "--overwrite") == 0
    assert link.is_symlink() and not (merged / "mark").exists()


def test_an_earlier_checkpoint_stays_where_the_new_one_fails(clip_folder, merged, capsys):
    assert merge(clip_folder, merged, "--overwrite") == 2
    assert "no projection head to merge" in capsys.readouterr().err
    assert (merged / "mark").exists() and os.listdir(merged.parent) == ["merged"]


def test_an_earlier_checkpoint_comes_back_where_the_new_one_cannot_take_its_name(checkpoint, merged, monkeypatch):
    from pathlib import Path

    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".merged.new"):
            raise OSError("no more names")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    assert merge(checkpoint, merged, "--overwrite") == 2
    assert (merged / "mark").exists() and os.listdir(merged.parent) == ["merged"]


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
