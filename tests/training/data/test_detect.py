"""``faces.crop: detect``: faces in photos of scenes are found, cut out, and their boxes kept; what has none is listed, or left out of a score."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PIL

from modeling_expclip.media.faces import Face, crop_face
from tests.conftest import picture
from tests.training.conftest import call
from training.alignment.run import ImageDataset
from training.data import faces as data
from training.embeddings.fill import embed
from training.evaluation.adapters import load_zero_shot_model
from training.evaluation.samples import load_samples
from training.evaluation.zero_shot import load_zero_shot
from training.models.clip import FrozenClip
from training.recipe import FacesRecipe, load_recipe

NOBODY = (1, 4)
LABELS = ("happiness", "anger")
DESCRIBER = {"kind": "describer", "instruction": "Describe how the picture was taken."}


class Spot:
    """Stands in for YuNet, or MTCNN: "faces" are what is marked by a red and a green pixel at their corners; there may be several."""

    def __init__(self, detector):
        self.name = "mtcnn" if detector == "mtcnn" else "yunet"

    def __call__(self, image):
        pixels = np.asarray(image).astype(int)
        corners = [np.argwhere((pixels == colour).all(-1)) for colour in ((255, 0, 0), (0, 255, 0))]
        faces = [Face((left, top, right + 1, bottom + 1), 0.9, ()) for (top, left), (bottom, right) in zip(*corners)]
        return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]))


@pytest.fixture
def detector(monkeypatch):
    monkeypatch.setattr(data, "FaceDetector", Spot)
    data.face_detector.cache_clear()
    yield
    data.face_detector.cache_clear()


def scene(seed: int, boxes) -> PIL.Image:
    image = picture(seed, (90, 60))
    for left, top, right, bottom in boxes:
        image.putpixel((left, top), (255, 0, 0))
        image.putpixel((right - 1, bottom - 1), (0, 255, 0))
    return image


def write(path: Path, images) -> Path:
    contents = []
    for image in images:
        content = io.BytesIO()
        image.save(content, "PNG")
        contents.append({"bytes": content.getvalue(), "path": None})
    rows = {
        "id": [f"face-{i}" for i in range(len(images))],
        "image": contents,
        "label": [LABELS[i % 2] for i in range(len(images))],
    }
    text = Value("string")
    Dataset.from_dict(rows, features=Features({"id": text, "image": Image(), "label": text})).to_parquet(path)
    return path


@pytest.fixture
def scenes(tmp_path):
    """Six scenes with faces of different places and sizes, the first with two; of NOBODY none. And the largest boxes."""
    largest = {i: (10 + 2 * i, 5 + i, 40 + 3 * i, 33 + i) for i in range(6) if i not in NOBODY}
    boxes = {i: [box] for i, box in largest.items()}
    boxes[0] = [(60, 40, 70, 50), largest[0]]  # the pixels' order is not the faces' size
    images = [scene(i, boxes.get(i, [])) for i in range(6)]
    boxes[0].reverse()
    return write(tmp_path / "scenes.parquet", images), images, largest


@pytest.fixture
def described(recipe):
    def load(*overrides):
        return load_recipe(recipe(teacher=DESCRIBER), overrides)

    return load


def rows_of(cache: Path, kind: str):
    tables = [pq.read_table(path) for path in sorted(cache.glob(f"{kind}-*/part-*.parquet"))]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_faces_are_found_cut_out_and_their_boxes_kept(tmp_path, scenes, described, detector, margin):
    path, images, largest = scenes
    cache = tmp_path / "cache"
    embed(described("faces.crop=detect", f"faces.margin={margin}"), [str(path)], cache, 4)
    crops = [crop_face(images[i], Face(box, 0.9, ()), margin) for i, box in largest.items()]
    embed(described(), [str(write(tmp_path / "crops.parquet", crops))], tmp_path / "by hand", 8)
    for kind in ("clip", "teacher"):
        found, by_hand = rows_of(cache, kind), rows_of(tmp_path / "by hand", kind)
        assert {name: tuple(row["box"]) for name, row in found.items()} == {
            f"face-{i}": box for i, box in largest.items()
        }
        for row, expected in zip(found.values(), by_hand.values()):
            np.testing.assert_allclose(row["embedding"], expected["embedding"], atol=1e-5)
            assert "box" not in expected  # a cache of faces taken as they are is what it was
    listed = list(csv.reader((cache / "skipped.csv").open()))[1:]
    assert listed == [[f"face-{i}", "NoFaceError: no face found"] for i in NOBODY]


def test_a_cache_of_faces_as_they_are_cannot_go_on_with_faces_looked_for(tmp_path, scenes, described, detector):
    embed(described(), [str(scenes[0])], tmp_path / "cache", 4)
    with pytest.raises(ValueError, match="was begun with crop none, wanted is detect"):
        embed(described("faces.crop=detect"), [str(scenes[0])], tmp_path / "cache", 4)


def test_faces_of_two_detectors_are_not_mixed(tmp_path, scenes, described, clip_folder, detector, monkeypatch, capsys):
    """What is recorded is the detector in use, not what was asked for."""
    embed(described("faces.crop=detect"), [str(scenes[0])], tmp_path / "cache", 4)
    embed(described("faces.crop=yunet"), [str(scenes[0])], tmp_path / "cache", 4)
    with pytest.raises(ValueError, match="was begun with crop detect, wanted is mtcnn"):
        embed(described("faces.crop=mtcnn"), [str(scenes[0])], tmp_path / "cache", 4)
    results = tmp_path / "results"
    assert benchmark(monkeypatch, clip_folder, scenes[0], results, "--crop", "mtcnn") == 0
    assert {row["crop"] for row in csv.DictReader((results / "results.csv").open())} == {"mtcnn"}
    assert benchmark(monkeypatch, clip_folder, scenes[0], results, "--crop", "detect") == 2
    assert "was made with another crop" in capsys.readouterr().err


def test_without_the_detector_nothing_is_begun(tmp_path, scenes, recipe, monkeypatch, capsys):
    monkeypatch.setenv("EXPCLIP_YUNET", str(tmp_path / "nowhere.onnx"))
    pytest.importorskip("cv2")
    data.face_detector.cache_clear()
    arguments = (recipe(teacher=DESCRIBER), "--data", scenes[0], "--output", tmp_path / "cache")
    assert call("embed", *arguments, "--override", "faces.crop=detect", monkeypatch=monkeypatch) == 2
    assert "crop: detect; crop: none takes them as they are): no face detector" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_score_leaves_out_images_without_a_face_and_says_how_many(scenes, described, detector, capsys):
    path, images, largest = scenes
    clip = FrozenClip(described().clip)
    found = load_zero_shot(str(path), clip, LABELS, FacesRecipe(crop="detect"))
    assert "2 of 6 images show no face that is found, and are left out" in capsys.readouterr().out
    assert found.references.tolist() == [i % 2 for i in largest]
    crops = [crop_face(images[i], Face(box, 0.9, ())) for i, box in largest.items()]
    torch.testing.assert_close(found.image, clip(crops), atol=1e-5, rtol=0)


def benchmark(monkeypatch, clip_folder, path, output, *options):
    models = (f"one={clip_folder}", f"two={clip_folder}")
    arguments = ("--model", *models, "--data", f"mine={path}", "--prompts", "photo", "--output", output, *options)
    return call("benchmark", *arguments, monkeypatch=monkeypatch)


def test_a_benchmark_of_photos_scores_the_faces_in_them(tmp_path, scenes, clip_folder, detector, monkeypatch):
    path, images, largest = scenes
    assert benchmark(monkeypatch, clip_folder, path, tmp_path / "results", "--crop", "detect") == 0
    rows = list(csv.DictReader((tmp_path / "results" / "results.csv").open()))
    assert {(row["n"], row["skipped"], row["crop"]) for row in rows} == {("4", "2", "detect")}
    table = pq.read_table(tmp_path / "results" / "one" / "mine" / "predictions.parquet").to_pylist()
    assert [row["error"] for row in table if row["error"]] == ["NoFaceError: no face found"] * 2
    model = load_zero_shot_model(str(clip_folder))
    crops = [crop_face(images[i], Face(box, 0.9, ())) for i, box in largest.items()]
    expected = model.logits(model.image_features(crops), sorted(LABELS), "photo").softmax(-1)
    found = [[row[f"p_{label}"] for label in sorted(LABELS)] for row in table if not row["error"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Another request for the same output: images as they are.
    assert benchmark(monkeypatch, clip_folder, path, tmp_path / "results") == 2


def test_a_clip_is_its_frames_that_show_a_face(tmp_path, detector):
    for i in range(20):
        folder = tmp_path / "clips" / "anger" / "film"
        folder.mkdir(parents=True, exist_ok=True)
        scene(i, [(5, 5, 25 + i, 30)] if i % 4 else []).save(folder / f"{i:03d}.png")
    samples = load_samples("mine", f"clips={tmp_path / 'clips'}", None, crop="detect")["all"]
    whole = load_samples("mine", f"clips={tmp_path / 'clips'}", None)["all"]
    assert len(whole.frames(0)) == 16
    frames = samples.frames(0)
    assert len(frames) == 12 and {frame.size for frame in frames} <= {(side, side) for side in range(25, 45)}


def test_scenes_taken_for_crops_are_said_once(tmp_path, scenes, described, clip_folder, detector, monkeypatch, capsys):
    path, looked_at = scenes[0], []

    def warning(images):
        looked_at.append(sum(1 for _ in images))
        return "6 of the first 6 images show no single face that fills them, but images are taken as face crops here"

    monkeypatch.setattr(data, "crops_warning", warning)
    embed(described(), [str(path)], tmp_path / "cache", 4)
    assert capsys.readouterr().err.count(f"{path}: 6 of the first 6 images show no single face") == 1
    embed(described(), [str(path)], tmp_path / "streamed", 4, streaming=True)
    assert capsys.readouterr().err.count("here: --override faces.crop=detect finds the faces") == 1
    load_zero_shot(str(path), FrozenClip(described().clip), LABELS, FacesRecipe())
    assert capsys.readouterr().err.count("here: faces.crop: detect finds the faces") == 1
    assert benchmark(monkeypatch, clip_folder, path, tmp_path / "results") == 0  # two models on one data set
    assert capsys.readouterr().err.count("here: --crop detect finds the faces") == 1
    assert looked_at == [6, 6, 6, 6]

    embed(described("faces.crop=detect"), [str(path)], tmp_path / "found", 4)
    load_zero_shot(str(path), FrozenClip(described().clip), LABELS, FacesRecipe(crop="detect"))
    assert benchmark(monkeypatch, clip_folder, path, tmp_path / "faces", "--crop", "detect") == 0
    monkeypatch.setenv("RANK", "1")  # another process of torchrun
    data.warn_of_scenes([], "", "")
    assert len(looked_at) == 4


def test_training_from_images_wants_a_cache_for_it(scenes, described):
    with pytest.raises(ValueError, match="faces.crop: detect needs an embedding cache"):
        ImageDataset(described("faces.crop=detect"), [str(scenes[0])])


def test_yunet_finds_the_face_in_a_scene(shared, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setenv("EXPCLIP_YUNET", str(shared / "models" / "face_detection_yunet_2023mar.onnx"))
    data.face_detector.cache_clear()
    rows = pq.read_table(shared / "data/facial_expressions/validation.parquet", columns=["image"]).slice(0, 8)
    images = (PIL.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows.to_pylist())
    face = next(image for image in images if image.size == (160, 160))
    photo = PIL.new("RGB", (900, 600), (70, 90, 110))
    photo.paste(face, (500, 200))
    _, (left, top, right, bottom) = data.find_face(photo, "detect")
    assert 490 < left < right < 670 and 190 < top < bottom < 370
    with pytest.raises(data.NoFaceError):
        data.find_face(PIL.new("RGB", (900, 600), (120, 170, 230)), "detect")
    data.face_detector.cache_clear()
