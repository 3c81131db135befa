"""A disk that is full: the run ends in one line, and with more room the same command comes to what it would have come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeling_expclip.cli.main import main
from tests.conftest import picture
from tests.robustness.commands import LimitedFiles, MemoryDisk, ask, refusal, write_recipe
from tests.training.conftest import content_of, write_faces
from training.embeddings.fill import embed
from training.recipe import load_recipe

LEFT_BY_RUNS = ("runs", "results.csv", "report.md", "report.html")  # with the time of day or what it took in them


@pytest.fixture(params=[MemoryDisk, LimitedFiles])
def disk(request, tmp_path):
    """``disk(size)``: a folder in which so many bytes can be written, or files of so many."""
    made = []

    def make(size: int) -> MemoryDisk | LimitedFiles:
        folder = tmp_path / "disk"
        folder.mkdir()
        made.append(request.param(folder, size))
        if not getattr(made[0], "mounted", True):
            pytest.skip("this process may not mount a file system; files of limited size stand in for one")
        return made[0]

    yield make
    for each in made:
        each.close()


def files(folder: Path) -> dict[str, Any]:
    """The content of every file that a run ends with, but for what is another each time."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: content_of(path) for name, path in found.items() if name.partition("/")[0] not in LEFT_BY_RUNS}


def fails_then_finishes(small, command: tuple, output: str, undisturbed: Path) -> None:
    """Runs ``command`` without and with room; ``undisturbed`` is what it makes elsewhere."""
    folder = small.folder / "out"
    line = refusal(*command, output, folder)
    assert str(folder) in line and ("cannot be written" in line or "No space left" in line or "too large" in line)
    assert not list(folder.rglob(".*"))  # neither a lock nor a part of a file
    small.make_room()
    code, spoken = ask(*command, output, folder)
    assert code == 0, spoken
    assert files(folder) == files(undisturbed)


@pytest.fixture
def settings(tmp_path, clip_folder):
    return write_recipe(tmp_path / "r.yaml", clip_folder), write_faces(tmp_path / "faces.parquet", 40, width=30)


@pytest.mark.parametrize("size", [1, 12_000])
def test_embedding(tmp_path, settings, disk, size):
    recipe, data = settings
    command = ("embed", recipe, "--data", data, "--shard-size", 16)
    assert ask(*command, "--output", tmp_path / "undisturbed")[0] == 0
    fails_then_finishes(disk(size), command, "--output", tmp_path / "undisturbed")


@pytest.mark.parametrize("size", [8_000, 40_000, 200_000])
def test_training(tmp_path, settings, disk, size):
    """Full at the first checkpoint, at a later one, and when the whole model is written."""
    recipe, data = settings
    embed(load_recipe(recipe), [str(data)], tmp_path / "cache", 16)
    command = ("train", recipe, "--embeddings", tmp_path / "cache")
    assert ask(*command, "--output-dir", tmp_path / "undisturbed")[0] == 0
    fails_then_finishes(disk(size), command, "--output-dir", tmp_path / "undisturbed")


@pytest.mark.parametrize("size", [4_096, 16_000])
def test_the_benchmark(tmp_path, clip_folder, disk, size):
    data = write_faces(tmp_path / "faces.parquet", 16)
    command = ("benchmark", "--model", f"m={clip_folder}", "--data", f"mine={data}", "--prompts", "photo")
    assert ask(*command, "--output", tmp_path / "undisturbed")[0] == 0
    small = disk(size)
    folder = small.folder / "out"
    line = refusal(*command, "--output", folder)
    assert str(folder) in line
    assert not (folder / "m" / "mine" / "rows.json").exists() and not list(folder.rglob(".*"))
    small.make_room()
    assert ask(*command, "--output", folder)[0] == 0
    found, expected = files(folder), files(tmp_path / "undisturbed")
    assert found.keys() == expected.keys()
    assert found["m/mine/predictions.parquet"] == expected["m/mine/predictions.parquet"]


@pytest.mark.parametrize("size", [4_096, 12_288])
def test_classify(tmp_path, checkpoint, disk, capsys, size):
    """Full while rows are kept, and (on a disk of its own) when the table is written from them."""
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(30):
        picture(number, (32, 32)).save(faces / f"{number:02d}.png")
    command = ["classify", str(faces), "--model", str(checkpoint), "--batch-size", "4", "--labels", "a,b", "--output"]
    assert main([*command, str(tmp_path / "undisturbed.csv")]) == 0
    small = disk(size)
    output = small.folder / "out.csv"
    capsys.readouterr()
    assert main([*command, str(output)]) == 2
    said = capsys.readouterr().err
    assert f"{output}" in said and "cannot be written" in said and "Traceback" not in said
    assert {path.name for path in small.folder.iterdir()} <= {"out.csv.unfinished"}
    small.make_room()
    assert main([*command, str(output)]) == 0
    rows, expected = output.read_text().splitlines(), (tmp_path / "undisturbed.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [row.split(",")[0] for row in expected]
    assert [path.name for path in small.folder.iterdir()] == ["out.csv"]
