"""Whatever stands in a file: an RGB picture of a sane size comes out, or a ValueError or OSError of one line."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from modeling_expclip.cli.main import main
from modeling_expclip.media.images import open_image
from modeling_expclip.processing_expclip import check_sides, to_rgb
from tests.conftest import picture
from tests.robustness.pictures import bare_png, damaged, encoded, exif, png_chunk, whole_files, with_jpeg_segment

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, of what it repairs
FILES = whole_files()
BOMB = bare_png(60_000, 60_000)


def opened(content: object) -> Image.Image | None:
    """The picture, or None where it is refused as it should be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(content)
        except (ValueError, OSError) as error:
            assert str(error).strip() and "\n" not in str(error)
            return None
    assert image.mode == "RGB" and 0 < image.width * image.height <= Image.MAX_IMAGE_PIXELS
    assert np.asarray(image).shape == (image.height, image.width, 3)
    return image


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_read(name):
    image = opened(FILES[name])
    turned = name in ("baseline.jpg", "rgb.png", "lossy.webp")
    assert image.size == ((18, 24) if turned else (16, 16) if name.endswith("ico") else (24, 18))
    assert opened(to_rgb(image)).size == image.size, "turned once only"


@given(damaged(FILES))
def test_damaged_files(content):
    opened(content)


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_truncated_files(name, share):
    opened(FILES[name][: int(share * len(FILES[name]))])


@given(st.sampled_from([content[:12] for content in FILES.values()]), st.binary(max_size=200))
@example(b"", b"")
def test_anything_behind_a_known_beginning(start, rest):
    opened(start + rest)


@given(st.binary(min_size=1, max_size=80), st.sampled_from(["exif", "xmp", "icc"]))
@example(b"Exif\0\0II*\0\x08\0\0\0\xff\xff", "exif")
def test_garbage_beside_a_whole_picture_is_not_read(garbage, what):
    """Cameras and editors write EXIF, XMP and colour profiles that cannot be read; the picture is whole."""
    jpeg = FILES["progressive.jpg"]
    if what == "exif":
        content = with_jpeg_segment(jpeg, 0xE1, b"Exif\0\0II*\0\x08\0\0\0" + garbage)
    elif what == "xmp":
        content = with_jpeg_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + garbage)
    else:
        content = with_jpeg_segment(jpeg, 0xE2, b"ICC_PROFILE\0\x01\x01" + garbage)
    found = opened(content)
    assert sorted(found.size) == [18, 24]
    if found.size == (24, 18) and what != "exif":
        assert np.array_equal(np.asarray(found), np.asarray(opened(jpeg)))


def ifd(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """An EXIF block of (tag, type, count, value), and where the next one stands."""
    block = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + block + struct.pack("<I", following)


ORIENTED = (0x0112, 3, 1, 6)
EXIF = {
    "loop": (ifd([ORIENTED, (0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], following=8), True),
    "more values than bytes": (ifd([ORIENTED, (0x010F, 2, 2**32 - 1, 8)]), True),
    "a rational without denominator": (ifd([ORIENTED, (0x011A, 5, 1, 8)]), True),
    "a pointer out of the block": (ifd([ORIENTED, (0x8769, 4, 1, 2**31)]), True),
    "a type that does not exist": (ifd([(0x0112, 99, 1, 6)]), False),
    "an orientation in words": (ifd([(0x0112, 2, 4, 0x00363636)]), False),
    "many orientations": (ifd([(0x0112, 3, 2, 0x00060006)]), True),
    "an orientation of 0": (ifd([(0x0112, 3, 1, 0)]), False),
    "an orientation of 9": (ifd([(0x0112, 3, 1, 9)]), False),
    "an orientation of 65535": (ifd([(0x0112, 3, 1, 65535)]), False),
    "thousands of entries": (ifd([ORIENTED, *[(0xC000 + i, 4, 1, i) for i in range(4000)]]), True),
    "more entries than there are": (b"Exif\0\0II*\0\x08\0\0\0\xff\xff", False),
}


@pytest.mark.parametrize("name", EXIF)
def test_odd_exif(name):
    block, turned = EXIF[name]
    image = opened(with_jpeg_segment(FILES["progressive.jpg"], 0xE1, block))
    assert image.size == ((18, 24) if turned else (24, 18))


def test_bombs_are_refused_before_they_are_decoded():
    with pytest.raises(ValueError, match=r"refused: 3600000000 pixels are more than \d+; scale the image down first"):
        open_image(BOMB)
    with pytest.raises(ValueError, match="refused: 11000 x 11000 is more than"):
        open_image(bare_png(11_000, 11_000))
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 50_000_000))
    assert opened(bare_png(8, 8, b"\0\xff" * 8, extra=text)) is None
    assert opened(bare_png(0, 8)) is None and opened(bare_png(2**31 - 1, 2**31 - 1)) is None


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_odd_shapes(recognise, size):
    for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16"):
        assert opened(encoded(Image.new(mode, size), "PNG")).size == size
    answer = recognise(Image.new("RGB", size), candidate_labels=["a", "b"])
    assert sum(entry["score"] for entry in answer) == pytest.approx(1)


