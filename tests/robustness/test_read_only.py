"""An output that cannot be written is refused before anything is read, loaded or computed."""

from __future__ import annotations

import pytest

from tests.robustness.commands import mount, refusal, unmount, write_recipe
from tests.training.conftest import write_faces
from training.embeddings.fill import embed
from training.recipe import load_recipe


@pytest.fixture
def read_only(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    if not mount(folder, "ro,size=1m"):
        pytest.skip("this process may not mount a file system, and as root it may write whatever a mode says")
    yield folder
    unmount(folder)


@pytest.fixture
def below_a_file(tmp_path):
    (tmp_path / "file").write_text("thesis")
    return tmp_path / "file" / "deeper"


@pytest.fixture
def a_file(tmp_path):
    (tmp_path / "thesis").write_text("thesis")
    return tmp_path / "thesis"


@pytest.fixture
def commands(tmp_path, clip_folder, monkeypatch):
    """Each command up to its output; what takes time fails the test."""
    data = write_faces(tmp_path / "faces.parquet", 20, width=30)
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder)
    embed(load_recipe(recipe), [str(data)], tmp_path / "cache", 16)

    def too_late(*_, **__):
        raise AssertionError("the output was not looked at first")

    for place in (
        "embeddings.fill.load_faces",
        "alignment.run.load_pairs",
        "alignment.run.ImageDataset",
        "evaluation.run.load_samples",
    ):
        monkeypatch.setattr(f"training.{place}", too_late)
    return {
        "embed": ("embed", recipe, "--data", data, "--output"),
        "train": ("train", recipe, "--embeddings", tmp_path / "cache", "--output-dir"),
        "train from images": ("train", recipe, "--data", data, "--output-dir"),
        "benchmark": ("benchmark", "--model", clip_folder, "--data", f"mine={data}", "--output"),
    }


@pytest.mark.parametrize("name", ["embed", "train", "train from images", "benchmark"])
@pytest.mark.parametrize("place", ["read_only", "below_a_file", "a_file"])
def test_it_is_refused_at_once(commands, request, name, place):
    output = request.getfixturevalue(place)
    reason = {"read_only": "Read-only file system", "below_a_file": "Not a directory", "a_file": "File exists"}[place]
    line = refusal(*commands[name], output)
    assert f"{output} cannot be written to ({reason}); choose another folder" in line


@pytest.mark.parametrize("name", ["embed", "train", "train from images", "benchmark"])
def test_a_new_folder_on_a_read_only_disk(commands, read_only, name):
    assert "Read-only file system" in refusal(*commands[name], read_only / "new" / "deeper")
