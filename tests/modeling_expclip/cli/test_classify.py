import csv
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modeling_expclip import LABEL_SETS, FacialExpressionPipeline, load_checkpoint
from modeling_expclip.cli.main import main
from modeling_expclip.media.sources import find_sources
from tests.conftest import picture

FIXED = ["path", "face", "x0", "y0", "x1", "y1", "detection_score", "label", "error"]


@pytest.fixture(scope="session")
def recognise(checkpoint) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


@pytest.fixture
def faces(tmp_path):
    """Three readable images and two that are not, in nested folders."""
    folder = tmp_path / "faces"
    (folder / "deeper").mkdir(parents=True)
    picture(0).save(folder / "a.png")
    picture(1).convert("CMYK").save(folder / "b.jpg")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(folder / "deeper" / "c.png")
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    (folder / "deeper" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


def classify(checkpoint, *arguments) -> int:
    return main(["classify", "--model", str(checkpoint), *map(str, arguments)])


def test_csv(checkpoint, faces, tmp_path, capsys):
    assert classify(checkpoint, faces, "--output", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FIXED, *LABEL_SETS["rafdb"]]
    assert [row["path"].rpartition("/")[2] for row in rows] == ["a.png", "b.jpg", "broken.jpg", "c.png", "empty.png"]
    for row in rows:
        scores = [row[label] for label in LABEL_SETS["rafdb"]]
        if row["path"].endswith(("broken.jpg", "empty.png")):
            assert row["error"] and not row["label"] and not any(scores)
        else:
            assert not row["error"] and row["face"] == "0" and row["x0"] == ""
            assert all(len(score.partition(".")[2]) >= 6 for score in scores)
            assert sum(map(float, scores)) == pytest.approx(1, abs=1e-6)
            assert row["label"] == max(LABEL_SETS["rafdb"], key=lambda label: float(row[label]))
    printed = capsys.readouterr()
    assert "a.png" in printed.out and "wrote 5 rows to" in printed.out and "2 of 5 rows hold an error" in printed.err
    assert not list(tmp_path.glob(".*part"))


def test_json_and_parquet_agree(checkpoint, faces, tmp_path):
    labels = "over the moon,grumpy"
    for name in ("out.json", "out.parquet"):
        assert classify(checkpoint, faces, "--labels", labels, "--prompts", "photo", "--output", tmp_path / name) == 0
    entries = json.loads((tmp_path / "out.json").read_text())
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert list(table[0]) == [*FIXED, "over the moon", "grumpy"]
    assert [set(entry) for entry in entries] == [
        {"path", "face", "box", "detection_score", "detector", "label", "scores", "error"}
    ] * 5
    for entry, row in zip(entries, table, strict=True):
        assert (entry["path"], entry["label"], entry["error"]) == (row["path"], row["label"], row["error"])
        assert entry["box"] is None
        assert entry["scores"] == {k: row[k] for k in ("over the moon", "grumpy") if row[k] is not None}


def test_files_in_the_order_given(checkpoint, faces, capsys):
    assert classify(checkpoint, faces / "b.jpg", faces / "a.png", "--label-set", "mafw", "--no-faces") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "disappointment" in lines[0] and lines[1].split()[0].endswith("b.jpg") and lines[2].split()[0].endswith("a.png")
    )


