"""The values on the page are the library's, with and without the head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_expclip import MINI, WORD_SETS, FaceAnalyzer, FaceDetector, load_checkpoint, merge
from modeling_expclip.media.explain import directions, draw_heat, face_maps
from modeling_expclip.media.images import open_image
from modeling_expclip.media.label_sets import Words
from space.page.inputs import VIDEO_LIMITS
from space.page.recognition import Recogniser, without_head

from .conftest import EXAMPLES, GROUP

LABELS = ("bored", "over the moon", "angry")


@pytest.fixture(scope="module")
def recogniser(yunet) -> Recogniser:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPCLIP_YUNET", str(yunet))
        return Recogniser(MINI)


@pytest.fixture
def no_detector(monkeypatch):
    def missing():
        raise ImportError("no face detector")

    monkeypatch.setattr("space.page.recognition.FaceDetector", missing)


def test_faces_and_scores_are_the_analyzers(recogniser, yunet):
    image = open_image(GROUP)
    expected = FaceAnalyzer(detector=yunet).photo(image, LABELS, prompts="photo")
    read = recogniser.classify(image, recogniser.prototypes(LABELS, "photo"))
    assert len(read) == 5
    for face, answer in zip(read, expected, strict=True):
        assert face.box == answer["box"] and face.label == answer["label"]
        assert face.scores == pytest.approx(answer["scores"], abs=1e-6)
        assert sum(face.clip_scores.values()) == pytest.approx(1)
        assert face.clip_scores != pytest.approx(face.scores, abs=1e-3)


def test_labels_by_themselves_and_action_units_are_the_analyzers(recogniser, yunet):
    image, units = open_image(GROUP), tuple(WORD_SETS["action_units"])[:2]
    labels = (*units, "over the moon")
    contrasts = {unit: WORD_SETS["action_units"][unit] for unit in units}
    expected = FaceAnalyzer(detector=yunet).photo(image, labels, contrasts=contrasts)
    read = recogniser.classify(image, recogniser.prototypes(labels, "ensemble10", True))
    for face, answer in zip(read, expected, strict=True):
        assert face.label == answer["label"] and face.scores == pytest.approx(answer["scores"], abs=1e-6)
    nothing = recogniser.prototypes(("tractor",), "ensemble10", True)
    assert [face.label for face in recogniser.classify(image, nothing)] == [None] * 5


def test_without_the_head_it_is_clip(no_detector):
    recogniser = Recogniser(MINI)
    read = recogniser.classify(open_image(EXAMPLES / "average-fear.png"), recogniser.prototypes(LABELS, "photo"))
    model, processor = load_checkpoint(MINI)
    model.projection_head = torch.nn.Identity()
    [face] = FaceAnalyzer(model, processor, faces=False).photo(EXAMPLES / "average-fear.png", LABELS, prompts="photo")
    assert read[0].clip_scores == pytest.approx(face["scores"], abs=1e-6)


def test_the_clip_beside_it_shares_its_weights():
    model, _ = load_checkpoint(MINI)
    clip = without_head(model)
    theirs = {parameter.data_ptr() for parameter in model.parameters()}
    assert all(parameter.data_ptr() in theirs for parameter in clip.parameters())
    assert not any(tensor.is_meta for tensor in clip.buffers())


def test_without_a_detector_the_whole_picture_is_read(no_detector, caplog):
    recogniser = Recogniser()
    assert "no face detector" in caplog.text
    assert "whole image" in recogniser.no_detector and not recogniser.no_head
    [face] = recogniser.classify(
        open_image(EXAMPLES / "average-happiness.png"), recogniser.prototypes(("furious", "joyful"), "ensemble5")
    )
    assert face.box is None and face.label == "joyful"


def test_weights_that_are_named_and_not_there_end_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPCLIP_YUNET", str(tmp_path / "none.onnx"))
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        Recogniser()


def test_without_a_network_faces_are_found(monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("EXPCLIP_YUNET", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recogniser = Recogniser(MINI)
    assert recogniser.detector == "mtcnn" and not recogniser.no_detector
    assert caplog.text.count("faces are found by MTCNN") == 1
    assert len(recogniser.classify(open_image(GROUP), recogniser.prototypes(LABELS, "photo"))) == 5


def test_no_face_in_the_picture(recogniser):
    assert not recogniser.no_detector
    assert recogniser.classify(Image.new("RGB", (640, 480), "#7ab"), recogniser.prototypes(LABELS, "photo")) == []


def test_a_plain_clip_has_nothing_to_compare(tmp_path, no_detector):
    merge(MINI, tmp_path / "merged")
    recogniser = Recogniser(str(tmp_path / "merged"))
    assert "plain CLIP" in recogniser.no_head and recogniser.name == "merged"
    image = open_image(EXAMPLES / "average-anger.png")
    [face] = recogniser.classify(image, recogniser.prototypes(LABELS, "photo"))
    assert face.clip_scores is None
    ours = Recogniser(MINI)
    assert face.scores == pytest.approx(ours.classify(image, ours.prototypes(LABELS, "photo"))[0].scores, abs=1e-3)


def test_the_model_comes_from_the_environment(monkeypatch, checkpoint, no_detector):
    monkeypatch.setenv("EXPCLIP_MODEL", str(checkpoint))
    assert Recogniser().name == "expclip-small"


def test_a_video_is_read_as_by_the_analyzer(recogniser, short_video, yunet):
    expected = list(FaceAnalyzer(detector=yunet).video(short_video, LABELS, prompts="photo"))
    read = list(recogniser.video(short_video, recogniser.prototypes(LABELS, "photo"), VIDEO_LIMITS))
    assert len(read) == len(expected) > 8
    assert [entry["box"] for entry in read] == [entry["box"] for entry in expected]
    assert read[-1]["scores"] == pytest.approx(expected[-1]["scores"], abs=1e-6)


def test_an_explanation_is_the_librarys_around_the_face(recogniser, yunet):
    image = open_image(GROUP)
    wanted = recogniser.prototypes(LABELS, "photo")
    box = FaceDetector(yunet)(image)[2].box
    drawn = recogniser.explain(image, wanted, 2, "angry")
    assert box[2] - box[0] < drawn.width < image.width
    [heat] = face_maps(
        recogniser._with_head.pipeline,
        image,
        FaceDetector(yunet)(image)[2],
        directions(recogniser._with_head.pipeline, Words(LABELS, "photo"))[2:],
    )
    room = max(box[2] - box[0], box[3] - box[1]) // 4
    x, y = max(0, box[0] - room), max(0, box[1] - room)
    assert np.array_equal(np.asarray(draw_heat(image, heat))[y : y + drawn.height, x : x + drawn.width], drawn)
    for number, label in ((5, "angry"), (-1, "angry"), (0, "somebody else's")):
        with pytest.raises(ValueError, match="press Compare"):
            recogniser.explain(image, wanted, number, label)


def test_an_explanation_without_a_detector_or_without_a_head(no_detector, tmp_path):
    face = open_image(EXAMPLES / "average-happiness.png")
    merge(MINI, tmp_path / "plain")
    with_head, plain = (
        each.explain(face, each.prototypes(("joyful",), "photo", True), 0, "joyful")
        for each in (Recogniser(MINI), Recogniser(str(tmp_path / "plain")))
    )
    assert with_head.size == plain.size == face.size
    assert np.abs(np.asarray(with_head).astype(int) - np.asarray(plain)).max() <= 3
