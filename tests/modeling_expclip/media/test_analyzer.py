"""FaceAnalyzer: what it takes for a model, a detector and an image, and what it answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from transformers import pipeline

from modeling_expclip import LABEL_SETS, MINI, FaceAnalyzer, FacialExpressionPipeline, load_checkpoint
from modeling_expclip.media.faces import Face
from modeling_expclip.media.stream import find_faces
from tests.conftest import picture

SEVEN = LABEL_SETS["rafdb"]


def halves(image):
    """Stands in for a detector: the right two thirds and the left third."""
    third = image.width // 3
    boxes = [(third, 0, image.width, image.height), (0, 0, third, image.height)]
    return [Face(box, 0.9, ((0.0, 0.0),) * 5) for box in boxes]


@pytest.fixture(scope="module")
def analyzer(checkpoint):
    return FaceAnalyzer(checkpoint, detector=halves)


def same(one, other):
    """Up to rounding, which differs between batches."""
    assert [face["box"] for face in one] == [face["box"] for face in other]
    for first, second in zip(one, other):
        assert first["label"] == second["label"]
        assert first["scores"] == pytest.approx(second["scores"], abs=1e-5)


def test_a_photo(analyzer):
    faces = analyzer.photo(picture(size=(90, 60)))
    assert [face["box"] for face in faces] == [(30, 0, 90, 60), (0, 0, 30, 60)]
    for face in faces:
        assert list(face) == ["box", "detection_score", "label", "scores"] and face["detection_score"] == 0.9
        assert tuple(face["scores"]) == SEVEN and sum(face["scores"].values()) == pytest.approx(1)
        assert face["label"] == max(face["scores"], key=face["scores"].get)


def test_its_scores_are_the_pipelines_of_the_crop(checkpoint, analyzer):
    crops = FaceAnalyzer(checkpoint, faces=False)
    answer = analyzer.pipeline(picture(), candidate_labels=["a", "b"], prompts="photo")
    (face,) = crops.photo(picture(), labels=["a", "b"], prompts="photo")
    assert face["box"] is None and face["detection_score"] is None
    assert face["scores"] == pytest.approx({entry["label"]: entry["score"] for entry in answer}, abs=1e-5)


def test_whatever_holds_an_image(analyzer, tmp_path):
    image = picture(size=(90, 60))
    image.save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    array = np.asarray(image)
    expected = analyzer.photo(image)
    for source in (
        tmp_path / "photo.png", str(tmp_path / "photo.png"), content, array, array[:, :, ::-1][:, :, ::-1],
        {"image": image}, {"bytes": content, "path": None},
    ):  # fmt: skip
        same(analyzer.photo(source), expected)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_many_photos(checkpoint, batch_size):
    analyzer = FaceAnalyzer(checkpoint, detector=halves, batch_size=batch_size)
    images = [picture(seed, (60 + seed, 40)) for seed in range(7)]
    for answer, image in zip(analyzer.photos(iter(images)), images, strict=True):
        same(answer, analyzer.photo(image))
    assert list(analyzer.photos([])) == []


def test_a_photo_that_cannot_be_read(analyzer, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [picture(0), tmp_path / "broken.png", picture(1)]
    with pytest.raises(OSError, match=r"broken\.png"):
        list(analyzer.photos(images))
    errors = {}
    answers = list(analyzer.photos(images, on_error=errors.__setitem__))
    assert [len(faces) for faces in answers] == [2, 0, 2]
    assert list(errors) == [1] and "broken.png" in str(errors[1])


def test_models_pipelines_and_folders_are_one(checkpoint, analyzer):
    model, processor = load_checkpoint(checkpoint)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    expected = analyzer.photo(picture())
    for source in (
        (model, processor),
        (FacialExpressionPipeline(model=model, **parts),),
        (pipeline("zero-shot-image-classification", model=model, **parts),),
        (str(checkpoint),),
    ):
        same(FaceAnalyzer(*source, detector=halves).photo(picture()), expected)


def test_a_plain_clip(clip_folder):
    (face, _) = FaceAnalyzer(clip_folder, detector=halves).photo(picture(), label_set="mafw")
    assert len(face["scores"]) == 11


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "at least 1"),
        ({"workers": 0}, ValueError, "at least 1"),
        ({"margin": float("nan")}, ValueError, "must lie between 0 and 10"),
        ({"batch_size": 2.5}, ValueError, "batch_size must be a whole number"),
        ({"detector": 5}, ValueError, "a FaceDetector or a function, got 5"),
        ({"margin": -0.1}, ValueError, "must lie between 0 and 10"),
        ({"precision": "fp8"}, ValueError, "'fp32' or 'bf16'"),
        ({"faces": False, "detector": halves}, ValueError, "no use with faces=False"),
        ({"faces": False, "margin": 0.5}, ValueError, "no use with faces=False"),
        ({"faces": False, "align": True}, ValueError, "no use with faces=False"),
        ({"backend": "tensorrt"}, ValueError, "expected one of torch, openvino, onnx"),
        ({"backend": "onnx"}, ValueError, "expclip export --backend onnx"),
        ({"detector": "/nowhere/yunet.onnx"}, OSError, "/nowhere/yunet.onnx"),
    ],
)
def test_wrong_arguments(checkpoint, options, error, message):
    if options.get("detector") == "/nowhere/yunet.onnx":
        pytest.importorskip("cv2")
    with pytest.raises(error, match=message):
        FaceAnalyzer(checkpoint, **{"faces": False, **options} if "detector" not in options else options)


def test_wrong_models(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="needs its processor"):
        FaceAnalyzer(model, faces=False)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    for source in (checkpoint, FacialExpressionPipeline(model=model, **parts)):
        with pytest.raises(ValueError, match="brings its own"):
            FaceAnalyzer(source, processor, faces=False)
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere'"):
        FaceAnalyzer("nowhere", faces=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, "no labels"),
        ({"labels": ["a"], "label_set": "rafdb"}, "pass one of them"),
        ({"prompts": "none"}, "unknown prompt set"),
    ],
)
def test_wrong_words(analyzer, options, message):
    """Said when it is called, and not when the first answer is wanted."""
    for call in (analyzer.photo, analyzer.photos, analyzer.stream, analyzer.video):
        with pytest.raises(ValueError, match=message):
            call([] if call in (analyzer.photos, analyzer.stream) else "film.mp4", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "longer than 0"),
        ({"window": 1, "clip": "uniform"}, "leave window and fps out"),
        ({"fps": 1, "clip": "uniform"}, "leave window and fps out"),
        ({"fps": 0}, "more than 0"),
        ({"clip": "middle"}, "clip must be 'uniform' or 'paper', got 'middle'"),
    ],
)
def test_wrong_calls_of_video(analyzer, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        analyzer.video(tmp_path, frames_fps=25, **options)


def test_one_image_is_not_many_photos(analyzer, tmp_path):
    """It would be taken for its rows of pixels, its bytes, or the letters of its name."""
    for image in (
        "a.jpg",
        tmp_path / "a.jpg",
        np.asarray(picture()),
        b"x",
        bytearray(b"x"),
        {"image": picture()},
        picture(),
    ):
        with pytest.raises(ValueError, match=f"photos takes many images, got one .{type(image).__name__}"):
            analyzer.photos(image)


def test_a_detector_that_returns_nothing_is_not_no_detector(checkpoint):
    with pytest.raises(TypeError, match="NoneType"):
        FaceAnalyzer(checkpoint, detector=lambda image: None).photo(picture())


def test_training_mode_is_refused(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    for source in ((model, processor), (FacialExpressionPipeline(model=model, **parts),)):
        model.train()
        with pytest.raises(ValueError, match="training mode"):
            FaceAnalyzer(*source, faces=False)


def test_arrays_that_wait_are_counted(checkpoint):
    """As PIL's images are: however large a batch, no more than some 34 million pixels wait."""
    analyzer, drawn = FaceAnalyzer(checkpoint, faces=False, batch_size=64), []

    def arrays():
        for number in range(60):
            drawn.append(number)
            yield np.zeros((3000, 3000, 3), np.uint8) if number else picture()

    found = find_faces(
        ((n, a) for n, a in enumerate(arrays())), analyzer.pipeline.image_processor, None, 0.0, False, 1, 128
    )
    next(found)
    assert len(drawn) < 10
    found.close()


