"""Small pictures that would cost much memory or time are refused, or do not cost it; nothing is waited for."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image

from modeling_expclip.media.images import open_image
from modeling_expclip.processing_expclip import to_rgb
from tests.conftest import picture
from tests.robustness.costs import peak_megabytes, within
from tests.robustness.pictures import bare_png, encoded, png_chunk, with_jpeg_segment


def deep_grey(side: int) -> Image.Image:
    return Image.fromarray(np.arange(side * side, dtype=np.uint16).reshape(side, side))


@pytest.mark.parametrize("mode", ["I;16", "I", "P with transparency", "RGBA"])
def test_memory_of_conversions(mode):
    """The picture, which is there, not counted: at most twice what the result takes, four bytes for each pixel."""
    image = deep_grey(3000)
    if mode == "I":
        image = Image.fromarray(np.asarray(image).astype(np.int32))
    elif mode != "I;16":
        image = Image.new("P" if mode[0] == "P" else mode, (3000, 3000), 7)
        image.info["transparency"] = 7
    result = 4 * 9_000_000 / 2**20
    with peak_megabytes() as peak:
        to_rgb(image)
    assert peak.megabytes < 2 * result, f"{peak.megabytes:.0f} MB for a result of {result:.0f}"


@pytest.mark.parametrize("size", [(2500, 900), (1, 3_000_000), (3_000_000, 1)])
@pytest.mark.parametrize("brightest", [200, 4000, 65535])
def test_strips_are_not_seen(size, brightest):
    """Pictures of more than a strip; one bright pixel in the last decides for all."""
    values = np.random.default_rng(0).integers(0, 200, size[::-1]).astype(np.uint16)
    values[-1, -1] = brightest
    expected = (values >> {200: 0, 4000: 4, 65535: 8}[brightest]).astype(np.uint8)
    found = np.asarray(to_rgb(Image.fromarray(values)))
    assert (found == expected[..., None]).all()
    clear = np.random.default_rng(1).integers(0, 256, (*size[::-1], 4)).astype(np.uint8)
    image = Image.fromarray(clear)
    expected = Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert("RGB")
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(expected))


def test_a_limit_of_ones_own(tmp_path):
    image = picture(size=(40, 30))
    image.save(tmp_path / "a.png")
    sources = [
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(image, "PNG"),
        io.BytesIO(encoded(image, "PNG")),
    ]
    for source in sources:
        assert open_image(source, max_pixels=1200).size == (40, 30)
        with pytest.raises(ValueError, match="refused: 40 x 30 is more than 1199 pixels; scale the image down first"):
            open_image(source, max_pixels=1199)
    with pytest.raises(ValueError, match="refused: 11000 x 11000 is more than 89478485 pixels"):
        open_image(bare_png(11_000, 11_000), max_pixels=10**9)


def test_a_picture_is_judged_before_it_is_decoded():
    content = encoded(Image.new("RGB", (4000, 4000)), "PNG")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), 22) + content
    for source in (content, icon):
        with peak_megabytes() as peak, pytest.raises(ValueError, match="refused: 4000 x 4000 is more than 1000000"):
            open_image(source, max_pixels=10**6)
        assert peak.megabytes < 20, "decoded it is 64 MB"


PLAIN = [b"P1\n4 1\n1 0 1 0\n", b"P2\n2 1\n255\n7 200\n", b"P3\n1 1\n255\n7 8 200\n"]


@pytest.mark.parametrize("content", PLAIN)
def test_plain_text_pnm_is_refused(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    for source in (content, io.BytesIO(content), tmp_path / "a.png", Image.open(io.BytesIO(content))):
        with pytest.raises(ValueError, match="plain-text PNM is not read; save it as PNG or binary PNM"):
            open_image(source)


def test_plain_text_pnm_costs_nothing():
    """Pillow copies what it has for each piece that it reads: minutes for these."""
    with within(5):
        for header in (b"P1\n9000 9000\n", b"P2\n9000 9000\n9\n", b"P3\n5000 5000\n9\n"):
            with pytest.raises(ValueError, match="plain-text PNM"):
                open_image(header + b"1 " * 10_000_000)


def gif(extension: bytes) -> bytes:
    """A picture with something between its palette and its pixels."""
    content = encoded(Image.new("L", (16, 16)), "GIF")
    start = 13 + 3 * (2 << (content[10] & 7))
    return content[:start] + extension + content[start:]


JPEG = encoded(Image.new("RGB", (16, 16)), "JPEG")
EXIF = b"\xff\xe1\0\x44Exif\0\0" + b"a" * 60
HEADERS = {
    "one comment": gif(b"\x21\xfe" + (b"\xff" + b"a" * 255) * 20_000 + b"\0"),
    "comments": gif(b"\x21\xfe\x01a\0" * 1_000_000),
    "EXIF": JPEG[:2] + EXIF * 70_000 + JPEG[2:],
    "chunks": bare_png(8, 8, b"\0\xff" * 8, extra=png_chunk(b"teSt", b"") * 100_000),
    "remark": b"P6\n#" + b"a" * 5_000_000 + b"\n1 1\n255\nabc",
    "icons": struct.pack("<HHH", 0, 1, 65535) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, 100, 22) * 65535,
}


@pytest.mark.parametrize("name", HEADERS)
def test_endless_headers_are_refused(name):
    with within(5), pytest.raises(OSError, match="its header has too many parts; save it again with another program"):
        open_image(HEADERS[name])


def test_headers_of_honest_files_are_read():
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 1000 + b"\0"  # a quarter of a megabyte
    assert open_image(gif(comment)).size == (16, 16)
    texts = b"".join(png_chunk(b"tEXt", b"k%d\0v" % i) for i in range(1000))
    assert open_image(bare_png(8, 8, b"\0\xff" * 8, extra=texts)).size == (8, 8)
    profile = with_jpeg_segment(JPEG, 0xE2, b"ICC_PROFILE\0\x01\x01" + b"a" * 60_000)
    assert open_image(profile).size == (16, 16)


def test_endless_scans_are_refused():
    """Each goes over the whole picture again, and takes 59 bytes."""
    content = encoded(Image.new("L", (3000, 3000), 128), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    with within(5), pytest.raises(OSError, match="holds more than 100 scans"):
        open_image(content[:-2] + last * 5000 + content[-2:])
    assert open_image(content[:-2] + last * 20 + content[-2:]).size == (3000, 3000)
    assert open_image(content + b"\xff\xda\0\x02" * 1000).size == (3000, 3000), (
        "what follows the picture is not its own"
    )
    hidden = b"\xff\xfe\0\x04\xff\xd9"  # a remark that looks like the end
    with pytest.raises(OSError, match="holds more than 100 scans"):
        open_image(content[:-2] + hidden + last * 200 + content[-2:])


def test_compressed_bmp_is_refused():
    """Pillow fills its rows byte by byte: ten seconds for these 38 kB."""
    rows = b"\x01\x01\0\0" * 9400
    info = struct.pack("<IiiHHIIiiII", 40, 9400, 9400, 1, 8, 1, len(rows), 0, 0, 256, 0)
    content = b"BM" + struct.pack("<IHHI", 1078 + len(rows), 0, 0, 1078) + info + b"\0\0\0\0" * 256 + rows
    with within(5), pytest.raises(ValueError, match="compressed BMP is not read; save it as PNG"):
        open_image(content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, analyzer):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path / "link.png", "/dev/ptmx", "/dev/zero", "/dev/null", tmp_path):
        with within(5), pytest.raises(OSError, match="is a directory, a FIFO or a device; give a file"):
            open_image(path)
    with within(10), pytest.raises(OSError, match="a FIFO"):
        analyzer.photo(str(tmp_path / "pipe.png"))
    ((_, found),) = analyzer.embed([(None, tmp_path / "pipe.png")])
    assert "a FIFO" in str(found.error)


def tiff(strips: int, kind: int) -> bytes:
    """Grey, one row a strip; where the strips begin is written in ``kind`` (1: bytes, 3: shorts, 4: longs)."""
    place = 8 + 2 + 12 * 8 + 4
    entries = [
        (256, 4, 1, 1),
        (257, 4, 1, strips),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, kind, strips, place),
    ]
    entries += [(277, 3, 1, 1), (278, 4, 1, 1)]
    directory = struct.pack("<H", 8) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    starts = {1: b"\x08", 3: b"\x08\0", 4: b"\x08\0\0\0"}[kind] * strips
    return b"II*\0" + struct.pack("<I", 8) + directory + starts


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_tiffs_of_millions_of_strips_are_refused_before_they_are_listed(kind):
    assert open_image(tiff(1000, kind)).size == (1, 1000)
    with peak_megabytes() as peak, within(1), pytest.raises(OSError, match="more than 20000 strips"):
        open_image(tiff(3_000_000, kind))
    assert peak.megabytes < 50


@pytest.mark.parametrize("head", [b"P5 3000 3000 254\n", b"P6 1000 3000 1000\n"])
def test_pnm_that_pillow_decodes_in_python_is_refused(head):
    with within(1), pytest.raises(ValueError, match="another largest value than 255"):
        open_image(head + bytes(9_000_000))


def test_chunks_among_the_pixels_are_bounded():
    whole = encoded(picture(0), "PNG")
    end = whole.index(b"IEND") - 4
    with within(3), pytest.raises(OSError, match="too many parts"):
        open_image(whole[:end] + png_chunk(b"tEXt", b"a\0b") * 300_000 + whole[end:])
