"""What a benchmark leaves: results that say what they were made of, a resume that sees other weights and data, differences, groups, a report."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_expclip.prompts import LABEL_SETS
from tests.conftest import picture
from tests.training.conftest import call, write_faces
from training.evaluation.bootstrap import intervals, paired_difference
from training.support.plots import confusion_matrix


@pytest.fixture
def model(tmp_path, checkpoint):
    """A checkpoint of one's own, to train again."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def faces(tmp_path):
    """Folders of two classes, of 6 and 3 faces."""
    for i in range(9):
        path = tmp_path / "faces" / ("Happy" if i % 3 else "Sad") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path)
    return tmp_path / "faces"


def retrain(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["projection_head.weight"] = torch.randn_like(weights["projection_head.weight"])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys):
    """Runs the command: ``benchmark(models, data, *options)`` -> exit code and the last line of its errors."""

    def run(models: list, data: str, *options: object) -> tuple[int, str]:
        arguments = ("--model", *models, "--data", data, "--output", tmp_path / "out", "--prompts", "photo", *options)
        code = call("benchmark", *arguments, monkeypatch=monkeypatch)
        return code, capsys.readouterr().err

    return run


def table(folder: Path, name: str = "results.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "out" / name).open(newline="", encoding="utf-8")))


def test_a_model_that_was_trained_again_is_not_given_its_old_scores(tmp_path, model, faces, benchmark):
    assert benchmark([model], f"mine={faces}")[0] == 0
    before = table(tmp_path)
    retrain(model)
    code, error = benchmark([model], f"mine={faces}")
    assert code == 2
    assert f"made with another content of the model {model} (it was {before[0]['weights'][:19]}, it is sha256 " in error
    assert "choose another --output, or remove that folder" in error
    for file in (tmp_path / "out" / "my-model" / "mine").iterdir():
        file.unlink()
    assert benchmark([model], f"mine={faces}")[0] == 0
    assert table(tmp_path)[0]["weights"] != before[0]["weights"] and table(tmp_path)[0]["data"] == before[0]["data"]


def replaced(faces: Path) -> None:
    """Another picture of the same size and time of change."""
    file = faces / "Happy" / "1.png"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        replaced,
        lambda faces: (faces / "Happy" / "1.png").rename(faces / "Sad" / "1.png"),
        lambda faces: (faces / "Happy" / "1.png").unlink(),
    ],
)
def test_other_data_is_not_given_old_scores(model, faces, benchmark, change):
    assert benchmark([model], f"mine={faces}")[0] == 0
    change(faces)
    code, error = benchmark([model], f"mine={faces}")
    assert code == 2 and f"made with another content of the data {faces} (it was sha256 " in error


def test_other_rows_in_a_parquet_file(tmp_path, model, benchmark):
    data = write_faces(tmp_path / "faces.parquet", 12)
    assert benchmark([model], f"mine={data}")[0] == benchmark([model], f"mine={data}")[0] == 0
    write_faces(data, 12, seed=1)
    code, error = benchmark([model], f"mine={data}")
    assert code == 2 and f"another content of the data {data}" in error


def test_data_that_was_only_copied_is_the_same(tmp_path, model, faces, benchmark):
    assert benchmark([model], f"mine={faces}")[0] == 0
    before = (tmp_path / "out" / "results.csv").read_bytes()
    for file in faces.rglob("*.png"):
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert benchmark([model], f"mine={faces}")[0] == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_results_of_0_1_do_not_say_what_they_were_made_with(tmp_path, model, faces, benchmark):
    assert benchmark([model], f"mine={faces}")[0] == 0
    path = tmp_path / "out" / "my-model" / "mine" / "rows.json"
    old = json.loads(path.read_text())
    for name in ("weights", "data", "stamp"):
        del old[name]
    path.write_text(json.dumps(old))
    code, error = benchmark([model], f"mine={faces}")
    assert code == 2
    assert f"{path} does not say which weights and data it was made with, as version 0.1 did not; remove it" in error


def test_a_row_says_what_it_was_made_of(tmp_path, model, faces, benchmark):
    (tmp_path / "clips.txt").write_text(
        "".join(f"faces/{name} {n} {i}\n" for i, (name, n) in enumerate({"Happy": 6, "Sad": 4}.items()))
    )
    assert benchmark([model, f"clip-of:{model}"], f"afew={tmp_path / 'clips.txt'}", "--short-clips", "uniform")[0] == 0
    ours, towers = table(tmp_path)
    assert (ours["model"], towers["model"]) == ("my-model", "my-model without head")
    assert (ours["model_source"], towers["model_source"]) == (str(model), f"clip-of:{model}")
    assert ours["weights"] == towers["weights"] and ours["weights"].startswith("sha256 ") and len(ours["weights"]) == 71
    assert ours["data"] == towers["data"] and ours["data_source"] == str(tmp_path / "clips.txt")
    assert (ours["short_clips"], ours["frames_differ"]) == ("uniform", "1")
    assert ours["expclip"] and ours["transformers"] and ours["torch"] and ours["pillow"]
    for name in ("report.md", "report.html"):
        report = (tmp_path / "out" / name).read_text()
        for said in (
            str(model),
            f"clip-of:{model}",
            ours["weights"],
            ours["data"],
            ours["torch"],
            "uniform",
            "UAR, %",
            "points",
        ):
            assert said in report, said
    assert (tmp_path / "out" / "my-model-without-head" / "afew" / "predictions.parquet").exists()


