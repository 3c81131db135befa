"""What visitors may send, and how errors name the field."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from modeling_expclip import PROMPT_SETS
from space.page import inputs
from space.page.inputs import BASIC_LABELS, image_of, labels_of, prompts_of, video_of
from tests.conftest import picture


@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        ("", BASIC_LABELS),
        (None, BASIC_LABELS),
        (" , \n ", BASIC_LABELS),
        ("bored", ("bored",)),
        ("bored, excited", ("bored", "excited")),
        ("bored\r\nover the moon\n\nexcited,", ("bored", "over the moon", "excited")),
        ("<b>x</b>,${1}", ("<b>x</b>", "${1}")),
        ("Happy,happy", ("Happy", "happy")),
        ("a" * 200, ("a" * 200,)),
        (",".join(map(str, range(100))), tuple(map(str, range(100)))),
    ],
)
def test_labels_as_typed(typed, labels):
    assert labels_of(typed) == labels


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (",".join(map(str, range(101))), "101 are too many"),
        ("fine," + "a" * 201, "label 2 has 201 characters"),
        ("sad, glad,sad ", "labels 1 and 3 are the same"),
        ("\ud800", "not valid Unicode"),
        (["sad", "glad"], "one text is expected"),
        (3, "one text is expected"),
    ],
)
def test_absurd_labels_are_named_and_not_repeated(typed, says):
    with pytest.raises(ValueError, match="^labels: ") as caught:
        labels_of(typed)
    assert says in str(caught.value)
    assert "sad" not in str(caught.value)  # a message is shown as HTML


def test_prompts():
    assert prompts_of(None) == prompts_of("") == "ensemble10"
    assert [prompts_of(name) for name in PROMPT_SETS] == list(PROMPT_SETS)
    for wrong in ("nope", "{}", 3, ["photo"]):
        with pytest.raises(ValueError, match="^prompts: .*choose one of class_name"):
            prompts_of(wrong)


@pytest.fixture(autouse=True)
def uploads(tmp_path, monkeypatch):
    """The folder of a run, which is the test's own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_a_picture_comes_as_a_file_or_as_a_data_url(tmp_path):
    content = encoded(picture())
    path = tmp_path / "face.png"
    path.write_bytes(content)
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for sent in ({"path": str(path), "url": None}, {"path": None, "url": url}, {"path": "", "url": url}):
        assert image_of(sent).tobytes() == picture().tobytes()


def sent_file(tmp_path, content: bytes, name: str = "face.png") -> dict:
    path = tmp_path / name
    path.write_bytes(content)
    return {"path": str(path)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image of a known format"),
        (b"hello", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (encoded(picture(size=(200, 200)))[:5000], "damaged or cut off"),
        (encoded(Image.new("L", (10000, 10000))), "pixels"),
        (encoded(Image.new("L", (16000, 16000))), "pixels"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
)
def test_what_is_no_picture(tmp_path, content, says):
    with pytest.raises(ValueError, match="^image: ") as caught:
        image_of(sent_file(tmp_path, content))
    assert says in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_missing_deleted_and_too_large_pictures(tmp_path, monkeypatch):
    for nothing in (None, {}, {"path": None, "url": None}, {"path": None, "url": "blob:x"}):
        with pytest.raises(ValueError, match="^image: there is none yet"):
            image_of(nothing)
    with pytest.raises(ValueError, match="^image: there is no such upload here.* deleted after 10 minutes"):
        image_of({"path": str(tmp_path / "gone.png")})
    with pytest.raises(ValueError, match="^image: the data URL is damaged"):
        image_of({"url": "data:image/png;base64,%%%"})
    content = encoded(picture())
    monkeypatch.setattr(inputs, "MAX_IMAGE_BYTES", 100)
    monkeypatch.setattr(inputs, "MAX_DATA_URL", 133)
    with pytest.raises(ValueError, match="^image: .* MB are "):
        image_of(sent_file(tmp_path, content))
    with pytest.raises(ValueError, match="^image: more than .* MB"):
        image_of({"url": f"data:image/png;base64,{base64.b64encode(content).decode()}"})


def test_a_video_and_its_length(short_video, tmp_path):
    sent = sent_file(tmp_path, short_video.read_bytes(), "video.webm")
    path, seconds = video_of(sent)
    assert str(path) == sent["path"]
    assert seconds == pytest.approx(15 / 8, abs=0.01)


def test_what_is_no_video(short_video, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="^video: there is none yet"):
        video_of(None)
    with pytest.raises(ValueError, match="^video: (this|the file) is no"):
        video_of(sent_file(tmp_path, b"hello", "video.mp4"))
    with pytest.raises(ValueError, match="^video: there is no such upload here"):
        video_of({"path": str(tmp_path / "gone.mp4")})
    sent = sent_file(tmp_path, short_video.read_bytes(), "video.webm")
    monkeypatch.setattr(inputs, "MAX_VIDEO_SECONDS", 1)
    with pytest.raises(ValueError, match="^video: 2 seconds are too long; at most 1"):
        video_of(sent)
    monkeypatch.setattr(inputs, "MAX_VIDEO_BYTES", 10)
    with pytest.raises(ValueError, match="^video: .* MB are too many"):
        video_of(sent)
