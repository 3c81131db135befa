"""Runs of ``expclip classify`` that are stopped, in every way, and go on."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modeling_expclip import LABEL_SETS
from modeling_expclip.cli.journal import Journal
from modeling_expclip.cli.main import main
from modeling_expclip.media.table import Row, write
from tests.conftest import picture, write_video

LABELS = LABEL_SETS["rafdb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """120 readable images in three folders, a film, and every tenth file broken."""
    folder = tmp_path_factory.mktemp("faces")
    for number in range(132):
        place = folder / "abc"[number % 3]
        place.mkdir(exist_ok=True)
        if number % 11 == 0:
            (place / f"{number:03d}.jpg").write_bytes(b"\xff\xd8\xff broken")
        else:
            picture(number, (300, 200)).save(place / f"{number:03d}.jpg")
    pytest.importorskip("av")
    write_video(folder / "b" / "film.mp4", [picture(i, (64, 48)) for i in range(60)], fps=10)
    return folder


def classify(checkpoint, *arguments) -> int:
    return main(["classify", *map(str, arguments), "--model", str(checkpoint)])


def start(checkpoint, *arguments) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "modeling_expclip.cli.main",
        "classify",
        *map(str, arguments),
        "--model",
        str(checkpoint),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes what it starts in the background deaf to Ctrl-C, and so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def content(path) -> list:
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open(newline="")))
    if path.suffix == ".json":
        return json.loads(path.read_text())
    import pyarrow.parquet as pq

    with path.open("rb") as file:  # pyarrow takes no name that is not UTF-8
        return pq.read_table(file).to_pylist()


def without_scores(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in LABELS}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_killed_at_random_moments(checkpoint, folder, tmp_path, ending):
    """No row missing, none doubled, and what an undisturbed run writes: a run that goes on has other batches, which may
    change the last digit of a score and nothing else."""
    expected, output = tmp_path / f"expected.{ending}", tmp_path / f"out.{ending}"
    arguments = (folder, "--batch-size", 4)
    assert classify(checkpoint, *arguments, "--output", expected) == 0
    journal = tmp_path / f"out.{ending}.unfinished"
    chance, kills, size = random.Random(ending), 0, 0
    for _ in range(12):
        process = start(checkpoint, *arguments, "--output", output)
        deadline, wanted = time.time() + 60, size + chance.randint(1, 9000)
        while process.poll() is None and time.time() < deadline:
            if journal.exists() and journal.stat().st_size > wanted:
                process.send_signal(signal.SIGKILL if kills % 2 else signal.SIGINT)
                break
            time.sleep(0.002)
        _, error = process.communicate(timeout=60)
        assert "Traceback" not in error
        assert process.returncode in (0, -9, 130)
        if process.returncode == 0:  # done before the signal came, as happens on a busy machine: from the start again
            output.unlink()
            size = 0
            continue
        kills, size = kills + 1, journal.stat().st_size
        if kills == 3:
            break
    assert kills >= 2
    assert classify(checkpoint, *arguments, "--output", output) == 0
    assert not journal.exists()
    whole, wanted = content(output), content(expected)
    assert [without_scores(row) for row in whole] == [without_scores(row) for row in wanted]
    for row, other in zip(whole, wanted):
        for label in LABELS if row["label"] else ():
            assert float(row[label]) == pytest.approx(float(other[label]), abs=1e-6)


def test_an_interrupted_run_keeps_its_rows_and_writes_no_output(checkpoint, folder, tmp_path, monkeypatch, capsys):
    from modeling_expclip.media import stream

    original, opened = stream.open_image, []

    def counted(image):
        opened.append(image)
        return original(image)

    def interrupted(self, rows, done=None, reached=None):
        written.append(done)
        if len(written) == 20:
            raise KeyboardInterrupt
        add(self, rows, done, reached)

    written, add = [], Journal.add
    monkeypatch.setattr(stream, "open_image", counted)
    with monkeypatch.context() as context:
        context.setattr(Journal, "add", interrupted)
        assert classify(checkpoint, folder, "--output", tmp_path / "out.csv") == 130
    assert os.listdir(tmp_path) == ["out.csv.unfinished"]
    assert "the same command resumes from here" in capsys.readouterr().err
    opened.clear()
    assert classify(checkpoint, folder, "--output", tmp_path / "out.csv") == 0
    images = [image for image in opened if isinstance(image, str)]
    assert len(images) == 132 - 19 and "19 of 133 files were done before" in capsys.readouterr().err


def test_another_run_does_not_go_on_with_it(checkpoint, folder, tmp_path, capsys):
    output = tmp_path / "out.csv"
    row = Row(str(folder / "a" / "000.jpg"), error="x")
    journal = Journal(output, {"labels": ["a", "b"], "model": "other"})
    journal.add([row], row.path)
    assert classify(checkpoint, folder, "--output", output) == 2
    assert "another run is writing" in capsys.readouterr().err
    journal.close(finished=False)
    assert classify(checkpoint, folder, "--output", output) == 2
    error = capsys.readouterr().err
    assert "was left by a run with another paths, model" in error and not output.exists()
    (tmp_path / "out.csv.unfinished").write_text("garbage\n")
    assert classify(checkpoint, folder, "--output", output) == 2
    assert "was not left by this command; remove it" in capsys.readouterr().err


def test_a_torn_last_line_is_dropped(tmp_path):
    journal = Journal(tmp_path / "out.csv", {"run": 1})
    journal.add([Row("a", face=0, scores={"x": 1.0})], "a")
    journal.add([Row("b", time=0.5, face=0)])  # not done
    journal.close(finished=False)
    with (tmp_path / "out.csv.unfinished").open("ab") as file:
        file.write(b'{"row": {"path": "c"')
    journal = Journal(tmp_path / "out.csv", {"run": 1})
    assert journal.done == {"a"} and [row.path for row in journal.rows()] == ["a"]
    journal.add([Row("b", time=0.5, face=0), Row("b", time=0.75, face=0)], "b")
    assert [(row.path, row.time) for row in journal.rows()] == [("a", None), ("b", 0.5), ("b", 0.75)]
    journal.close(finished=True)
    assert os.listdir(tmp_path) == []


def test_paths_that_are_not_utf8(checkpoint, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        picture().save(file, "PNG")
    assert classify(checkpoint, tmp_path, "--output", tmp_path / "out.json") == 0
    assert content(tmp_path / "out.json")[0]["path"].endswith("caf\\xe9.png")
    for ending in (b"csv", b"json", b"parquet"):
        output = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9." + ending))
        assert classify(checkpoint, tmp_path, "--output", output) == 0 and len(content(output)) == 1


def test_a_finished_output_is_replaced_when_asked_to(checkpoint, folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out.csv"
    assert classify(checkpoint, folder / "a", "--labels", "a,b", "--output", output) == 0
    before = output.read_bytes()
    with monkeypatch.context() as context:  # refused before anything is loaded
        context.setattr("modeling_expclip.media.classify.Classifier", None)
        assert classify(checkpoint, folder / "a", "--labels", "c,d", "--output", output) == 2
    assert f"{output} is there already; add --overwrite to replace it" in capsys.readouterr().err
    assert output.read_bytes() == before and os.listdir(tmp_path) == ["out.csv"]
    assert classify(checkpoint, folder / "a", "--labels", "c,d", "--output", output, "--overwrite") == 0
    assert list(content(output)[0])[-2:] == ["c", "d"]


def test_a_stopped_run_goes_on_beside_the_output_it_replaces(checkpoint, folder, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    output.write_text("of an earlier run")
    with monkeypatch.context() as context:
        context.setattr("modeling_expclip.media.table.write", _interrupt)
        assert classify(checkpoint, folder / "a", "--output", output, "--overwrite") == 130
    assert output.read_text() == "of an earlier run"
    assert classify(checkpoint, folder / "a", "--output", output) == 0
    assert len(content(output)) == 44 and os.listdir(tmp_path) == ["out.csv"]


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_run_that_did_nothing_leaves_nothing(checkpoint, folder, tmp_path, capsys):
    assert classify("nowhere", folder / "a", "--output", tmp_path / "out.csv") == 2
    assert "no folder 'nowhere'" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_rows_survive_a_power_cut(tmp_path, monkeypatch):
    """What is on the disk is what was synced: at least every second, with the folder's entry at first, and at the end."""
    synced, clock = [], [0.0]
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(os.path.realpath(f"/proc/self/fd/{file}")), real(file))
    )
    monkeypatch.setattr("modeling_expclip.cli.journal.time.monotonic", lambda: clock[0])
    journal = Journal(tmp_path / "out.csv", {})
    path = str(journal.path)
    assert synced == [path, str(tmp_path)]
    for seconds, count in ((0.5, 2), (1.2, 3), (1.9, 3), (2.5, 4)):
        clock[0] = seconds
        journal.add([Row("a")], "a")
        assert len(synced) == count, seconds
    assert journal.close(finished=False) and synced[2:] == [path] * 3
    with journal.path.open("ab") as file:  # a file system may have given the file its length and not yet its content
        file.write(b"\0" * 40 + b"\n")
    journal = Journal(tmp_path / "out.csv", {})
    assert journal.done == {"a"} and len(list(journal.rows())) == 4
    synced.clear()
    write(journal.rows(), ("x",), tmp_path / "out.csv")
    assert [name.rpartition(".")[2] for name in synced] == ["part", str(tmp_path)]
    assert not journal.close(finished=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"my notes", "was not left by this command"),
        (b"my notes\nand more\n", "was not left by this command"),
        (b'{"run": 3}\n', "was not left by this command"),
        (b'{"run": {}}\n{"done": [1]}\n', "is damaged after"),
        (b'{"run": {}}\n{"run": 3}\n', "is damaged after"),
    ],
)
def test_a_file_called_like_the_journal_is_left_alone(tmp_path, content, says):
    path = tmp_path / "faces.csv.unfinished"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        Journal(tmp_path / "faces.csv", {})
    assert path.read_bytes() == content


def test_a_link_called_like_the_journal_is_not_followed(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "faces.csv.unfinished").symlink_to(precious)
    with pytest.raises(ValueError, match="is no regular file"):
        Journal(tmp_path / "faces.csv", {})
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b'{"run": {', b'{"run": {"pa', b'{"run": {}}\0\0\n'])
def test_a_torn_journal_is_no_leave_to_replace_the_output(tmp_path, content):
    (tmp_path / "faces.csv").write_text("precious")
    (tmp_path / "faces.csv.unfinished").write_bytes(content)
    with pytest.raises(FileExistsError, match="is there already"):
        Journal(tmp_path / "faces.csv", {})
    assert (tmp_path / "faces.csv").read_text() == "precious"


def test_an_output_that_is_a_link_to_nowhere_is_not_replaced(tmp_path):
    (tmp_path / "faces.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="add --overwrite"):
        Journal(tmp_path / "faces.csv", {})