def test_a_name_of_ones_own_stays_and_the_report_tells(tmp_path, model, faces, benchmark):
    assert benchmark([f"towers=clip-of:{model}"], f"mine={faces}")[0] == 0
    assert table(tmp_path)[0]["model"] == "towers" and table(tmp_path)[0]["short_clips"] == ""
    assert "towers (without head)" in (tmp_path / "out" / "report.html").read_text()


def test_models_are_compared_on_the_same_samples(tmp_path, model, faces, benchmark):
    assert benchmark([model, f"clip-of:{model}"], f"mine={faces}")[0] == 0
    (row,) = table(tmp_path, "differences.csv")
    names = [row["model"], row["other"]]
    assert names == ["my-model", "my-model without head"]
    samples = [
        pq.read_table(tmp_path / "out" / name.replace(" ", "-") / "mine" / "predictions.parquet").to_pylist()
        for name in names
    ]
    truth, ours, theirs = (
        np.array([["Happy", "Sad"].index(sample[key]) for sample in own])
        for own, key in ((samples[0], "truth"), (samples[0], "guess"), (samples[1], "guess"))
    )
    expected = paired_difference(ours, theirs, truth, 2)
    for name in ("uar", "war"):
        found = [float(row[f"d_{name}{end}"]) for end in ("", "_low", "_high")]
        assert found == pytest.approx(expected[name], abs=0.006)
    scores = table(tmp_path)
    assert float(row["d_war"]) == pytest.approx(float(scores[0]["war"]) - float(scores[1]["war"]), abs=0.011)
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"{expected['uar'][0]:+.2f} ({expected['uar'][1]:+.1f} to {expected['uar'][2]:+.1f})" in report


def test_no_differences_of_models_that_are_not_in_the_results(tmp_path, model, faces, benchmark):
    for models, there in (([model, f"clip-of:{model}"], True), ([model], False)):
        assert benchmark(models, f"mine={faces}")[0] == 0
        assert (tmp_path / "out" / "differences.csv").exists() is there


def test_differences_of_folds(tmp_path, model, faces, benchmark):
    for fold in range(1, 6):
        (tmp_path / f"set_{fold}.txt").write_text(f"faces/Happy 6 0\nfaces/Sad 3 {1 + fold % 2}\n")
    other = tmp_path / "other"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    retrain(other)
    assert benchmark([model, other], f"dfew={tmp_path}")[0] == 0
    rows = table(tmp_path, "differences.csv")
    assert [row["fold"] for row in rows] == ["1", "2", "3", "4", "5", "mean"]
    assert float(rows[-1]["d_war"]) == pytest.approx(np.mean([float(row["d_war"]) for row in rows[:-1]]), abs=0.01)
    assert rows[-1]["d_war_low"] == "" and rows[0]["d_war_low"] != ""


def test_uar_of_classes_with_enough_samples_says_so_in_its_name(tmp_path, model, faces, benchmark):
    assert benchmark([model, f"clip-of:{model}"], f"mine={faces}", "--min-samples", "4")[0] == 0
    row, towers = table(tmp_path)
    (difference,) = table(tmp_path, "differences.csv")
    expected = float(row["uar_min4"]) - float(towers["uar_min4"])
    assert float(difference["d_uar_min4"]) == pytest.approx(expected, abs=0.011)
    assert float(difference["d_uar_min4_low"]) <= float(difference["d_uar_min4_high"])
    samples = pq.read_table(tmp_path / "out" / "my-model" / "mine" / "predictions.parquet").to_pylist()
    recalls = {
        name: 100 * np.mean([s["guess"] == name for s in samples if s["truth"] == name]) for name in ("Happy", "Sad")
    }
    assert float(row["uar"]) == pytest.approx(np.mean(list(recalls.values())), abs=0.01)
    classes = [each for each in table(tmp_path, "classes.csv") if each["model"] == "my-model"]
    assert [(each["class"], each["n"]) for each in classes] == [("Happy", "6"), ("Sad", "3")]
    assert [float(each["recall"]) for each in classes] == pytest.approx(list(recalls.values()), abs=0.01)
    assert float(row["uar_min4"]) == pytest.approx(recalls["Happy"], abs=0.01)
    assert float(row["uar_min4_low"]) <= float(row["uar_min4"]) <= float(row["uar_min4_high"])
    assert "uar_min4, %" in (tmp_path / "out" / "report.md").read_text()
    code, error = benchmark([model], f"mine={faces}")
    assert code == 2 and "made with another min_samples" in error
    code, error = benchmark([f"again={model}"], f"mine={faces}", "--min-samples", "7")
    assert code == 2 and "no class has 7 samples, the largest has 6; lower --min-samples" in error