def test_long_strips_do_not_become_enormous(recognise):
    """CLIP's own preprocessing makes the short side 224 pixels: a strip of 20 kB would become 3 GB."""
    stock = type(recognise.image_processor)(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    with pytest.raises(ValueError, match="refused: 20000 x 1 is too long for its width"):
        check_sides(Image.new("L", (20_000, 1)), stock)
    check_sides(Image.new("L", (2_000, 2)), stock)
    check_sides(Image.new("L", (20_000, 1)), recognise.image_processor)


def test_odd_shapes_are_searched_for_faces(shared):
    from modeling_expclip.media.detectors import FaceDetector

    pytest.importorskip("cv2")
    detector = FaceDetector(shared / "models" / "face_detection_yunet_2023mar.onnx")
    assert [detector(Image.new("RGB", size)) for size in [(1, 1), (20_000, 1), (1, 20_000)]] == [[], [], []]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_of_moving_pictures_the_first_is_taken(kind):
    first, second = Image.new("RGB", (6, 4), (255, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 255))
    content = encoded(first, kind, save_all=True, append_images=[second], duration=50)
    red, green, blue = opened(content).getpixel((3, 2))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("mode", ["RGBa", "La"])
@given(alpha=st.integers(0, 255))
def test_premultiplied_pixels_end_on_white(mode, alpha):
    black = Image.new(mode.upper(), (3, 2), (0,) * len(mode[:-1]) + (alpha,)).convert(mode)
    assert opened(black).getpixel((1, 1)) == pytest.approx([255 - alpha] * 3, abs=1)


@pytest.mark.parametrize("source", [None, 5, b"", "", "a\0b", [], {}, np.zeros((4, 4, 3)), Path("/"), 1.5])
def test_what_is_no_picture(source):
    assert opened(source) is None


@pytest.mark.parametrize("url", ["http://a b/c.png", "http://\n/", "https://[half/x.png", "http://:99999999/"])
def test_impossible_addresses(url):
    with pytest.raises((ValueError, OSError), match=r"\S"):
        open_image(url)


def test_a_damaged_picture_is_named(tmp_path, recognise):
    path = tmp_path / "holiday.png"
    path.write_bytes(FILES["rgb.png"][:-40])
    for read in (open_image, recognise):
        with pytest.raises(OSError, match=r"holiday\.png is damaged(,| or) cut off"):
            read(str(path))
    content = io.BytesIO(path.read_bytes())
    with Image.open(content) as lazy, pytest.raises(OSError, match="the image is damaged or cut off: "):
        open_image(lazy)


def test_a_folder_of_damaged_files_is_classified(checkpoint, tmp_path, capsys):
    """Each file is a row, and the good ones among them have a label."""
    folder, chance = tmp_path / "faces", random.Random(0)
    folder.mkdir()
    expected = dict(FILES)
    for number in range(60):
        name = chance.choice(sorted(FILES))
        content = bytearray(FILES[name])
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(min(len(content), 200))] = chance.randrange(256)
        cut = chance.choice([None, chance.randrange(len(content))])
        expected[f"{number}-{name}"] = bytes(content[:cut])
    # A wrong ending does not matter, for the content decides.
    expected |= {"wrong.jpg": FILES["rgb.png"], "wrong.png": FILES["moving.gif"], "bomb.png": BOMB, "empty.gif": b""}
    expected |= {"strip.png": encoded(Image.new("L", (20_000, 1)), "PNG"), "text.jpg": b"no picture at all"}
    for name, content in expected.items():
        (folder / name).write_bytes(content)
    output = tmp_path / "out.csv"
    assert main(["classify", str(folder), "--model", str(checkpoint), "--output", str(output)]) == 0
    with output.open(newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert rows.keys() == expected.keys()
    for name, row in rows.items():
        read = opened(expected[name]) is not None
        assert bool(row["label"]) == read and bool(row["error"]) != read, (name, row["error"])
        assert not row["error"] or row["error"].startswith(("OSError", "UnidentifiedImageError", "ValueError"))
    assert all(rows[name]["label"] for name in [*FILES, "wrong.jpg", "wrong.png", "strip.png"])
    assert "Traceback" not in capsys.readouterr().err


def test_faces_are_looked_for_in_damaged_files_too(checkpoint, tmp_path, shared, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setenv("EXPCLIP_YUNET", str(shared / "models" / "face_detection_yunet_2023mar.onnx"))
    (tmp_path / "cut.jpg").write_bytes(FILES["baseline.jpg"][:300])
    (tmp_path / "bomb.png").write_bytes(BOMB)
    picture(size=(1, 1)).save(tmp_path / "dot.png")
    output = tmp_path / "out.json"
    assert main(["classify", str(tmp_path), "--faces", "--model", str(checkpoint), "--output", str(output)]) == 1
    errors = {Path(row["path"]).name: row["error"] for row in json.loads(output.read_text())}
    assert errors.keys() == {"cut.jpg", "bomb.png", "dot.png"} and errors["dot.png"] == "no face found"
    assert errors["cut.jpg"].startswith("OSError") and "refused" in errors["bomb.png"]


def test_orientations_that_exist_are_applied():
    image = picture(size=(20, 10))
    for orientation in range(1, 9):
        content = encoded(image, "PNG", exif=exif(orientation))
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        assert np.array_equal(np.asarray(opened(content)), np.asarray(expected))
