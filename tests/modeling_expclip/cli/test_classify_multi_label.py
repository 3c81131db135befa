"""`expclip classify --multi-label` and the sets of words: what is written, and that runs which differ are not mixed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modeling_expclip import WORD_SETS, FaceAnalyzer
from modeling_expclip.cli.main import main
from modeling_expclip.media.label_sets import Words
from modeling_expclip.media.plot import draw_timeline
from modeling_expclip.media.table import Row
from tests.conftest import write_video

FACES = sorted((Path(__file__).parents[3] / "space" / "examples").glob("average-*.png"))
LABELS = "joyful,furious"


def classify(*arguments) -> int:
    return main(["classify", *map(str, FACES), *map(str, arguments)])


@pytest.fixture(scope="module")
def expected() -> list[dict]:
    return [face for [face] in FaceAnalyzer(faces=False).photos(FACES, LABELS.split(","), multi_label=True)]


def test_every_format_carries_them(tmp_path, capsys, expected):
    for name in ("out.csv", "out.json", "out.parquet"):
        assert classify("--labels", LABELS, "--multi-label", "--output", tmp_path / name) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        tables = [list(csv.DictReader(file)), pq.read_table(tmp_path / "out.parquet").to_pylist()]
    entries = json.loads((tmp_path / "out.json").read_text())
    labels = {face["label"] for face in expected}
    assert labels == {"joyful", "furious", None}  # of a neutral face, say, neither is right
    for entry, face, *rows in zip(entries, expected, *tables, strict=True):
        assert entry["label"] == face["label"] and entry["error"] is None
        assert entry["scores"] == pytest.approx(face["scores"], abs=1e-5)
        for row in rows:
            assert (row["label"] or None) == face["label"] and not row["error"]
            assert {name: float(row[name]) for name in face["scores"]} == pytest.approx(face["scores"], abs=1e-5)
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines() if "average-neutral.png" in line]
    assert lines and all(line[1] == "-" for line in lines) and "error" not in printed.err


def test_axes_lie_between_minus_one_and_one_and_name_no_label(tmp_path):
    assert classify("--label-set", "valence_arousal", "--output", tmp_path / "out.json") == 0
    found = {Path(entry["path"]).stem: entry for entry in json.loads((tmp_path / "out.json").read_text())}
    assert all(entry["label"] is None and [*entry["scores"]] == ["valence", "arousal"] for entry in found.values())
    assert found["average-anger"]["scores"]["valence"] < 0 < found["average-happiness"]["scores"]["valence"]
    assert all(-1 <= value <= 1 for entry in found.values() for value in entry["scores"].values())


def test_the_best_action_units(tmp_path):
    assert classify("--label-set", "action_units", "--top-k", 2, "--output", tmp_path / "out.parquet") == 0
    for row in pq.read_table(tmp_path / "out.parquet").to_pylist():
        assert {row["label_1"], row["label_2"]} < {*WORD_SETS["action_units"]} and row["score_1"] >= row["score_2"]


def _interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The output of a run that was stopped before it wrote it."""

    def stop(*arguments) -> Path:
        with monkeypatch.context() as context:
            context.setattr("modeling_expclip.media.table.write", _interrupt)
            assert classify(*arguments, "--output", tmp_path / "out.csv") == 130
        return tmp_path / "out.csv"

    return stop


@pytest.mark.parametrize("first", [(), ("--multi-label",)])
def test_rows_of_both_kinds_are_never_mixed(stopped, capsys, first):
    output = stopped("--labels", LABELS, *first)
    other = () if first else ("--multi-label",)
    assert classify("--labels", LABELS, *other, "--output", output) == 2
    assert "was left by a run with another multi_label; repeat that command" in capsys.readouterr().err
    assert not output.exists()
    assert classify("--labels", LABELS, *first, "--output", output) == 0 and output.exists()


def test_nor_those_of_a_set_and_of_labels_that_are_called_like_its(stopped, capsys):
    output = stopped("--label-set", "valence_arousal")
    assert classify("--labels", "valence,arousal", "--multi-label", "--output", output) == 2
    assert "was left by a run with another contrasts" in capsys.readouterr().err


def test_a_run_that_an_earlier_version_left_is_finished(stopped):
    output = stopped("--labels", LABELS)
    journal = output.with_name("out.csv.unfinished")
    head, *rows = journal.read_text().splitlines(keepends=True)
    run = json.loads(head)["run"]
    assert run.pop("multi_label") is None and run.pop("contrasts") is None
    journal.write_text(json.dumps({"run": run}) + "\n" + "".join(rows))
    assert classify("--labels", LABELS, "--output", output) == 0


def test_the_circumplex_is_drawn(tmp_path):
    """A point stands where valence, to the right, and arousal, up, say."""
    places = []
    for valence, arousal in ((0.8, 0.8), (-0.8, -0.8), (0.8, -0.8)):
        scores = {"valence": valence, "arousal": arousal}
        rows = [Row("film.mp4", time=float(time), face=0, scores=scores) for time in range(3)]
        draw_timeline(rows, Words.choose(label_set="valence_arousal"), tmp_path / "film.png")
        pixels = np.asarray(Image.open(tmp_path / "film.png").convert("HSV"), int)
        legend, start = 900, 690  # the panel lies between the curves and their names
        y, x = np.nonzero(pixels[:, start:legend, 1] > 100)
        places.append((x.mean(), y.mean()))
    (right, up), (left, down), (same, low) = places
    assert right > left + 50 and down > up + 50 and abs(right - same) < 5 and abs(down - low) < 5


def test_timelines_of_axes_and_of_labels(tmp_path, capsys):
    face = Image.open(FACES[3]).convert("RGB").resize((96, 96))
    film = write_video(tmp_path / "film.mp4", [face] * 4, fps=4)
    for folder, options in (("axes", ("--label-set", "valence_arousal")), ("labels", ("--labels", LABELS))):
        assert main(["classify", str(film), *options, "--plot", str(tmp_path / folder)]) == 0
    assert "was not drawn" not in capsys.readouterr().err
    axes, labels = (Image.open(tmp_path / name / "film.mp4.png").tobytes() for name in ("axes", "labels"))
    assert axes != labels
