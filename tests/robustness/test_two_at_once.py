"""Two runs in one folder at the same time: the second is refused, or both end right; a killed run stops nobody."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest

from modeling_expclip.cli.journal import Journal
from modeling_expclip.cli.main import main
from modeling_expclip.system.files import whole_file
from modeling_expclip.system.lock import only_run
from tests.conftest import picture
from tests.robustness.commands import ask, refusal, write_recipe
from tests.robustness.test_full_disk import files
from tests.training.conftest import write_faces
from training.embeddings.fill import embed
from training.recipe import load_recipe

NAMES = ("embed", "train", "benchmark")


@pytest.fixture
def commands(tmp_path, clip_folder):
    """Each command up to its output."""
    data = write_faces(tmp_path / "faces.parquet", 60, width=30)
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder, max_steps=40)
    embed(load_recipe(recipe), [str(data)], tmp_path / "cache", 16)
    return {
        "embed": ("embed", recipe, "--data", data, "--shard-size", 8, "--output"),
        "train": ("train", recipe, "--embeddings", tmp_path / "cache", "--output-dir"),
        "benchmark": (
            "benchmark",
            "--model",
            f"m={clip_folder}",
            "--data",
            f"mine={data}",
            "--prompts",
            "photo",
            "--output",
        ),
    }


def started(function, *arguments) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.preload"])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def _command(command: tuple, spoken: Path) -> None:
    code, said = ask(*command)
    spoken.write_text(said)
    sys.exit(code)


def _hold(folder: Path, held: Path) -> None:
    with only_run(folder):
        held.touch()
        time.sleep(600)


def hold(folder: Path, held: Path) -> multiprocessing.process.BaseProcess:
    """Another process that has ``folder``."""
    process = started(_hold, folder, held)
    for _ in range(600):
        if held.exists():
            return process
        time.sleep(0.1)
    raise AssertionError("the other process did not start")


@pytest.mark.parametrize("name", NAMES)
def test_the_second_is_refused_until_the_first_is_gone(tmp_path, commands, name):
    output = tmp_path / "out"
    other = hold(output, tmp_path / "held")
    try:
        line = refusal(*commands[name], output)
        assert f"another run is writing to {output}; wait for it or choose another folder" in line
        assert [path.name for path in output.iterdir()] == [".lock-0"]
    finally:
        other.kill()
        other.join()
    assert (output / ".lock-0").exists()  # it was killed, and could not tidy up
    assert ask(*commands[name], output)[0] == 0
    assert not list(output.rglob(".*"))


@pytest.mark.parametrize("name", NAMES)
def test_two_started_together_do_not_mix(tmp_path, commands, name):
    assert ask(*commands[name], tmp_path / "undisturbed")[0] == 0
    notes = [tmp_path / "one", tmp_path / "other"]
    runs = [started(_command, (*commands[name], tmp_path / "out"), note) for note in notes]
    for run in runs:
        run.join()
    codes = sorted(run.exitcode for run in runs)
    assert codes in ([0, 0], [0, 2]), [note.read_text() for note in notes]
    if codes == [0, 2]:
        assert any("another run is writing to" in note.read_text() for note in notes)
    found, expected = files(tmp_path / "out"), files(tmp_path / "undisturbed")
    assert found.keys() == expected.keys()
    timed = {"m/mine/rows.json"}  # how long it took stands in it
    assert {n: c for n, c in found.items() if n not in timed} == {n: c for n, c in expected.items() if n not in timed}


def test_processes_of_one_run_work_in_one_folder(tmp_path):
    refused = pytest.raises(BlockingIOError, match="another run")
    with only_run(tmp_path, 0), only_run(tmp_path, 1), refused, only_run(tmp_path, 1):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_just_removed_is_not_taken_for_one(tmp_path, monkeypatch):
    """Between opening the file and locking it, the first run may end and a third may begin with a new file."""
    opened, real = [], os.open

    def slow(path, *arguments, **options):
        file = real(path, *arguments, **options)
        if str(path).endswith(".lock-0"):
            if not opened:
                os.unlink(path)
            opened.append(file)
        return file

    monkeypatch.setattr(os, "open", slow)
    with only_run(tmp_path):
        assert len(opened) == 2
        monkeypatch.undo()
        with pytest.raises(BlockingIOError), only_run(tmp_path):
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_keeps_no_locks(tmp_path, monkeypatch, capsys, code):
    """The run goes on, says so once, and leaves nothing that would stop the next one."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with only_run(tmp_path / "out"):
        (tmp_path / "out" / "result").touch()
    said = capsys.readouterr().err
    assert "keeps no locks" in said and os.strerror(code) in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "result"]


def _hold_output(output: Path, held: Path) -> None:
    journal = Journal(output, {})
    with whole_file(output) as part:
        part.write_text("half")
        journal.add([], None)
        held.touch()
        time.sleep(600)


def test_a_refused_classify_touches_nothing_of_the_first(tmp_path, checkpoint, capsys):
    """And what a killed one left goes when the next has the lock."""
    picture().save(tmp_path / "face.png")
    folder = tmp_path / "out"
    folder.mkdir()
    command = ["classify", str(tmp_path / "face.png"), "--model", str(checkpoint), "--output", str(folder / "out.csv")]
    other = started(_hold_output, folder / "out.csv", tmp_path / "held")
    try:
        while not (tmp_path / "held").exists():
            assert other.is_alive()
            time.sleep(0.1)
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert len(before) == 3  # lock, journal, part
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"another run is writing to {folder / 'out.csv'}; wait for it or choose another --output" in said
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        other.kill()
        other.join()
    (folder / "out.csv.unfinished").unlink()  # its identity was made up
    neighbour = folder / ".out.csv.json.0123456789ab.part"  # another output's
    neighbour.touch()
    assert main(command) == 0
    assert sorted(path.name for path in folder.iterdir()) == [neighbour.name, "out.csv"]


def test_a_refused_run_leaves_no_folder(tmp_path, clip_folder):
    recipe = write_recipe(tmp_path / "r.yaml", clip_folder, max_steps=40)
    said = refusal("train", recipe, "--embeddings", tmp_path / "nowhere", "--output-dir", tmp_path / "deep" / "out")
    assert "no embedding cache" in said and not (tmp_path / "deep" / "out").exists()
    kept = tmp_path / "mine"
    kept.mkdir()
    refusal("train", recipe, "--embeddings", tmp_path / "nowhere", "--output-dir", kept)
    assert kept.is_dir(), "it was there before"


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path):
    left, written = (tmp_path / "set" / f".shard.parquet.{name * 12}.part" for name in "ab")
    left.parent.mkdir()
    for file in (left, written, tmp_path / "set" / ".own.part"):
        file.write_text("half")
    hours_ago = time.time() - 7200
    for file in (left, tmp_path / "set" / ".own.part"):  # the second is nobody's of ours
        os.utime(file, (hours_ago, hours_ago))
    with only_run(tmp_path):
        assert sorted(file.name for file in left.parent.iterdir()) == [".own.part", written.name]
