"""ExpCLIPProcessor: any picture PIL can open becomes RGB and then CLIP's pixels; prompts become token ids.

Travels inside every checkpoint. The resizing and scaling are the stock CLIPImageProcessor's; which ones is data in
``processor_config.json`` (the paper squashes to a square and does not normalise).
"""

from __future__ import annotations

import http.client
import io
import os
import re
import stat
import struct
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, IcoImagePlugin, Image, UnidentifiedImageError
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, ProcessorMixin

from .configuration_expclip import ExpCLIPConfig

# What users have. Pillow knows more formats, some of which run other programs on what they are given (EPS).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_URL_SECONDS = 60  # in all
_URL_SILENCE = 10  # seconds
_URL_BYTES = 100 * 2**20
_URL_HANDLERS = [
    getattr(urllib.request, name)
    for name in "ProxyHandler HTTPHandler HTTPSHandler UnknownHandler HTTPRedirectHandler HTTPDefaultErrorHandler HTTPErrorProcessor".split()
]
_MOST_READS = 10_000  # of a header; others have some hundred
_MOST_CHUNK_READS = 200_000  # of a PNG's pixels: several for each chunk, which are of 8 kB usually
_MOST_SCANS = 100  # progressive pictures have some ten
_MOST_STRIPS = 20_000  # of a TIFF, or tiles; Pillow makes a decoder for each
_JPEG_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_STRIP = 2**20  # pixels
# Written in Python by Pillow: seconds for pictures that a small file declares, and of the first, time that grows with the square of its size.
_SLOW = {
    "ppm": "PNM with another largest value than 255 is not read, but for 65535 in grey; save it as PNG",
    "ppm_plain": "plain-text PNM is not read; save it as PNG or binary PNM",
    "bmp_rle": "compressed BMP is not read; save it as PNG",
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises for damaged files, beside OSError.
_DAMAGED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)


def readable_formats() -> list[str]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def image_endings() -> set[str]:
    """The file name endings of these formats, such as ``.jpg``."""
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


