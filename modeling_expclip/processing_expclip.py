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
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, ProcessorMixin

from .configuration_expclip import ExpCLIPConfig

# What users have. Pillow knows more formats, some of which run other programs on what they are given (EPS).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_URL_TIMEOUT = 30  # seconds
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
        return _open_file(image, "the picture", max_pixels)
    if not isinstance(image, (str, Path)):
        raise ValueError(f"expected a path, a URL, a file's content or a PIL image, got {type(image).__name__}")
    if str(image).startswith(("http://", "https://")):
        return _open_file(io.BytesIO(_fetch(str(image))), str(image), max_pixels)
    with open_regular(image) as file:
        return _open_file(file, str(image), max_pixels)


def _open_file(file: Any, name: str, max_pixels: int | None) -> Image.Image:
    with _decoding(name):
        opened = Image.open(file, formats=readable_formats())
    with opened:
        return to_rgb(opened, name, max_pixels)


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT) as answer:
            return answer.read()
    except (
        http.client.HTTPException,
        OverflowError,
    ) as error:  # impossible addresses, answers that break off: no OSErrors
        raise OSError(f"{url} cannot be fetched: {type(error).__name__}: {error}") from None


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever Pillow raises for a picture becomes OSError, or ValueError where it is too large."""
    try:
        yield
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        count = f"{pixels[0]} pixels are" if pixels else "it has"
        raise ValueError(f"refused: {count} more than {Image.MAX_IMAGE_PIXELS}; scale the picture down first") from None
    except UnidentifiedImageError:
        # Pillow's own message names an object in memory, another one each time.
        what = "the content is not an" if name == "the picture" else f"cannot identify image file {name!r}: not an"
        raise UnidentifiedImageError(f"{what} image of a known format, or cut off") from None
    except OSError as error:
        if error.errno is not None:  # the system's, which names the file
            raise
        raise OSError(f"{name} is damaged or cut off: {error}") from None
    except _DAMAGED as error:
        raise OSError(f"{name} is damaged or cut off: {type(error).__name__}: {error}") from None


def to_rgb(image: Image.Image, name: str = "the picture", max_pixels: int | None = None) -> Image.Image:
    """Any mode of PIL image -> RGB, with its EXIF orientation applied, transparency on white, deep grey scaled to 8 bits.

    Grey of more than 8 bits does not say how many it uses; 12 are assumed for values up to 4095, 16 above. ``name`` is for errors,
    which are those of ``open_image``.
    """
    width, height = image.size
    limit = smaller_limit(max_pixels)
    if limit is not None and width * height > limit:
        raise ValueError(f"refused: {width} x {height} is more than {limit} pixels; scale the picture down first")
    if not width or not height:
        raise ValueError(f"refused: {width} x {height} pixels are no picture")
    with _decoding(name):
        image.load()
        image = _upright(image)
        if image.mode in _DEEP_GREY:  # PIL's own conversion would clip everything above 255 to white
            values = np.asarray(image).astype(np.int64).clip(0, 65535)
            brightest = values.max(initial=0)
            shift = 8 if brightest > 4095 else 4 if brightest > 255 else 0
            return Image.fromarray((values >> shift).astype(np.uint8)).convert("RGB")
        if image.mode in ("La", "RGBa"):  # premultiplied; PIL converts them only to their ordinary twins
            image = image.convert(image.mode.upper())
        if image.mode != "F":
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    raise ValueError("pictures with floating-point pixels have no agreed range; save it with 8 or 16 bits first")


def _upright(image: Image.Image) -> Image.Image:
    """A copy with its EXIF orientation applied, and without EXIF, lest it be turned again."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, *_DAMAGED):  # many programs write EXIF that cannot be read; the picture behind it is whole
        turn = None
    copy = image.copy() if turn is None else image.transpose(turn)
    copy.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return copy


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
