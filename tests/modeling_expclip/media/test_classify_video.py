"""Photos and videos through the pipeline and the command, on the mini and on real faces where they are."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI, FaceAnalyzer, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.cli.main import main
from modeling_expclip.media.tracking import overlap
from modeling_expclip.media.video import read_frames, sample_clip
from tests.conftest import picture, write_video
from tests.modeling_expclip.media.test_faces import group_photo, real_faces, yunet  # noqa: F401

pytest.importorskip("cv2")
pytest.importorskip("av")
SEVEN = LABEL_SETS["rafdb"]


@pytest.fixture(scope="module")
def recognise():
    model, processor = load_checkpoint(MINI)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


@pytest.fixture(scope="module")
def film(real_faces, tmp_path_factory):  # noqa: F811
    """Four seconds: two people; after two seconds each shows another face, and they walk a little."""
    left, right = real_faces[:2], real_faces[2:4]

    def frame(number):
        image = Image.new("RGB", (640, 360), (80, 100, 90))
        image.paste(left[number // 20].resize((180, 180)), (20 + 2 * number, 60))
        image.paste(right[number // 20].resize((140, 140)), (480 - 2 * number, 120))
        return image

    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", map(frame, range(40)), fps=10)


def classify(*arguments) -> int:
    return main(["classify", *map(str, arguments)])


def rows_of(path):
    return list(csv.DictReader(path.open(newline="", encoding="utf-8")))


def test_a_group_photo(recognise, yunet, real_faces, tmp_path):  # noqa: F811
    photo, places = group_photo(real_faces[4:8])
    photo.save(tmp_path / "group.png")
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=_orientation(6))
    picture(size=(300, 200)).save(tmp_path / "nobody.png")
    assert classify(tmp_path, "--faces", "--detector", yunet, "--output", tmp_path / "out.csv") == 0
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0])[:9] == ["path", "face", "x0", "y0", "x1", "y1", "detection_score", "label", "error"]
    for name in ("group.png", "turned.png"):  # boxes of a turned photo are those of the photo held upright
        found = [row for row in rows if row["path"].endswith(name)]
        assert [row["face"] for row in found] == ["0", "1", "2", "3"]
        for row, place in zip(found, reversed(places)):
            assert overlap(tuple(int(row[c]) for c in ("x0", "y0", "x1", "y1")), place) > 0.4
            assert 0.7 <= float(row["detection_score"]) <= 1
    (nobody,) = (row for row in rows if row["path"].endswith("nobody.png"))
    assert nobody["error"] == "no face found" and nobody["x0"] == nobody["label"] == nobody["face"] == ""

    analyzer = FaceAnalyzer(recognise, detector=yunet)
    answers = list(analyzer.photos([photo, picture(size=(300, 200))]))
    assert len(answers[0]) == 4 and answers[1] == []
    first = next(row for row in rows if row["path"].endswith("group.png"))
    assert answers[0][0]["label"] == first["label"]
    assert answers[0][0]["scores"] == pytest.approx({label: float(first[label]) for label in SEVEN}, abs=1e-6)
    assert analyzer.photo(photo) == answers[0]


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_people_in_a_film_keep_their_numbers(recognise, yunet, film, tmp_path):  # noqa: F811
    plots = tmp_path / "plots"
    assert classify(film, "--faces", "--detector", yunet, "--output", tmp_path / "out.csv", "--plot", plots) == 0
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0])[:3] == ["path", "time", "face"]
    assert sorted({float(row["time"]) for row in rows}) == pytest.approx(
        [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8, 2, 2.3, 2.5, 2.8, 3, 3.3, 3.5, 3.8]
    )
    assert {row["face"] for row in rows} == {"0", "1"} and len(rows) == 32
    for row in rows:
        expected = 20 + 20 * float(row["time"]) if row["face"] == "0" else 480 - 20 * float(row["time"])
        assert abs(int(row["x0"]) - expected) < 80
    with Image.open(plots / "film.mp4.png") as drawn:
        assert drawn.format == "PNG" and drawn.width > 500
    entries = FaceAnalyzer(recognise, detector=yunet).video(film)
    assert [entry["label"] for entry in entries] == [row["label"] for row in rows]


def scores(recognise, embed):
    """An embedding (D,) -> the probability of each of the seven."""
    (row,) = recognise.probabilities(embed[None], recognise.class_prototypes(SEVEN)).tolist()
    return dict(zip(SEVEN, row))


def test_windows_are_means_of_embeddings(recognise, film):
    frames = list(read_frames(film, 4))
    analyzer = FaceAnalyzer(recognise, faces=False)
    (first, second) = analyzer.video(film, window=2.0)
    assert (first["time"], second["time"]) == (0.0, 2.0) and first["box"] is None
    for window, chosen in ((first, frames[:8]), (second, frames[8:])):
        embeds = torch.cat([e.embeds for _, e in analyzer.embed((i, f.image) for i, f in enumerate(chosen))])
        assert window["scores"] == pytest.approx(scores(recognise, embeds.mean(0)), abs=1e-5)


def test_the_papers_clip_is_the_models_video(recognise, film):
    (answer,) = FaceAnalyzer(recognise, faces=False).video(film, clip="uniform")
    pixels = recognise.image_processor([frame.image for frame in sample_clip(film)], return_tensors="pt")[
        "pixel_values"
    ]
    with torch.inference_mode():
        embeds = recognise.model.get_video_features(pixels[None]).pooler_output
    assert answer["scores"] == pytest.approx(scores(recognise, embeds[0]), abs=1e-5)


def test_clips_and_folders_of_frames_in_the_command(recognise, film, tmp_path):
    frames = tmp_path / "clip" / "frames"
    frames.mkdir(parents=True)
    for number in range(6):
        picture(number).save(frames / f"{number}.png")
    found = {}
    for clip in ("uniform", "paper"):
        output = tmp_path / f"{clip}.json"
        assert classify(frames, "--frames-fps", 25, "--clip", clip, "--output", output) == 0
        (found[clip],) = json.loads(output.read_text())
    assert found["paper"]["scores"] != found["uniform"]["scores"]
    alone = FaceAnalyzer(recognise, faces=False).video(frames, clip="paper", frames_fps=25)
    assert found["paper"]["scores"] == pytest.approx(next(alone)["scores"], abs=1e-6)


def test_damaged_films_keep_what_was_read(film, tmp_path, capsys):
    whole = write_video(tmp_path / "whole.mkv", [picture(i, (160, 120)) for i in range(60)], fps=10)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "half.mp4").write_bytes(film.read_bytes()[:4000])
    picture().save(tmp_path / "picture.png")
    assert classify(tmp_path, "--output", tmp_path / "out.parquet") == 0
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    by_name = {}
    for row in table:
        by_name.setdefault(row["path"].rpartition("/")[2], []).append(row)
    assert len(by_name["whole.mkv"]) == 24 and by_name["whole.mkv"][1]["time"] == pytest.approx(0.3)
    *seen, last = by_name["cut.mkv"]
    assert 6 <= len(seen) <= 16 and all(row["label"] for row in seen)
    assert "is cut off" in last["error"] and last["time"] is None
    assert "is empty" in by_name["empty.mp4"][0]["error"]
    assert "no video that can be read" in by_name["half.mp4"][0]["error"]
    assert by_name["picture.png"][0]["time"] is None and by_name["picture.png"][0]["label"]
    assert "3 of" in capsys.readouterr().err


def test_a_film_without_faces(yunet, tmp_path, capsys):  # noqa: F811
    empty = write_video(tmp_path / "still.mp4", [Image.new("RGB", (64, 48), "grey")] * 10)
    assert classify(empty, "--faces", "--detector", yunet) == 1
    assert "no face found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "0.2"], "--margin is about the faces in photos; add --faces"),
        (["--align"], "add --faces"),
        (["--faces", "--margin", "-1"], "must lie between 0 and 10"),
        (["--batch-size", "0"], "at least 1"),
        (["--window", "2"], "there is none among the paths"),
        (["FILM", "--fps", "0"], "--fps 0.0 must be more than 0"),
        (["FILM", "--clip", "paper", "--window", "1"], "leave --fps and --window out"),
        (["FILM", "--clip", "paper", "--plot", "DIR"], "--clip gives one row a video"),
        (["--backend", "openvino"], "export"),
        (["--frames-fps", "-2"], "--frames-fps -2.0 must be more than 0"),
    ],
)
def test_wrong_calls(film, checkpoint, tmp_path, capsys, arguments, message):
    picture().save(tmp_path / "a.png")
    arguments = [a.replace("FILM", str(film)).replace("DIR", str(tmp_path)) for a in arguments]
    assert classify(tmp_path / "a.png", *arguments, "--model", checkpoint) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


@pytest.fixture
def odd_films(tmp_path):
    """Videos whose names no picture can simply take."""
    film = write_video(tmp_path / "film.mp4", [picture(i, (64, 48)) for i in range(4)], fps=10).read_bytes()
    (tmp_path / "films" / "other").mkdir(parents=True)
    names = [b"caf\xe9.mp4", b"x" * 248 + b".mp4", b"two\nlines.mp4", b"$\\nope$.mp4", b"same.mp4", b"other/same.mp4"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path / "films") + b"/" + name)).write_bytes(film)
    return tmp_path / "films"


def test_timelines_of_odd_names(odd_films, tmp_path, capsys):
    plots = tmp_path / "plots"
    assert classify(odd_films, "--prompts", "photo", "--output", tmp_path / "out.csv", "--plot", plots) == 0
    names = sorted(path.name for path in plots.iterdir())
    assert len(names) == 6 and all(name.isprintable() and len(name) <= 230 for name in names)
    assert "caf\\xe9.mp4.png" in names and sum(name.startswith("same.mp4-") for name in names) == 2
    assert "was not drawn" not in capsys.readouterr().err and len(rows_of(tmp_path / "out.csv")) == 12


def test_pictures_are_replaced_when_asked_to(odd_films, tmp_path, capsys, monkeypatch):
    film = odd_films / "other" / "same.mp4"
    (tmp_path / "same.mp4.png").write_text("thesis")
    options = ("--prompts", "photo", "--plot", tmp_path)
    with monkeypatch.context() as context:  # refused before anything is loaded
        context.setattr("modeling_expclip.media.classify.Classifier", None)
        assert classify(film, *options, "--output", tmp_path / "out.csv") == 2
    assert f"{tmp_path / 'same.mp4.png'} would be replaced; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "same.mp4.png").read_text() == "thesis" and not list(tmp_path.glob("*out.csv*"))
    assert classify(film, *options, "--overwrite") == 0
    assert (tmp_path / "same.mp4.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_a_message(odd_films, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nfont")

    monkeypatch.setattr("modeling_expclip.media.plot.draw_timeline", fail)
    film = odd_films / "other" / "same.mp4"
    assert classify(film, "--prompts", "photo", "--plot", tmp_path / "p", "--output", tmp_path / "out.csv") == 0
    assert f"{tmp_path / 'p' / 'same.mp4.png'} was not drawn (RuntimeError: no font)\n" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out.csv")) == 2


def test_a_run_that_goes_on_draws_what_was_not_drawn(odd_films, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    output, plots = tmp_path / "out.csv", tmp_path / "plots"
    with monkeypatch.context() as context:
        context.setattr("modeling_expclip.media.table.write", interrupt)
        assert classify(odd_films, "--prompts", "photo", "--output", output, "--plot", plots) == 130
    next(plots.iterdir()).unlink()
    assert classify(odd_films, "--prompts", "photo", "--output", output, "--plot", plots) == 0
    assert len(list(plots.iterdir())) == 6


def test_a_timeline_of_odd_labels(film, tmp_path):
    """matplotlib would take them for mathematics, hide them, or leave no room for the curves."""
    labels = r"$\nope$,_hidden," + "long " * 30
    assert classify(film, "--labels", labels, "--prompts", "photo", "--plot", tmp_path) == 0
    with Image.open(tmp_path / "film.mp4.png") as drawn:
        assert drawn.width > 500