def test_a_model_in_memory_is_what_answers(checkpoint, tmp_path, monkeypatch):
    """Also where it was loaded from a folder with an exported tower: it may have changed since."""
    model, processor = load_checkpoint(checkpoint)
    monkeypatch.setattr("modeling_expclip.media.analyzer.exported_backend", lambda folder: "onnx")
    towers = []
    monkeypatch.setattr(
        "modeling_expclip.media.analyzer.load_image_tower",
        lambda source, backend: towers.append((source, backend)) or (lambda pixels: torch.ones(len(pixels), 48)),
    )
    FaceAnalyzer(model, processor, faces=False).photo(picture())
    assert towers == []
    FaceAnalyzer(checkpoint, faces=False).photo(picture())
    assert towers == [(str(checkpoint), "onnx")]


def test_prompts_are_encoded_once_for_a_stream(analyzer, monkeypatch):
    calls = []
    encode = analyzer.pipeline.class_prototypes
    monkeypatch.setattr(analyzer.pipeline, "class_prototypes", lambda *a: calls.append(a) or encode(*a))
    assert len(list(analyzer.photos([picture(i) for i in range(20)]))) == 20
    assert len(calls) == 1


def test_one_analyzer_in_several_threads(analyzer):
    images = [picture(seed, (60, 40)) for seed in range(6)]
    expected = list(analyzer.photos(images))
    found = {}

    def read(number):
        found[number] = list(analyzer.photos(images, labels=SEVEN))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in found.values():
        for answer, wanted in zip(answers, expected, strict=True):
            same(answer, wanted)
    assert len(found) == 4


def test_no_threads_stay_when_an_iterator_is_left(analyzer):
    before = threading.active_count()
    for _ in range(3):
        faces = analyzer.photos(picture(i) for i in range(1000))
        next(faces)
        faces.close()
    assert threading.active_count() <= before + 1


def test_half_precision_models(checkpoint):
    model, processor = load_checkpoint(checkpoint, torch.bfloat16)
    (face,) = FaceAnalyzer(model, processor, faces=False).photo(picture())
    (expected,) = FaceAnalyzer(checkpoint, faces=False).photo(picture())
    assert face["scores"] == pytest.approx(expected["scores"], abs=0.03)


def test_the_embedded_model_is_the_default():
    (face,) = FaceAnalyzer(faces=False).photo(picture())
    (expected,) = FaceAnalyzer(MINI, faces=False).photo(picture())
    assert face == expected
