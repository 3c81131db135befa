"""ExpCLIPProcessor: any picture PIL can open becomes RGB and then CLIP's pixels; prompts become token ids.

Travels inside every checkpoint. The resizing and scaling are the stock CLIPImageProcessor's; which ones is data in
``processor_config.json`` (the paper squashes to a square and does not normalise).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, ProcessorMixin
from transformers.image_utils import load_image

from .configuration_expclip import ExpCLIPConfig

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def open_image(image: str | Path | Image.Image) -> Image.Image:
    """Reads a file, a URL or a PIL image as RGB, upright.

    Raises ValueError for a picture with more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (before decoding it) and OSError
    (PIL.UnidentifiedImageError among them) for a file that is no image or is cut off.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if str(image).startswith(("http://", "https://")):
        return to_rgb(load_image(str(image)))
    try:
        with Image.open(image) as opened:
            return to_rgb(opened)
    except Image.DecompressionBombError as error:
        raise ValueError(f"refused: {error}") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of PIL image -> RGB, with its EXIF orientation applied, transparency on white, 16 bits scaled to 8."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(f"refused: {width} x {height} is more than {limit} pixels; scale the picture down first")
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:  # PIL's own conversion would clip everything above 255 to white
        values = np.asarray(image).astype(np.int64)
        shift = 8 if values.max(initial=0) > 255 or image.mode != "I" else 0
        return Image.fromarray((values.clip(0, 65535) >> shift).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pictures with floating-point pixels have no agreed range; save it with 8 or 16 bits first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class ExpCLIPProcessor(ProcessorMixin):
    r"""
    Wraps a CLIP image processor and a CLIP tokenizer.

    Args:
        image_processor: a [`CLIPImageProcessorPil`]; a torchvision one is replaced by its PIL twin, because heads are trained
            on PIL's pixels and the two resize a little differently.
        tokenizer: a [`CLIPTokenizer`].
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs) -> None:
        if image_processor is not None and not isinstance(image_processor, CLIPImageProcessorPil):
            image_processor = CLIPImageProcessorPil.from_dict(image_processor.to_dict())
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """Prepares model inputs.

        Args:
            images: a PIL image of any mode, an array or tensor, or a list of them.
            text: a string or a list of strings; padded to the longest and cut at the tokenizer's ``model_max_length``
                unless ``padding`` or ``truncation`` say otherwise.

        Returns:
            ``pixel_values`` (B, 3, height, width) and ``input_ids``, ``attention_mask`` (B, L).
        """
        if isinstance(images, Image.Image):
            images = to_rgb(images)
        elif isinstance(images, (list, tuple)):
            images = [to_rgb(image) if isinstance(image, Image.Image) else image for image in images]
        if text is not None:
            given = kwargs.get("text_kwargs", {})
            for name in ("padding", "truncation"):
                if name not in given:
                    kwargs.setdefault(name, True)
        return super().__call__(images=images, text=text, **kwargs)


ExpCLIPProcessor.register_for_auto_class()

if __name__ == "modeling_expclip.processing_expclip":  # not in a checkpoint's copy
    AutoProcessor.register(ExpCLIPConfig, ExpCLIPProcessor)