def open_image(image: str | Path | bytes | Image.Image, max_pixels: int | None = None) -> Image.Image:
    """Reads a file, a URL, a file's content or a PIL image as RGB, upright.

    Raises ValueError for a picture with more pixels than ``max_pixels`` or ``PIL.Image.MAX_IMAGE_PIXELS`` (before decoding it) and
    OSError (PIL.UnidentifiedImageError among them) for what is no image, is damaged, cut off or cannot be fetched.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image, max_pixels=max_pixels)
    if isinstance(image, bytes):
        return _open_file(io.BytesIO(image), "the picture", max_pixels)
    if hasattr(image, "read"):
        seekable = getattr(image, "seekable", bool)()
        return _open_file(image if seekable else io.BytesIO(image.read()), "the picture", max_pixels)
    if not isinstance(image, (str, Path)):
        raise ValueError(f"expected a path, a URL, a file's content or a PIL image, got {type(image).__name__}")
    if str(image).startswith(("http://", "https://")):
        return _open_file(io.BytesIO(_fetch(str(image))), str(image), max_pixels)
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
                raise OSError(f"it holds more than {_MOST_SCANS} scans, each as slow as a picture")
    with opened:
        return to_rgb(opened, name, max_pixels)


def _inside_icon(file: Any) -> tuple[int, int] | None:
    """The size of the picture inside an icon. It may be larger than the icon, and Pillow decodes it when it opens the file."""
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
    """How often a JPEG's decoder goes over the whole picture."""
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
    opener = urllib.request.OpenerDirector()  # the usual one follows redirections to FTP too
    for handler in _URL_HANDLERS:
        opener.add_handler(handler())
    content, end = bytearray(), time.monotonic() + _URL_SECONDS
    try:
        with opener.open(url, timeout=_URL_SILENCE) as answer:
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
    """Whatever Pillow raises for a picture becomes OSError, or ValueError where it is too large."""
    try:
        yield
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        count = f"{pixels[0]} pixels are" if pixels else "it has"
        raise ValueError(
            f"refused: {count} more than {Image.MAX_IMAGE_PIXELS}; scale the picture down first"
        ) from error
    except UnidentifiedImageError as error:
        # Pillow's own message names an object in memory, another one each time.
        what = "the content is not an" if name == "the picture" else f"cannot identify image file {name!r}: not an"
        raise UnidentifiedImageError(f"{what} image of a known format, or cut off") from error
    except OSError as error:
        if error.errno is not None:  # the system's, which names the file
            raise
        raise OSError(f"{name} is damaged or cut off: {error}") from error
    except _DAMAGED as error:
        raise OSError(f"{name} is damaged or cut off: {type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image, name: str = "the picture", max_pixels: int | None = None) -> Image.Image:
    """Any mode of PIL image -> RGB, with its EXIF orientation applied, transparency on white, deep grey scaled to 8 bits.

    Grey of more than 8 bits does not say how many it uses; 12 are assumed for values up to 4095, 16 above. ``name`` is for errors,
    which are those of ``open_image``.
    """
    _check_size(image.size, max_pixels)
    for part in getattr(image, "tile", ()):
        if part[0] in _SLOW:
            raise ValueError(f"refused: {_SLOW[part[0]]}")
    with _decoding(name):
        image.load()
    if image.mode == "F":
        raise ValueError("pictures with floating-point pixels have no agreed range; save it with 8 or 16 bits first")
    with _decoding(name):
        rgb = _rgb(_upright(image))
        rgb = rgb.copy() if rgb is image else rgb
        rgb.info = {}  # without EXIF, lest it be turned again
        return rgb


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    (width, height), limit = size, smaller_limit(max_pixels)
    if limit is not None and width * height > limit:
        raise ValueError(f"refused: {width} x {height} is more than {limit} pixels; scale the picture down first")
    if not width or not height:
        raise ValueError(f"refused: {width} x {height} pixels are no picture")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_GREY:  # PIL's own conversion would clip everything above 255 to white
        brightest = max(int(np.asarray(strip).max()) for _, strip in _strips(image))
        shift = 8 if brightest > 4095 else 4 if brightest > 255 else 0
        return _by_strips(
            image, lambda strip: Image.fromarray((np.asarray(strip).clip(0, 65535) >> shift).astype(np.uint8))
        )
    if image.mode in ("La", "RGBa"):  # premultiplied; PIL converts them only to their ordinary twins
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """What lies between rows of the image, and the first of them."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """RGB, made in strips: what lies between needs several times the memory of the picture."""
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        rgb.paste(convert(strip).convert("RGB"), (0, top))
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    """The image itself, or as its EXIF orientation turns it."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, *_DAMAGED):  # many programs write EXIF that cannot be read; the picture behind it is whole
        turn = None
    return image if turn is None else image.transpose(turn)


def check_sides(image: Image.Image, image_processor) -> None:
    """Raises ValueError for a picture so long and narrow that its short side, once resized, makes it enormous."""
    edge = image_processor.size.get("shortest_edge") if image_processor.do_resize else None
    limit, (short, long) = Image.MAX_IMAGE_PIXELS, sorted(image.size)
    if edge and limit is not None and edge * edge * long > limit * short:
        width, height = image.size
        raise ValueError(f"refused: {width} x {height} is too long for its width; crop the picture first")


def pil_twin(image_processor):
    """The PIL version of a CLIP image processor. Heads are trained on PIL's pixels, and torchvision, which transformers prefers
    where it is installed, resizes a little differently."""
    if isinstance(image_processor, CLIPImageProcessorPil):
        return image_processor
    return CLIPImageProcessorPil.from_dict(image_processor.to_dict())


def scale_pixels(pixels: torch.Tensor, image_processor) -> torch.Tensor:
    """What an image processor leaves with ``do_rescale=False, do_normalize=False``, (B, 3, height, width) uint8, made the float32
    pixel values that it would have made."""
    values = pixels.to(torch.float32, copy=True)  # changed in place: half the time of making a tensor at each step
    if image_processor.do_rescale:
        values *= image_processor.rescale_factor
    if image_processor.do_normalize:
        mean, std = (
            torch.tensor(v, device=values.device).view(-1, 1, 1)
            for v in (image_processor.image_mean, image_processor.image_std)
        )
        values.sub_(mean).div_(std)
    return values


class ExpCLIPProcessor(ProcessorMixin):
    r"""
    Wraps a CLIP image processor and a CLIP tokenizer.

    Args:
        image_processor: a [`CLIPImageProcessorPil`]; a torchvision one is replaced by its PIL twin.
        tokenizer: a [`CLIPTokenizer`].
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs) -> None:
        if image_processor is not None:
            image_processor = pil_twin(image_processor)
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """Prepares model inputs.

        Args:
            images: a PIL image of any mode, a path or URL, an array or tensor, or a list of them.
            text: a string or a list of strings; padded to the longest and cut at the tokenizer's ``model_max_length``
                unless ``padding`` or ``truncation`` say otherwise.

        Returns:
            ``pixel_values`` (B, 3, height, width) and ``input_ids``, ``attention_mask`` (B, L).
        """
        pictures = (str, Path, Image.Image)
        if isinstance(images, pictures):
            images = open_image(images)
        elif isinstance(images, (list, tuple)):
            images = [open_image(image) if isinstance(image, pictures) else image for image in images]
        if text is not None:
            given = kwargs.get("text_kwargs", {})
            for name in ("padding", "truncation"):
                if name not in given:
                    kwargs.setdefault(name, True)
        return super().__call__(images=images, text=text, **kwargs)


ExpCLIPProcessor.register_for_auto_class()

if __name__ == "modeling_expclip.processing_expclip":  # not in a checkpoint's copy
    AutoProcessor.register(ExpCLIPConfig, ExpCLIPProcessor)
