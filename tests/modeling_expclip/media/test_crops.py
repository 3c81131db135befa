"""Saying once that images are no face crops: photos and landscapes, not the crops of real data sets."""

from __future__ import annotations

import io
import random

import pyarrow.parquet as pq
import pytest
from PIL import Image

from modeling_expclip.cli.main import main
from modeling_expclip.media import crop_check as crops
from modeling_expclip.media.crop_check import crops_warning
from modeling_expclip.media.faces import Face
from tests.conftest import picture, write_video

SKY = Image.new("RGB", (640, 480), (90, 150, 230))
SIDE = 100


@pytest.fixture
def red_is_a_face(monkeypatch):
    """Stands in for the detector: images of 100 x 100 pixels hold a face as wide as their corner's red value says."""

    class Red:
        def __init__(self, *args):
            pass

        def __call__(self, image):
            side = image.getpixel((0, 0))[0]
            return [Face((0, 0, side, side), 0.9, ((0.0, 0.0),) * 5)] if side else []

    monkeypatch.setattr(crops, "FaceDetector", Red)
    monkeypatch.setenv("EXPCLIP_YUNET", "some file")


def holding(side: int) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), (side, 0, 0))


def test_what_is_said_and_when(red_is_a_face):
    crop, small, none = holding(70), holding(40), holding(0)
    assert crops_warning([crop] * 8) is None
    assert crops_warning([crop] * 6 + [small, none]) is None, "no detector finds every face"
    message = "3 of the first 8 images show no single face that fills them, but images are taken as face crops here"
    assert crops_warning([crop] * 5 + [small, none, none]) == message
    assert (
        crops_warning([none]) == "the image shows no single face that fills it, but images are taken as face crops here"
    )
    assert crops_warning([none, crop]) is None and "2 of the first 2" in crops_warning([none, small])
    assert crops_warning([]) is None


def test_several_faces_are_no_crop(monkeypatch):
    """A face that fills a third of a group photo does not make it a crop."""

    def detector(*others):
        boxes = [(0, 0, 60, 60), *others]
        monkeypatch.setattr(
            crops, "FaceDetector", lambda *_: lambda _: [Face(box, 0.9, ((0.0, 0.0),) * 5) for box in boxes]
        )
        monkeypatch.setenv("EXPCLIP_YUNET", "some file")
        return crops_warning([Image.new("RGB", (SIDE, SIDE))])

    assert detector() is None and detector((70, 70, 80, 80)) is None
    assert "no single face that fills it" in detector((60, 60, 95, 95))


def test_no_more_than_eight_are_taken_and_damaged_ones_passed_over(red_is_a_face, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = iter([tmp_path / "broken.png", *[holding(0)] * 20])
    assert "7 of the first 7" in crops_warning(images)
    assert len(list(images)) == 13


def test_nothing_is_said_or_fetched_without_a_detector(monkeypatch, tmp_path):
    monkeypatch.delenv("EXPCLIP_YUNET", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    assert crops_warning([SKY]) is None


def test_a_detector_that_is_named_but_not_there_is_said(monkeypatch, tmp_path):
    pytest.importorskip("cv2")
    monkeypatch.setenv("EXPCLIP_YUNET", str(tmp_path / "nowhere.onnx"))
    assert "could not be looked at: no face detector: there is no file" in crops_warning([SKY])


def test_classify_says_so_once_unless_it_was_told(red_is_a_face, checkpoint, tmp_path, capsys):
    for number in range(12):
        holding(0).save(tmp_path / f"{number:02}.png")
    classify = ["classify", str(tmp_path), "--model", str(checkpoint)]
    assert main(classify) == 0
    assert capsys.readouterr().err.splitlines() == [
        "8 of the first 8 images show no single face that fills them, but images are taken as face crops here: "
        "add --faces to find faces first, or --no-faces if they are crops"
    ]
    assert main([*classify, "--no-faces"]) == 0 and capsys.readouterr().err == ""
    for number in range(12):
        holding(70).save(tmp_path / f"{number:02}.png")
    assert main(classify) == 0 and capsys.readouterr().err == ""


def test_classify_looks_at_videos_too(red_is_a_face, checkpoint, tmp_path, capsys):
    film = str(write_video(tmp_path / "film.mp4", [holding(0)] * 20))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert main(["classify", str(tmp_path / "broken.mp4"), film, "--model", str(checkpoint)]) == 0
    assert "4 of the first 4 images show no single face" in capsys.readouterr().err


@pytest.fixture
def yunet(shared, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setenv("EXPCLIP_YUNET", str(shared / "models" / "face_detection_yunet_2023mar.onnx"))
    return shared


def test_landscapes(yunet):
    assert "the image shows no single face" in crops_warning([SKY])
    assert "8 of the first 8" in crops_warning(picture(seed, (300, 200)) for seed in range(9))


@pytest.mark.parametrize(
    ("data", "warned"),
    [("ferplus/validation", 0), ("facial_expressions/validation", 0), ("london/test", 20)],
)
def test_real_data(yunet, data, warned):
    """Crops of 48 pixels and in the wild are no photos; portraits of 512 pixels are."""
    images = pq.read_table(yunet / f"data/{data}.parquet", columns=["image"]).column("image").to_pylist()
    draw = random.Random(0)
    draws = [[Image.open(io.BytesIO(image["bytes"])) for image in draw.sample(images, 8)] for _ in range(20)]
    assert sum(crops_warning(eight) is not None for eight in draws) == warned
