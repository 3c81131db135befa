"""Finding faces: real ones, pasted where we know, and everything that can be wrong with the detector."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modeling_expclip.media import mtcnn
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.faces import Face, crop_face
from modeling_expclip.media.tracking import overlap
from tests.conftest import picture

pytest.importorskip("cv2")
SIZES = (90, 140, 220, 420)


@pytest.fixture(scope="module")
def yunet(shared):
    return shared / "models" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(scope="module", params=["yunet", "mtcnn"])
def detector(request) -> FaceDetector:
    if request.param == "mtcnn":
        return FaceDetector("mtcnn")
    return FaceDetector(request.getfixturevalue("yunet"))


@pytest.fixture(scope="module")
def real_faces(shared) -> list[Image.Image]:
    rows = pq.read_table(shared / "data/facial_expressions/validation.parquet", columns=["image"]).slice(0, 40)
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows.to_pylist()]
    return [image for image in images if image.size == (160, 160)]


def group_photo(faces, sizes=SIZES, size=(1600, 900)) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Faces of several sizes side by side, and where each was pasted."""
    photo, places, x = Image.new("RGB", size, (70, 90, 110)), [], 60
    for face, side in zip(faces, sizes):
        y = 40 + (size[1] - side) // 3
        photo.paste(face.resize((side, side), 3), (x, y))
        places.append((x, y, x + side, y + side))
        x += side + 150
    return photo, places


@pytest.mark.parametrize("scale", [0.7, 1, 2.5])
def test_faces_are_found_where_they_are(detector, real_faces, scale):
    """Also in photos that are scaled down for it: boxes stay in the photo's own pixels."""
    photo, places = group_photo(
        real_faces[:4], [round(side * scale) for side in SIZES], (round(1600 * scale), round(900 * scale))
    )
    faces = detector(photo)
    assert len(faces) == 4
    for face, place in zip(faces, reversed(places)):  # the largest first, as pasted from small to large
        assert overlap(face.box, place) > 0.4, (face.box, place)  # pictures are wider than the faces in them
        assert 0.7 <= face.score <= 1
        assert all(face.box[0] <= x <= face.box[2] for x, _ in face.landmarks)


def test_a_face_that_fills_the_picture_and_a_tiny_picture_of_one(detector, real_faces):
    for side in (48, 160, 1200):
        found = [len(detector(face.resize((side, side), 3))) for face in real_faces[:10]]
        assert found.count(1) >= 9, (side, found)


@pytest.mark.parametrize("size", [(300, 200), (1, 1), (3000, 2), (3, 1000), (1900, 200), (20_000, 1), (4000, 3000)])
def test_no_face(detector, size):
    """Also in pictures that are flat, for which OpenCV 4 needs the least side."""
    assert detector(picture(size=size)) == detector(Image.new("RGB", size)) == []


def test_a_wall_of_faces_costs_a_bounded_time(monkeypatch):
    """Windows are compared with one another, so their number decides: a picture full of small faces must not have its way."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 1e6, (50_000, 2))
    windows = np.column_stack([corners, corners + 1, generator.uniform(size=len(corners))])
    kept = mtcnn._distinct(windows, 0.5)
    assert kept.tolist() == np.argsort(-windows[:, 4])[: mtcnn._MOST].tolist(), "the surest of those that lie apart"
    compared = []
    monkeypatch.setattr(mtcnn.np, "minimum", lambda one, others: compared.append(len(others)) or np.fmin(one, others))
    mtcnn._distinct(np.tile(windows[:1], (50_000, 1)), 0.5)
    assert compared == [mtcnn._COMPARED - 1]


def test_boxes_are_whole_pixels_within_the_picture(detector, real_faces):
    """Also of a face that the picture's edge cuts off."""
    for image in real_faces[:6]:
        half = image.resize((300, 300), 3).crop((90, 0, 300, 280))
        for face in detector(half):
            x0, y0, x1, y1 = face.box
            assert all(isinstance(value, int) for value in face.box)
            assert 0 <= x0 < x1 <= half.width and 0 <= y0 < y1 <= half.height


def test_grey_faces_are_found(detector, real_faces):
    photo, places = group_photo(real_faces[:4])
    assert len(detector(photo.convert("L").convert("RGB"))) == len(places)


def test_threads_share_a_detector(detector, real_faces):
    """OpenCV's detector keeps the size of the last picture, and its networks their input; each thread needs its own."""
    images = [face.resize((side, side), 3) for face in real_faces[:6] for side in (100, 160, 333)]
    alone = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector, images)) == alone


def test_the_environment_names_the_weights(yunet, monkeypatch):
    monkeypatch.setenv("EXPCLIP_YUNET", str(yunet))
    assert FaceDetector()(picture()) == []


def test_missing_and_other_weights(yunet, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no face detector .*nowhere.onnx: expected auto, yunet, mtcnn"):
        FaceDetector(tmp_path / "nowhere.onnx")
    (tmp_path / "other.onnx").write_bytes(yunet.read_bytes()[:-1] + b"x")
    monkeypatch.setenv("EXPCLIP_YUNET", str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="other.onnx is not face_detection_yunet_2023mar.onnx: its sha256 is"):
        FaceDetector()
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        FaceDetector(yunet, threshold=1.5)


def face(box, eyes=((0.0, 0.0), (1.0, 0.0))) -> Face:
    return Face(box, 0.9, (*eyes, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)))


def test_crops_are_squares_around_the_box():
    image = picture(size=(100, 80))
    pixels = np.asarray(image)
    assert np.array_equal(np.asarray(crop_face(image, face((20, 30, 40, 50)))), pixels[30:50, 20:40])
    assert np.array_equal(np.asarray(crop_face(image, face((20, 30, 30, 50)))), pixels[30:50, 15:35])
    assert np.array_equal(np.asarray(crop_face(image, face((20, 30, 40, 50)), 0.25)), pixels[25:55, 15:45])


@pytest.mark.parametrize("box", [(0, 0, 20, 30), (90, 70, 100, 80), (0, 0, 100, 80), (99, 79, 100, 80)])
@pytest.mark.parametrize("align", [False, True])
def test_crops_beyond_the_edge_repeat_it(box, align):
    image = picture(size=(100, 80))
    crop = crop_face(image, face(box, ((30.0, 30.0), (40.0, 35.0))), margin=0.5, align=align)
    side = 2 * max(box[2] - box[0], box[3] - box[1])
    assert crop.size == (side, side) and crop.mode == "RGB"
    if not align and box == (0, 0, 20, 30):
        assert np.array_equal(np.asarray(crop)[0, 0], np.asarray(image)[0, 0])


def test_aligned_eyes_are_level(yunet, real_faces):
    detector, angles = FaceDetector(yunet), []
    for image in real_faces[:8]:
        tilted = image.resize((400, 400), 3).rotate(20, fillcolor=(90, 90, 90))
        (found, *_) = detector(tilted)
        (again, *_) = detector(crop_face(tilted, found, margin=0.4, align=True))
        angles.append(
            [np.degrees(np.arctan2(*np.subtract(f.landmarks[1], f.landmarks[0])[::-1])) for f in (found, again)]
        )
    before, after = np.abs(angles).mean(0)
    assert before > 12 and after < before / 2


def test_negative_margin():
    with pytest.raises(ValueError, match="between 0 and 10.0, got -0.1"):
        crop_face(picture(), face((0, 0, 9, 9)), margin=-0.1)
