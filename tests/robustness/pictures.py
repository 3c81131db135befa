"""Pictures as files' content: whole ones in every format, and the tools that damage them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from modeling_expclip.processing_expclip import readable_formats
from tests.conftest import picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "a camera"
    return block.tobytes()


def whole_files() -> dict[str, bytes]:
    """Valid files by name: each format this Pillow reads, some in several kinds."""
    small, seen = picture(size=(24, 18)), picture(7, size=(24, 18))
    clear = small.copy()
    clear.putalpha(128)
    palette = small.quantize(16)
    deep = Image.fromarray(np.arange(24 * 18, dtype=np.uint16).reshape(18, 24) * 150)
    moving = {"save_all": True, "append_images": [seen, small], "duration": 50}
    files = {
        "baseline.jpg": encoded(small, "JPEG", exif=exif(6), icc_profile=b"x" * 300),
        "progressive.jpg": encoded(small, "JPEG", progressive=True),
        "grey.jpg": encoded(small.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(small.convert("CMYK"), "JPEG"),
        "rgb.png": encoded(small, "PNG", exif=exif(8)),
        "clear.png": encoded(clear, "PNG"),
        "palette.png": encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "deep.png": encoded(deep, "PNG"),
        "bits.png": encoded(small.convert("1"), "PNG"),
        "moving.png": encoded(small, "PNG", **moving),
        "still.gif": encoded(palette, "GIF", transparency=3),
        "moving.gif": encoded(small, "GIF", **moving),
        "rgb.bmp": encoded(small, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "raw.tif": encoded(small, "TIFF", exif=exif(3)),
        "packed.tif": encoded(clear, "TIFF", compression="tiff_lzw"),
        "cmyk.tif": encoded(small.convert("CMYK"), "TIFF"),
        "lab.tif": encoded(small.convert("LAB"), "TIFF"),
        "rgb.ppm": encoded(small, "PPM"),
        "rgb.tga": encoded(small, "TGA", compression="tga_rle"),
        "rgb.ico": encoded(clear.resize((16, 16)), "ICO", sizes=[(16, 16)]),
    }
    if "WEBP" in readable_formats():
        files["lossy.webp"] = encoded(small, "WEBP", exif=exif(5))
        files["moving.webp"] = encoded(clear, "WEBP", lossless=True, **moving)
    if "JPEG2000" in readable_formats():
        files["rgb.jp2"] = encoded(small, "JPEG2000")
    if "AVIF" in readable_formats():
        files["rgb.avif"] = encoded(small, "AVIF")
    return files


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bare_png(width: int, height: int, data: bytes = b"", extra: bytes = b"", bits: int = 1, colour: int = 0) -> bytes:
    """A PNG that declares a size, whatever its data hold."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", zlib.compress(data)), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_jpeg_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG with one more segment behind its first two bytes."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


@st.composite
def damaged(draw, files: dict[str, bytes]) -> bytes:
    """One of the files, cut off, with bytes changed, added or taken out; more often near its beginning, where the structure is."""
    content = bytearray(files[draw(st.sampled_from(sorted(files)))])
    for _ in range(draw(st.integers(1, 4))):
        length = len(content)
        if not length:
            break
        end = draw(st.sampled_from([min(64, length), min(300, length), length]))
        where = draw(st.integers(0, end - 1))
        what = draw(st.sampled_from(["cut", "flip", "insert", "remove", "large", "copy"]))
        if what == "cut":
            del content[where:]
        elif what == "flip":
            content[where] ^= 1 << draw(st.integers(0, 7))
        elif what == "insert":
            content[where:where] = draw(st.binary(min_size=1, max_size=20))
        elif what == "remove":
            del content[where : where + draw(st.integers(1, 20))]
        elif what == "large":  # numbers as large or as negative as they get
            value = draw(st.sampled_from([b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"]))
            content[where : where + len(value)] = value
        else:
            content[where:where] = content[: draw(st.integers(1, 64))]
    return bytes(content)