def test_a_class_without_samples_has_no_recall(tmp_path, model, faces, benchmark):
    (faces / "Happy" / "1.png").write_bytes(b"no image")  # nor has a sample that could not be read
    assert benchmark([model], f"mine={faces}", "--label-set", "rafdb")[0] == 0
    found = {row["class"]: (row["n"], row["recall"] == "") for row in table(tmp_path, "classes.csv")}
    assert found == dict.fromkeys(LABEL_SETS["rafdb"], ("0", True)) | {
        "happiness": ("5", False),
        "sadness": ("3", False),
    }


def test_groups_stand_in_the_report(tmp_path, model, benchmark):
    faces = pq.read_table(write_faces(tmp_path / "faces.parquet", 20))
    pq.write_table(faces.append_column("age", pa.array(["young", "old"] * 10)), tmp_path / "ages.parquet")
    assert benchmark([model], f"mine={tmp_path / 'ages.parquet'}", "--group", "age")[0] == 0
    group = next(row for row in table(tmp_path, "groups.csv") if row["group"] == "old")
    report = (tmp_path / "out" / "report.md").read_text()
    cells = f"| my-model | photo | all | old | 10 | {group['uar']} ("
    assert (
        "## mine: groups" in report
        and cells in report
        and "<td>old</td>" in (tmp_path / "out" / "report.html").read_text()
    )


def test_class_names_reach_the_command(tmp_path, model, benchmark):
    faces = pq.read_table(write_faces(tmp_path / "faces.parquet", 8))
    numbers = faces.drop(["label"]).append_column("label", pa.array([0, 1] * 4)).replace_schema_metadata(None)
    pq.write_table(numbers, tmp_path / "numbers.parquet")
    data = f"mine={tmp_path / 'numbers.parquet'}"
    assert "say with --class-names what 0, 1 ... mean" in benchmark([model], data)[1]
    assert benchmark([model], data, "--class-names", "joyful, gloomy")[0] == 0
    found = pq.read_table(tmp_path / "out" / "my-model" / "mine" / "predictions.parquet")
    assert {"p_joyful", "p_gloomy"} <= {*found.column_names} and found["truth"].to_pylist() == ["joyful", "gloomy"] * 4


def test_a_frames_root_reaches_the_command(tmp_path, model, faces, benchmark):
    (tmp_path / "test.txt").write_text("/nobody/has/Happy 6 0\n")
    data = f"afew={tmp_path / 'test.txt'}"
    code, error = benchmark([model], data)
    assert code == 2 and "there is no /nobody/has/Happy" in error
    code, error = benchmark([model], data, "--frames-root", f"dfew={faces}")
    assert code == 2 and "there is no --data dfew=..." in error
    assert benchmark([model], data, "--frames-root", f"afew={faces}")[0] == 0
    assert table(tmp_path)[0]["n"] == "1" and table(tmp_path)[0]["short_clips"] == "paper"


def test_a_picture_that_cannot_be_drawn_is_a_message(tmp_path, model, faces, benchmark, monkeypatch):
    def refuse(*_):
        raise ValueError("Expected end of text, found '$'\n(at char 0)")

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", refuse)
    code, error = benchmark([model], f"mine={faces}")
    assert code == 0
    (line,) = [line for line in error.splitlines() if "confusion-photo.png" in line]
    assert "drawn (" in line and "Expected end of text, found '$' (at char 0))" in line
    left = sorted(path.name for path in (tmp_path / "out" / "my-model" / "mine").iterdir())
    assert left == ["predictions.parquet", "rows.json"]
    assert table(tmp_path)[0]["n"] == "9" and "<img" not in (tmp_path / "out" / "report.html").read_text()


def test_the_figure_says_its_units(tmp_path, monkeypatch):
    drawn = []

    def keep(canvas, path):
        drawn.append(canvas.figure)
        Path(path).touch()

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", keep)
    confusion_matrix(np.eye(2, dtype=int), ["a", "b"], "title", tmp_path / "figure.png")
    labels = [text for axes in drawn[0].axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]
    assert (
        len(labels) == 3
        and sum("%" in text for text in labels) == 1
        and any("number of samples" in text for text in labels)
    )


def test_class_names_with_dollars_lose_nothing(tmp_path, model, faces, benchmark):
    (faces / "Happy").rename(faces / r"$\frac$ $x_$")
    assert benchmark([model], f"mine={faces}")[0] == 0
    assert table(tmp_path)[0]["n"] == "9"


def test_intervals_are_of_the_same_numbers(tmp_path, model, faces, benchmark):
    assert benchmark([model], f"mine={faces}")[0] == 0
    (row,) = table(tmp_path)
    samples = pq.read_table(tmp_path / "out" / "my-model" / "mine" / "predictions.parquet").to_pylist()
    guess, truth = (np.array([["Happy", "Sad"].index(s[key]) for s in samples]) for key in ("guess", "truth"))
    low, high = intervals(guess, truth, 2)["uar"]
    assert (float(row["uar_low"]), float(row["uar_high"])) == pytest.approx((low, high), abs=0.006)
