"""ExpCLIPProcessor: images become RGB and then CLIP's pixels; prompts become token ids. Travels inside every checkpoint.

The resizing and scaling are the stock CLIPImageProcessor's; which ones is data in ``processor_config.json`` (the paper squashes
to a square and does not normalise). Files that strangers send are read with limits by ``modeling_expclip.media.images``.
"""

from __future__ import annotations

import io
import os
import struct
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, ProcessorMixin

from .configuration_expclip import ExpCLIPConfig

# What users have. Pillow knows more formats, some of which run other programs on what they are given (EPS).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_STRIP = 2**20  # pixels
_URL_SECONDS = 60
_URL_BYTES = 100 * 2**20
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises for damaged files, beside OSError.
DAMAGED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)


def readable_formats() -> list[str]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def open_image(image: Any, timeout: float | None = None) -> Image.Image:
    """Reads an image as RGB, upright.

    Args:
        image: a path, a URL, a file or its content, a PIL image, an array (height, width, 3) uint8 of RGB, or a row of `datasets`
            with a column ``image``.
        timeout: seconds, for a URL. Default: 60.

    Raises ValueError for what is none of these, OSError for a file that is no image, damaged, or cannot be fetched.
    """
    if isinstance(image, Mapping):
        image = from_row(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        image = _fetch(image, timeout or _URL_SECONDS)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, bytes):
        image = io.BytesIO(image)
    if not isinstance(image, (str, Path)) and not hasattr(image, "read"):
        raise ValueError(
            f"expected a path, a URL, a file's content, an array or a PIL image, got {type(image).__name__}"
        )
    if isinstance(image, (str, Path)) and os.path.exists(image) and not os.path.isfile(image):
        raise OSError(f"{image} is a directory, a FIFO or a device; give a file")
    try:
        with Image.open(image, formats=readable_formats()) as opened:
            return to_rgb(opened)
    except (OSError, *DAMAGED) as error:
        if isinstance(error, UnidentifiedImageError) or getattr(error, "errno", None) is not None:
            raise  # these name the file
        name = image if isinstance(image, (str, Path)) else "the image"
        raise OSError(f"{name} is damaged, cut off or of a kind that is not read: {error}") from error


def url_opener() -> urllib.request.OpenerDirector:
    """Opens http and https addresses; urllib's usual opener follows redirections to FTP too."""
    opener = urllib.request.OpenerDirector()
    for name in "Proxy HTTP HTTPS Unknown HTTPRedirect HTTPDefaultError".split():
        opener.add_handler(getattr(urllib.request, f"{name}Handler")())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    return opener


def _fetch(url: str, seconds: float) -> bytes:
    """What an address answers with, of at most _URL_BYTES. Pillow then reads it as it reads a file."""
    content, end = bytearray(), time.monotonic() + seconds
    try:
        with url_opener().open(url, timeout=seconds) as answer:
            while part := answer.read1(2**16):
                content += part
                if len(content) > _URL_BYTES or time.monotonic() > end:
                    raise ValueError(f"it is larger than {_URL_BYTES} bytes, or slower than {seconds} seconds")
    except Exception as error:  # impossible addresses and answers that break off: of many kinds
        raise OSError(f"{url!r} cannot be fetched: {type(error).__name__}: {error}") from error
    return bytes(content)


def from_row(row: Mapping[str, Any]) -> Any:
    """What a row of `datasets` holds as its ``image``, or an image that `datasets` did not decode: ``{"bytes", "path"}``."""
    image = row.get("image", row)
    if isinstance(image, Mapping):
        if not (image.get("bytes") or image.get("path")):
            raise ValueError(f"expected a row with a column 'image', got one with {', '.join(map(str, row))}")
        image = image.get("bytes") or Path(image["path"])  # never an address, which a stranger's row could name
    return image


def from_array(array: np.ndarray) -> Image.Image:
    """An array (height, width) or (height, width, 3) uint8, RGB, as an image. Raises ValueError for any other."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ValueError(
            f"expected one RGB image as an array of shape (height, width, 3) and type uint8, got {array.shape} {array.dtype}"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of PIL image -> RGB, with its EXIF orientation applied, transparency on white, deep grey scaled to 8 bits.

    Grey of more than 8 bits does not say how many it uses; 8 are assumed for values up to 255, 12 up to 4095, 16 above. Raises ValueError for
    floating-point pixels, and what Pillow raises for a damaged file.
    """
    image.load()
    if image.mode == "F":
        raise ValueError("images with floating-point pixels have no agreed range; save it with 8 or 16 bits first")
    rgb = _rgb(_upright(image))
    rgb = rgb.copy() if rgb is image else rgb
    rgb.info = {}  # without EXIF, lest it be turned again
    return rgb


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
    """RGB, made in strips: what lies between needs several times the memory of the image."""
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        rgb.paste(convert(strip).convert("RGB"), (0, top))
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    """The image itself, or as its EXIF orientation turns it."""
    try:
        turn = _ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, *DAMAGED):  # many programs write EXIF that cannot be read; the image behind it is whole
        turn = None
    return image if turn is None else image.transpose(turn)


def check_sides(image: Image.Image, image_processor) -> None:
    """Raises ValueError for an image so long and narrow that its short side, once resized, makes it enormous."""
    edge = image_processor.size.get("shortest_edge") if image_processor.do_resize else None
    limit, (short, long) = Image.MAX_IMAGE_PIXELS, sorted(image.size)
    if edge and limit is not None and edge * edge * long > limit * short:
        width, height = image.size
        raise ValueError(f"refused: {width} x {height} is too long for its width; crop the image first")


def to_pil_processor(image_processor):
    """The PIL version of a CLIP image processor. Heads are trained on PIL's pixels, and torchvision, which transformers prefers
    where it is installed, resizes a little differently."""
    if isinstance(image_processor, CLIPImageProcessorPil):
        return image_processor
    return CLIPImageProcessorPil.from_dict(image_processor.to_dict())


class ExpCLIPProcessor(ProcessorMixin):
    r"""
    Wraps a CLIP image processor and a CLIP tokenizer.

    Args:
        image_processor: a [`CLIPImageProcessorPil`]; a torchvision one is replaced by its PIL version.
        tokenizer: a [`CLIPTokenizer`].
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs) -> None:
        if image_processor is not None:
            image_processor = to_pil_processor(image_processor)
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
        opened = (str, Path, Image.Image)
        if isinstance(images, opened):
            images = open_image(images)
        elif isinstance(images, (list, tuple)):
            images = [open_image(image) if isinstance(image, opened) else image for image in images]
        if text is not None:
            given = kwargs.get("text_kwargs", {})
            for name in ("padding", "truncation"):
                if name not in given:
                    kwargs.setdefault(name, True)
        return super().__call__(images=images, text=text, **kwargs)


ExpCLIPProcessor.register_for_auto_class()

if __name__ == "modeling_expclip.processing_expclip":  # not in a checkpoint's copy
    AutoProcessor.register(ExpCLIPConfig, ExpCLIPProcessor)
