"""The benchmark command: features once, every prompt set, results and evidence as files, and data that is not as it should be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from modeling_expclip import LABEL_SETS, MINI, PROMPT_SETS, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.media.video import clip_indices
from tests.conftest import SHARED, picture
from tests.training.conftest import call, run, write_faces
from training.evaluation.adapters import load_zero_shot_model
from training.evaluation.report import differences, reported

EXAMPLES = Path(__file__).parents[3] / "space" / "examples"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """RAF-DB's folders, a list of clips, and a Parquet file, of noise."""
    root = tmp_path_factory.mktemp("faces")
    for i in range(14):
        folder = root / "rafdb" / str(1 + i % 7)
        folder.mkdir(parents=True, exist_ok=True)
        picture(i).save(folder / f"{i}.png")
    lines = []
    for clip, count in enumerate((20, 3, 1)):
        folder = root / "clips" / f"clip {clip}"
        folder.mkdir(parents=True)
        for frame in range(count):
            picture(100 * clip + frame).save(folder / f"{frame}.png")
        lines.append(f"clip {clip} {count} {clip}")
    (root / "clips" / "test.txt").write_text("\n".join(lines))
    write_faces(root / "faces.parquet", 40, broken=(5,))
    return root


def results(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "results.csv").open(newline="")))


def test_scores_are_the_pipelines(tmp_path, faces, checkpoint, monkeypatch):
    output = tmp_path / "out"
    assert (
        call(
            "benchmark",
            "--model",
            checkpoint,
            "--data",
            f"rafdb={faces / 'rafdb'}",
            "--output",
            output,
            monkeypatch=monkeypatch,
        )
        == 0
    )
    rows = results(output)
    assert list(rows[0])[:7] == ["model", "benchmark", "fold", "prompt_set", "n", "uar", "war"]
    assert [row["prompt_set"] for row in rows] == list(PROMPT_SETS)
    assert {(row["model"], row["n"], row["skipped"]) for row in rows} == {("expclip-small", "14", "0")}

    model, processor = load_checkpoint(checkpoint)
    recognise = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    table = pq.read_table(output / "expclip-small" / "rafdb" / "predictions.parquet").to_pylist()
    assert len(table) == 14 * 5
    for entry in table:
        scores = {
            a["label"]: a["score"] for a in recognise(str(faces / "rafdb" / entry["id"]), prompts=entry["prompt_set"])
        }
        assert {name: entry[f"p_{name}"] for name in LABEL_SETS["rafdb"]} == pytest.approx(scores, abs=1e-5)
        assert entry["guess"] == max(scores, key=scores.get)
    for row in rows:
        own = [entry for entry in table if entry["prompt_set"] == row["prompt_set"]]
        hits = {name: [e["guess"] == name for e in own if e["truth"] == name] for name in LABEL_SETS["rafdb"]}
        assert float(row["uar"]) == pytest.approx(100 * np.mean([np.mean(hit) for hit in hits.values()]), abs=0.01)
        assert float(row["war"]) == pytest.approx(100 * np.mean([e["guess"] == e["truth"] for e in own]), abs=0.01)
        assert float(row["war_low"]) <= float(row["war"]) <= float(row["war_high"])
    assert (output / "expclip-small" / "rafdb" / "confusion-ensemble10.png").read_bytes().startswith(b"\x89PNG")
    metadata = yaml.safe_load((output / "expclip-small" / "model-index.yaml").read_text())
    assert metadata["model-index"][0]["name"] == "expclip-small"
    report = (output / "report.md").read_text()
    assert (
        "chance: UAR 14.3" in report
        and "farl-b16 | 24.98 | 38.53" in report
        and "<table>" in (output / "report.html").read_text()
    )


def test_features_are_made_once_and_finished_pairs_not_at_all(tmp_path, faces, checkpoint, monkeypatch):
    seen = []
    loaded = load_zero_shot_model(str(checkpoint))
    original = loaded.image_features
    loaded.image_features = lambda images: seen.append(len(images)) or original(images)
    monkeypatch.setattr("training.evaluation.run.load_zero_shot_model", lambda *_, **__: loaded)
    arguments = ("--model", checkpoint, "--data", f"rafdb={faces / 'rafdb'}", "--output", tmp_path / "out")
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
    assert sum(seen) == 14
    before = (tmp_path / "out" / "results.csv").read_bytes()
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
    assert sum(seen) == 14 and (tmp_path / "out" / "results.csv").read_bytes() == before
    assert (
        call("benchmark", *arguments, "--prompts", "photo", monkeypatch=monkeypatch) == 2
    )  # another request under the same name