def test_nothing_classified_is_exit_1(checkpoint, faces, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert classify(checkpoint, faces / "broken.jpg", faces / "deeper" / "empty.png", "--output", output) == 1
    rows = list(csv.DictReader(output.open(newline="")))
    assert len(rows) == 2 and "empty.png" in rows[1]["error"]


def test_mistyped_paths_are_refused_before_any_work(checkpoint, faces, tmp_path, capsys, monkeypatch):
    """They would else become a table of one error row that looks finished."""
    monkeypatch.setattr("modeling_expclip.media.classify.Classifier", None)
    output = tmp_path / "out.csv"
    for paths, says in (
        ([faces / "a.png", tmp_path / "not there.png"], "not there.png' (No such file or directory); correct the path"),
        ([faces / "a.png" / "b.png", tmp_path / "c"], "b.png' and 1 more of the paths (Not a directory)"),
        (["x" * 300 + ".png"], "(File name too long)"),
    ):
        assert classify(checkpoint, *paths, "--output", output) == 2
        error = capsys.readouterr().err
        assert "there is no file or folder" in error and says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a,a"], "more than once"),
        (["--labels", "a,,b"], "non-empty"),
        (["--labels", "anger,path,time"], "called like a column of the output: path, time"),
        (["--output", "out.xlsx"], "must end in"),
        (["--output", "FACES"], "must end in"),
        (["--output", "FOLDER.csv"], "is a folder; name a file in it"),
        (["--top-k", "0"], "--top-k 0 must be at least 1"),
        (["--prompts", "phto"], "unknown prompt set 'phto'; choose one of class_name,"),
        (["--prompts", "a {} face", "no slot"], "template 'no slot' has no place for the label"),
        (["--prompts", "a {nuon} face"], "knows no {nuon}"),
        (["--model", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_wrong_calls_are_exit_2(checkpoint, faces, capsys, arguments, message):
    (faces / "FOLDER.csv").mkdir()
    arguments = [str(faces / a) if a in ("FACES", "FOLDER.csv") else a for a in arguments]
    assert classify(checkpoint, faces, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_an_input_is_not_replaced(checkpoint, faces, tmp_path, capsys):
    table, other = tmp_path / "faces.parquet", tmp_path / "other.parquet"
    pq.write_table(pa.table({"image": [(faces / "a.png").read_bytes()]}), table)
    other.symlink_to(table)
    content = table.read_bytes()
    for output in (table, other):
        assert classify(checkpoint, faces / "a.png", table, "--output", output, "--overwrite") == 2
        assert f"--output: {output} is an input; choose another name" in capsys.readouterr().err
    assert table.read_bytes() == content


@pytest.mark.parametrize("name", ["", "https://nowhere/out", "S3://bucket/out"])
@pytest.mark.parametrize(
    "command", ["classify a.png", "explain a.png", "embed mini --data x", "train mini --embeddings x", "merge"]
)
def test_outputs_are_paths_of_this_machine(capsys, command, name):
    option = "--output-dir" if command.startswith("train") else "--output"
    with pytest.raises(SystemExit) as left:
        main([*command.split(), option, name])
    assert left.value.code == 2
    assert ("the name is empty" if not name else f"{name!r} is an address") in capsys.readouterr().err


def test_an_empty_folder_is_a_row(checkpoint, faces, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert classify(checkpoint, tmp_path / "empty", faces / "a.png") == 0
    assert "no image or video files below this folder" in capsys.readouterr().out
    assert classify(checkpoint, tmp_path / "empty") == 1


def test_odd_file_names(checkpoint, faces, tmp_path, capsys):
    odd = os.fsencode(faces) + b"/caf\xe9 \x1b[31m,\n.png"
    Path(os.fsdecode(odd)).write_bytes((faces / "a.png").read_bytes())
    for name in ("out.CSV", "out.json", "out.parquet"):
        assert classify(checkpoint, faces, "--output", tmp_path / name) == 0
    rows = list(csv.DictReader((tmp_path / "out.CSV").open(newline="", encoding="utf-8")))
    (row,) = (row for row in rows if "caf" in row["path"])
    assert row["path"].endswith("caf\\xe9 \x1b[31m,\n.png") and row["label"]
    assert "\x1b[31m" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "around",
    [
        "PYTHONIOENCODING=ascii COMMAND",
        "LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 COMMAND",
        "COMMAND | true",  # gone long before the first line
        "COMMAND 2>&1 | true",
        "COMMAND >&-",
        "COMMAND <&- >&- 2>&-",
    ],
)
def test_what_the_terminal_cannot_take_costs_lines_of_text(checkpoint, faces, tmp_path, around):
    Path(os.fsdecode(os.fsencode(faces) + "/caf\u00e9 \U0001f642".encode() + b" \xe9.png")).write_bytes(
        (faces / "a.png").read_bytes()
    )
    arguments = [sys.executable, "-m", "modeling_expclip.cli.main", "classify", faces, "--model", checkpoint]
    command = f"{{ {shlex.join(map(str, arguments))} --output out.json; echo $? > {tmp_path}/code; }}"
    shell = ["sh", "-c", around.replace("COMMAND", f"sh -c {shlex.quote(command)}")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace")
    assert "Traceback" not in run.stderr and "Exception" not in run.stderr, run.stderr
    assert len(json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))) == 6
    assert (tmp_path / "code").read_text() == "0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "faces", "out.json"]


def test_output_lost_on_a_full_disk_is_an_error(checkpoint, faces, monkeypatch, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert classify(checkpoint, faces) == 2
    assert "standard output cannot be written (No space left on device)" in capsys.readouterr().err


def test_names_move_no_cursor(checkpoint, faces, tmp_path, capsys):
    """Neither of files, nor of the model, nor in errors."""
    odd = tmp_path / "\x1b[31mred\x1b]0;title\x07\r"
    shutil.copytree(checkpoint, odd)
    shutil.copy(faces / "a.png", odd)
    assert main(["verify", "--model", str(odd)]) == 0
    assert classify(odd, odd / "a.png", "--output", odd / "out.csv") == 0
    assert classify(odd, odd / "a.png", "--output", odd / "out.csv") == 2
    assert main(["merge", "--model", str(odd), "--output", str(tmp_path / "\x1b[31mmerged")]) == 0
    assert main(["verify", "--model", str(odd / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert "\\x1b[31mred" in printed.out and "\\x1b[31mred" in printed.err
    assert not {"\x1b", "\x07", "\r"} & set(printed.out + printed.err)


def test_cells_are_written_as_they_are(checkpoint, faces, tmp_path, monkeypatch):
    """The docs say so of what spreadsheets take for formulas: a path with another character added would name no file."""
    monkeypatch.chdir(faces)
    for name in ("=1+1.png", "+1.png", "@x.png"):
        shutil.copy("a.png", name)
    assert classify(checkpoint, "=1+1.png", "+1.png", "@x.png", "--labels", "=a,-b", "--output", "out.csv") == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["=1+1.png", "+1.png", "@x.png"] and list(rows[0])[-2:] == ["=a", "-b"]


def test_what_is_no_file_is_a_row_and_never_waited_for(checkpoint, faces, tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo.png")
    os.mkfifo(faces / "fifo.mp4")
    (faces / "link.png").symlink_to(tmp_path / "gone.png")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s.png"))
    given = (tmp_path / "fifo.png", tmp_path / "s.png", "/dev/null", faces)
    listed = {row.path: row.error for row in find_sources(map(str, given))}
    assert all(listed[str(path)] for path in (*given[:3], faces / "fifo.mp4")), "opening them would wait for a writer"
    assert find_sources([str(given[0])], frames_fps=5)[0].error
    assert classify(checkpoint, *given, "--output", tmp_path / "out.json") == 0
    server.close()
    errors = {row["path"].rpartition("/")[2]: row["error"] for row in json.loads((tmp_path / "out.json").read_text())}
    assert "fifo.png is a FIFO, not a file" in errors["fifo.png"] and "is a FIFO" in errors["fifo.mp4"]
    assert "is a socket" in errors["s.png"] and "/dev/null is a device" in errors["null"]
    assert "No such file" in errors["link.png"] and errors["a.png"] is None and len(errors) == 10


_AS_NOBODY = """
import json, os, sys
from modeling_expclip.media.sources import find_sources
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(json.dumps([(row.path, row.error) for row in find_sources(sys.argv[1:])]))
"""


def test_closed_folders_are_rows(faces):
    """Root may look everywhere, so another user does."""
    if os.geteuid():
        pytest.skip("only root may become another user, whom modes stop")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        for place in ("listed", "hidden", "open"):
            (folder / place / "deeper").mkdir(parents=True)
            shutil.copy(faces / "a.png", folder / place)
        os.chmod(name, 0o755)
        os.chmod(folder / "listed", 0o744)
        os.chmod(folder / "hidden", 0o711)
        run = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, folder, folder / "hidden"], capture_output=True, text=True, check=True
        )
    rows = {path.removeprefix(f"{folder}/"): error for path, error in json.loads(run.stdout)}
    assert sorted(rows) == ["hidden", "listed/a.png", "listed/deeper", "open/a.png"]
    assert all("PermissionError" in rows[path] for path in ("hidden", "listed/a.png", "listed/deeper"))
    assert rows["open/a.png"] is None


def test_files_that_are_no_pictures_are_not_run(checkpoint, tmp_path, capsys):
    """Pillow would hand this to Ghostscript."""
    (tmp_path / "face.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "drawing.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert classify(checkpoint, tmp_path) == 1
    printed = capsys.readouterr().out
    assert "cannot identify image file" in printed and "drawing.eps" not in printed


@pytest.mark.parametrize(
    "arguments", [["--label-set", "imagenet"], ["--labels", "a", "--label-set", "rafdb"], ["--top-k", "x"], []]
)
def test_argparse_errors_are_exit_2(checkpoint, faces, arguments):
    with pytest.raises(SystemExit, match="2"):
        classify(checkpoint, *([faces, *arguments] if arguments else []))


def test_the_best_labels(checkpoint, faces, tmp_path, capsys):
    """Their probabilities are those among all labels; the label's own column names are free then."""
    labels = ["path", "over the moon", "grumpy", "label_1", "=x"]
    common = (faces / "a.png", faces / "broken.jpg", "--labels", ",".join(labels), "--prompts", "photo")
    assert classify(checkpoint, *common) == 2 and "called like a column" in capsys.readouterr().err
    for name in ("out.csv", "out.json", "out.parquet"):
        assert classify(checkpoint, *common, "--top-k", 3, "--output", tmp_path / name) == 0
    assert classify(checkpoint, *common, "--top-k", 99, "--output", tmp_path / "all.json") == 0
    everything = json.loads((tmp_path / "all.json").read_text())[0]["scores"]
    assert set(everything) == set(labels) and sum(everything.values()) == pytest.approx(1, abs=1e-6)
    best = sorted(everything, key=everything.get, reverse=True)[:3]
    seen, broken = json.loads((tmp_path / "out.json").read_text())
    assert list(seen["scores"].items()) == [(label, everything[label]) for label in best] and seen["label"] == best[0]
    assert broken["scores"] == {} and broken["error"]
    columns = [f"{name}_{rank}" for rank in (1, 2, 3) for name in ("label", "score")]
    with (tmp_path / "out.csv").open(newline="") as file:
        seen, broken = csv.DictReader(file)
    assert list(seen) == [*FIXED, *columns] and [seen[f"label_{rank}"] for rank in (1, 2, 3)] == best
    assert float(seen["score_2"]) == pytest.approx(everything[best[1]], abs=1e-8) and broken["label_1"] == ""
    seen, broken = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert seen["label_3"] == best[2] and seen["score_3"] == everything[best[2]] and broken["score_1"] is None
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["path", "1", "2", "3"] and f"{best[0]} {100 * everything[best[0]]:.1f}" in printed[1]


def test_a_run_resumes_with_another_top_k(checkpoint, faces, tmp_path, monkeypatch):
    """All probabilities are kept; what of them is written is the last command's matter."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("modeling_expclip.media.table.write", interrupt)
        assert classify(checkpoint, faces / "a.png", "--top-k", 1, "--output", tmp_path / "out.json") == 130
    assert classify(checkpoint, faces / "a.png", "--output", tmp_path / "out.json") == 0
    assert len(json.loads((tmp_path / "out.json").read_text())[0]["scores"]) == 7


@pytest.mark.parametrize("content", ["\ufeffjoyful\r\n\r\n# mine\r\n  sad, or tired \r\n", "joyful\nsad, or tired"])
def test_a_file_of_labels(checkpoint, faces, tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content.encode())
    output = tmp_path / "out.json"
    assert classify(checkpoint, faces / "a.png", "--labels", tmp_path / "labels.txt", "--output", output) == 0
    assert list(json.loads(output.read_text())[0]["scores"]) == ["joyful", "sad, or tired"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere.txt", "--labels: there is no file 'nowhere.txt'; labels of your own are separated by commas"),
        ("lists/emotions", "there is no file 'lists/emotions'"),
        ("faces", None),  # a folder of that name: a label
        ("empty.txt", "--labels empty.txt: no labels given"),
        ("twice.txt", "given more than once: a"),
        ("words", "--labels words: no labels given"),
        ("utf16.txt", "utf16.txt is no text in UTF-8"),
        ("a.txt,b.txt", None),
        ("a,b", None),
    ],
)
def test_what_is_a_file_of_labels(checkpoint, faces, tmp_path, monkeypatch, capsys, given, says):
    monkeypatch.chdir(tmp_path)
    for name, content in (("empty.txt", b"\n# none\n"), ("twice.txt", b"a\na\n"), ("words", b""), ("a,b", b"c")):
        Path(name).write_bytes(content)
    Path("utf16.txt").write_bytes("joyful".encode("utf-16"))
    code = classify(checkpoint, faces / "a.png", "--labels", given, "--output", "out.json")
    if says is None:
        assert code == 0 and list(json.loads(Path("out.json").read_text())[0]["scores"]) == given.split(",")
    else:
        error = capsys.readouterr().err
        assert code == 2 and says in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["FACE", "--prompts", "a {} face", "someone who looks {}"],
        ["--prompts", "a {} face", "someone who looks {}", "FACE"],
        ["--prompts", "a {} face", "someone who looks {}", "--", "FACE"],
    ],
)
def test_templates(checkpoint, faces, tmp_path, recognise, arguments):
    output = tmp_path / "out.json"
    arguments = [str(faces / "a.png") if argument == "FACE" else argument for argument in arguments]
    assert classify(checkpoint, "--output", output, *arguments) == 0
    (row,) = json.loads(output.read_text())
    expected = recognise(str(faces / "a.png"), prompts=["a {} face", "someone who looks {}"])
    assert row["scores"] == pytest.approx({entry["label"]: entry["score"] for entry in expected}, abs=1e-6)


def test_paths_may_follow_a_prompt_set(checkpoint, faces, tmp_path):
    output = tmp_path / "out.json"
    paths = [faces / "a.png", faces / "b.jpg"]
    assert classify(checkpoint, "--prompts", "photo", *paths[:1], "--no-faces", *paths[1:], "--output", output) == 0
    assert [row["path"] for row in json.loads(output.read_text())] == [str(path) for path in paths]


def test_the_output_makes_its_folders_and_leaves_none_behind(checkpoint, faces, tmp_path):
    output = tmp_path / "new" / "deeper" / "out.csv"
    assert classify("nowhere", faces / "a.png", "--output", output) == 2
    assert not (tmp_path / "new").exists()
    assert classify(checkpoint, faces / "a.png", "--output", output) == 0 and output.is_file()
