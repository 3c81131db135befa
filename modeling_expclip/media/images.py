"""Image files from anywhere, read with limits: what is damaged, too large or too slow to decode is refused.

Files, URLs, contents, arrays and PIL images come in; upright RGB images leave. ``processing_expclip.to_rgb`` converts them.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import numpy as np
from PIL import IcoImagePlugin, Image, UnidentifiedImageError

from ..processing_expclip import DAMAGED, from_array, from_row, readable_formats, to_rgb, url_opener
from .storage import is_stored, read_stored

_URL_SECONDS = 60  # in all
_URL_SILENCE = 10  # seconds
_URL_BYTES = 100 * 2**20
_MOST_READS = 10_000  # of a header; others have some hundred
_MOST_CHUNK_READS = 200_000  # of a PNG's pixels: several for each chunk, which are of 8 kB usually
_MOST_SCANS = 100  # progressive images have some ten
_MOST_STRIPS = 20_000  # of a TIFF, or tiles; Pillow makes a decoder for each
_JPEG_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
# Written in Python by Pillow: seconds for images that a small file declares, and of the first, time that grows with the square of its size.
_SLOW = {
    "ppm": "PNM with another largest value than 255 is not read, but for 65535 in grey; save it as PNG",
    "ppm_plain": "plain-text PNM is not read; save it as PNG or binary PNM",
    "bmp_rle": "compressed BMP is not read; save it as PNG",
}


def image_endings() -> set[str]:
    """The file name endings of the formats that are read, such as ``.jpg``."""
    return {ending for ending, kind in Image.registered_extensions().items() if kind in readable_formats()}


def open_regular(path: str | Path) -> BinaryIO:
    """A file's bytes. Raises OSError for what is none: a directory, a FIFO, a device; it is not even touched, and nothing waits for it."""

    def check(status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is a directory, a FIFO or a device; give a file")

    check(os.stat(path))
    # What the name stands for may have changed since; a FIFO must not make us wait then.
    never_waits = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | never_waits))  # noqa: SIM115
    try:
        check(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def smaller_limit(pixels: int | None) -> int | None:
    """The lower of a limit and ``PIL.Image.MAX_IMAGE_PIXELS``, of which either may be None: no limit."""
    return min((limit for limit in (pixels, Image.MAX_IMAGE_PIXELS) if limit is not None), default=None)


def open_image(image: Any, max_pixels: int | None = None) -> Image.Image:
    """Reads a path, a URL, a file or its content, an array (height, width, 3) uint8 of RGB, a row of `datasets` or a PIL image as RGB,
    upright.

    Raises ValueError for an image with more pixels than ``max_pixels`` or ``PIL.Image.MAX_IMAGE_PIXELS`` (before decoding it) and
    OSError (PIL.UnidentifiedImageError among them) for what is no image, is damaged, cut off or cannot be fetched.
    """
    if isinstance(image, Mapping):
        image = from_row(image)
    if isinstance(image, np.ndarray):
        image = from_array(image)
    if isinstance(image, Image.Image):
        return _decoded(image, "the image", max_pixels)
    if isinstance(image, bytes):
        return _open_file(io.BytesIO(image), "the image", max_pixels)
    if hasattr(image, "read"):
        seekable = getattr(image, "seekable", bool)()
        return _open_file(image if seekable else io.BytesIO(image.read()), "the image", max_pixels)
    if not isinstance(image, (str, Path)):
        raise ValueError(
            f"expected a path, a URL, a file's content, an array or a PIL image, got {type(image).__name__}"
        )
    if str(image).startswith(("http://", "https://")):
        return _open_file(io.BytesIO(_fetch(str(image))), str(image), max_pixels)
    if is_stored(image):
        return _open_file(io.BytesIO(read_stored(str(image))), str(image), max_pixels)
    with open_regular(image) as file:
        return _open_file(file, str(image), max_pixels)


def _open_file(file: Any, name: str, max_pixels: int | None) -> Image.Image:
    counted = _ShortHeader(file)
    with _decoding(name):
        inner = _inside_icon(counted)
    if inner is not None:
        _check_size(inner, max_pixels)
    with _decoding(name):
        if _tiff_strips(file) > _MOST_STRIPS:
            raise OSError(f"it has more than {_MOST_STRIPS} strips or tiles; save it again with larger ones")
        opened = Image.open(counted, formats=readable_formats())
        counted.left = _MOST_CHUNK_READS if opened.format == "PNG" else None
        if opened.format in ("JPEG", "MPO"):
            file.seek(0)
            if _scans(file.read()) > _MOST_SCANS:
                raise OSError(f"it holds more than {_MOST_SCANS} scans, each as slow as an image")
    with opened:
        return _decoded(opened, name, max_pixels)


def _inside_icon(file: Any) -> tuple[int, int] | None:
    """The size of the image inside an icon. It may be larger than the icon, and Pillow decodes it when it opens the file."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return IcoImagePlugin.IcoFile(file).frame(0).size if start == b"\0\0\1\0" else None


def _tiff_strips(file: Any) -> int:
    """How many strips or tiles a TIFF's first directory says it has; 0 of other files. Pillow lists them all when it opens the file."""
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    big, order = b"\x2b" in head[2:4], {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or not (big or b"\x2a" in head[2:4]) or len(head) < 16:
        return 0
    start = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
    file.seek(start)
    entries = int.from_bytes(file.read(8 if big else 2), "little" if order == "<" else "big")
    length, kind = (20, "HHQ") if big else (12, "HHI")
    directory = file.read(length * min(entries, 65535))
    file.seek(0)
    whole = directory[: len(directory) // length * length]
    found = struct.iter_unpack(f"{order}{kind}{4 if not big else 8}x", whole)
    return sum(count for tag, _, count in found if tag in (273, 324))  # StripOffsets, TileOffsets


class _ShortHeader:
    """A file that is read at most ``_MOST_READS`` times, until ``left`` is None. Pillow reads what comes before the pixels in pieces, however
    many there are, and puts some kinds together again with each new piece: GIF's comments, JPEG's EXIF."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left: int | None = _MOST_READS

    def read(self, *size: int) -> bytes:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("its header has too many parts; save it again with another program")
        return self._file.read(*size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _scans(jpeg: bytes) -> int:
    """How often a JPEG's decoder goes over the whole image."""
    count, place = 0, 2
    while (found := _JPEG_SEGMENT.search(jpeg, place)) and found[1] != b"\xd9":
        count += found[1] == b"\xda"
        place = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return count


def _fetch(url: str) -> bytes:
    """What an address answers with. Another thread reads it: whatever the server does, this one waits _URL_SECONDS at most, and Ctrl-C
    ends it at once."""
    found: SimpleQueue = SimpleQueue()
    Thread(target=lambda: found.put(_download(url)), daemon=True).start()
    try:
        content = found.get(timeout=_URL_SECONDS)
    except Empty as error:
        raise OSError(f"{url!r} cannot be fetched: it took more than {_URL_SECONDS} seconds") from error
    if isinstance(content, Exception):
        raise OSError(f"{url!r} cannot be fetched: {type(content).__name__}: {content}") from content
    return content


def _download(url: str) -> bytes | Exception:
    content, end = bytearray(), time.monotonic() + _URL_SECONDS
    try:
        with url_opener().open(url, timeout=_URL_SILENCE) as answer:
            while part := answer.read1(2**16):
                content += part
                if len(content) > _URL_BYTES or time.monotonic() > end:
                    raise OSError(f"it is larger than {_URL_BYTES} bytes, or too slow")
            if answer.length:
                raise http.client.IncompleteRead(bytes(content), answer.length)
    except Exception as error:  # impossible addresses and answers that break off: of many kinds
        return error
    return bytes(content)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever Pillow raises for an image becomes OSError, or ValueError where it is too large."""
    try:
        yield
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        count = f"{pixels[0]} pixels are" if pixels else "it has"
        raise ValueError(f"refused: {count} more than {Image.MAX_IMAGE_PIXELS}; scale the image down first") from error
    except UnidentifiedImageError as error:
        # Pillow's own message names an object in memory, another one each time.
        what = "the content is not an" if name == "the image" else f"cannot identify image file {name!r}: not an"
        raise UnidentifiedImageError(f"{what} image of a known format, or cut off") from error
    except OSError as error:
        if error.errno is not None:  # the system's, which names the file
            raise
        raise OSError(f"{name} is damaged or cut off: {error}") from error
    except DAMAGED as error:
        raise OSError(f"{name} is damaged or cut off: {type(error).__name__}: {error}") from error


def _decoded(image: Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    _check_size(image.size, max_pixels)
    for part in getattr(image, "tile", ()):
        if part[0] in _SLOW:
            raise ValueError(f"refused: {_SLOW[part[0]]}")
    with _decoding(name):
        image.load()
        if image.mode != "F":
            return to_rgb(image)
    return to_rgb(image)  # which refuses floating-point pixels, and is not to be taken for damage


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    (width, height), limit = size, smaller_limit(max_pixels)
    if limit is not None and width * height > limit:
        raise ValueError(f"refused: {width} x {height} is more than {limit} pixels; scale the image down first")
    if not width or not height:
        raise ValueError(f"refused: {width} x {height} pixels are no image")