def test_clips_are_means_of_frames_also_short_ones(tmp_path, faces, checkpoint, monkeypatch):
    from training.data.faces import read_image

    output = tmp_path / "out"
    data = f"afew={faces / 'clips' / 'test.txt'}"
    assert (
        call(
            "benchmark",
            "--model",
            checkpoint,
            "--data",
            data,
            "--prompts",
            "photo",
            "--output",
            output,
            monkeypatch=monkeypatch,
        )
        == 0
    )
    table = pq.read_table(output / "expclip-small" / "afew" / "predictions.parquet").to_pylist()
    assert [(entry["id"], entry["truth"]) for entry in table] == [
        ("clip 0", "happiness"), ("clip 1", "sadness"), ("clip 2", "neutral")
    ]  # fmt: skip
    model = load_zero_shot_model(str(checkpoint))
    for entry, count in zip(table, (20, 3, 1)):
        files = [faces / "clips" / entry["id"] / f"{i}.png" for i in clip_indices(count, "paper")]
        features = model.video_features([[read_image(file.read_bytes()) for file in files]])
        expected = model.logits(features, LABEL_SETS["afew"], "photo").softmax(-1)[0]
        assert [entry[f"p_{name}"] for name in LABEL_SETS["afew"]] == pytest.approx(expected.tolist(), abs=1e-5)


def test_five_folds_are_scored_each_and_averaged(tmp_path, faces, checkpoint, monkeypatch, capsys):
    folder = faces / "clips"
    for fold in range(1, 5):
        (folder / f"set_{fold}_test.txt").write_text((folder / "test.txt").read_text())
    arguments = ("--model", checkpoint, "--data", f"dfew={folder}", "--prompts", "photo", "--output", tmp_path / "out")
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 2
    assert "folds 1, 2, 3, 4 only; 5 are needed" in capsys.readouterr().err
    (folder / "set_5_test.txt").write_text((folder / "test.txt").read_text().splitlines()[0])
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
    rows = results(tmp_path / "out")
    assert [(row["fold"], row["n"]) for row in rows] == [
        *((str(i), "3") for i in range(1, 5)),
        ("5", "1"),
        ("mean", "13"),
    ]
    assert float(rows[-1]["uar"]) == pytest.approx(np.mean([float(row["uar"]) for row in rows[:-1]]), abs=0.01)


def test_data_of_ones_own_with_its_own_classes_and_others(tmp_path, faces, checkpoint, monkeypatch):
    data = f"mine={faces / 'faces.parquet'}"
    for name, options, classes in (
        ("own", (), {"Happy", "Sad", "angry", "fear"}),
        ("paper", ("--label-set", "rafdb"), set(LABEL_SETS["rafdb"])),
        ("typed", ("--labels", "happiness,sadness,anger"), {"happiness", "sadness", "anger"}),
    ):
        output = tmp_path / name
        assert (
            call(
                "benchmark",
                "--model",
                checkpoint,
                "--data",
                data,
                "--output",
                output,
                *options,
                monkeypatch=monkeypatch,
            )
            == 0
        )
        table = pq.read_table(output / "expclip-small" / "mine" / "predictions.parquet")
        assert {column[2:] for column in table.column_names if column.startswith("p_")} == classes
        entries = {entry["id"]: entry for entry in table.to_pylist()}
        assert "not an image" in entries["face-5"]["error"] and entries["face-5"]["guess"] is None
        left_out = "labelled fear, which is no candidate"
        assert entries["face-2"]["error"] == (left_out if name == "typed" else None)
        assert results(output)[0]["n"] == ("29" if name == "typed" else "39")


def test_groups_of_people_are_scored_apart(tmp_path, faces, checkpoint, monkeypatch):
    import pyarrow as pa

    table = pq.read_table(faces / "faces.parquet")
    pq.write_table(table.append_column("age", pa.array(["young", "old"] * 20)), tmp_path / "ages.parquet")
    output = tmp_path / "out"
    arguments = (
        "--model",
        checkpoint,
        "--data",
        f"mine={tmp_path / 'ages.parquet'}",
        "--group",
        "age",
        "--output",
        output,
    )
    assert call("benchmark", *arguments, "--prompts", "photo", monkeypatch=monkeypatch) == 0
    groups = {row["group"]: row for row in csv.DictReader((output / "groups.csv").open())}
    entries = pq.read_table(output / "expclip-small" / "mine" / "predictions.parquet").to_pylist()
    for name, parity in (("young", 0), ("old", 1)):
        own = [e for i, e in enumerate(entries) if i % 2 == parity and e["error"] is None]
        assert int(groups[name]["n"]) == len(own)
        assert float(groups[name]["war"]) == pytest.approx(
            100 * np.mean([e["guess"] == e["truth"] for e in own]), abs=0.01
        )
    assert min(float(row["gap"]) for row in groups.values()) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("rafdb", "expected NAME=PATH"),
        ("rafdb={}/nowhere", "no face data at"),
        ("rafdb={}/empty", "no images below"),
        ("mine=clips={}/empty", "no images below"),
        ("rafdb={}/odd", "unknown label 'Grumpy'"),
        ("afew={}/bad.txt", "expected `path num_frames label`"),
    ],
)
def test_data_that_is_not_as_it_should_be(tmp_path, checkpoint, monkeypatch, capsys, data, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "Grumpy").mkdir(parents=True)
    picture().save(tmp_path / "odd" / "Grumpy" / "1.png")
    (tmp_path / "bad.txt").write_text("just a name\n")
    arguments = ("--model", checkpoint, "--data", data.format(tmp_path), "--output", tmp_path / "out")
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_class_without_faces_and_an_unreadable_clip(tmp_path, faces, checkpoint, monkeypatch):
    folder = tmp_path / "clips"
    for name in ("Happy/one", "Happy/two"):
        (folder / name).mkdir(parents=True)
        picture().save(folder / name / "1.png")
    (folder / "Happy" / "two" / "1.png").write_bytes(b"no image")
    output = tmp_path / "out"
    assert (
        call(
            "benchmark",
            "--model",
            checkpoint,
            "--data",
            f"ferv39k={folder}",
            "--output",
            output,
            monkeypatch=monkeypatch,
        )
        == 0
    )
    row = results(output)[0]
    assert (row["n"], row["skipped"]) == ("1", "1")
    assert float(row["uar"]) == float(row["war"])  # only happiness occurs


def test_two_processes_score_what_one_does(tmp_path, faces, checkpoint):
    for processes in (1, 2):
        arguments = ("--model", checkpoint, "--data", f"rafdb={faces / 'rafdb'}", f"mine={faces / 'faces.parquet'}")
        result = run("benchmark", *arguments, "--output", tmp_path / str(processes), processes=processes)
        assert result.returncode == 0, result.stderr
    drop = ("seconds",)
    one, two = ([{k: v for k, v in row.items() if k not in drop} for row in results(tmp_path / n)] for n in ("1", "2"))
    assert one == two and len(one) == 10


def test_the_reported_figures_are_the_papers(shared):
    ours, theirs = (
        (path.read_text().splitlines())
        for path in (Path("training/evaluation/reported_results.csv"), SHARED / "reported_results.csv")
    )
    assert ours == theirs and len(reported()) == 204


def test_results_are_held_against_the_reported_ones(tmp_path, faces, checkpoint, monkeypatch, capsys):
    data = ("--data", f"rafdb={faces / 'rafdb'}", "--output", tmp_path / "out")
    assert call("benchmark", "--model", checkpoint, *data, "--expect", "reported", monkeypatch=monkeypatch) == 2
    assert "nothing to compare" in capsys.readouterr().err
    named = ("--model", f"exp-clip-b32={checkpoint}", *data, "--expect", "reported")
    assert call("benchmark", *named, monkeypatch=monkeypatch) == 1
    assert "exp-clip-b32 on rafdb, photo: UAR" in capsys.readouterr().err
    assert call("benchmark", *named, "--tolerance", "100", monkeypatch=monkeypatch) == 0
    assert "5 of 5 results are within 100 points" in capsys.readouterr().out

    rows = json.loads((tmp_path / "out" / "exp-clip-b32" / "rafdb" / "rows.json").read_text())["rows"]
    logged = {(row["benchmark"], row["prompt_set"]): row for row in reported() if row["model"] == "exp-clip-b32"}
    for row in rows:
        row["uar"], row["war"] = (
            logged["rafdb", row["prompt_set"]]["uar"] + 1.0,
            logged["rafdb", row["prompt_set"]]["war"],
        )
    assert [round(row["d_uar"], 6) for row in differences(rows)] == [1.0] * 5


def test_the_mini_and_its_towers_side_by_side(tmp_path, monkeypatch):
    folder = tmp_path / "faces"
    for path in EXAMPLES.glob("average-*.png"):
        label = path.stem.removeprefix("average-")
        (folder / label).mkdir(parents=True)
        (folder / label / path.name).write_bytes(path.read_bytes())
    models = ("expclip-mini", f"towers=clip-of:{MINI}")
    arguments = (
        "--model",
        *models,
        "--data",
        f"examples={folder}",
        "--label-set",
        "rafdb",
        "--output",
        tmp_path / "out",
    )
    assert call("benchmark", *arguments, monkeypatch=monkeypatch) == 0
    rows = {(row["model"], row["prompt_set"]): float(row["war"]) for row in results(tmp_path / "out")}
    assert set(rows) == {(name, prompts) for name in ("expclip-mini", "towers") for prompts in PROMPT_SETS}
    assert rows["expclip-mini", "ensemble10"] == rows["towers", "ensemble10"] == 100  # the examples are easy
    happiness = [
        pq.read_table(tmp_path / "out" / name / "examples" / "predictions.parquet")["p_happiness"].to_numpy()
        for name in ("expclip-mini", "towers")
    ]
    assert np.abs(happiness[0] - happiness[1]).max() > 0.01  # the head was taken off
