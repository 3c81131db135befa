"""A checkpoint's processor: the paper's preprocessing, the tokenizer's limit, and its files."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPImageProcessorPil, CLIPProcessor, CLIPTokenizer, ProcessorMixin


def paper_image_processor(image_size: int) -> CLIPImageProcessorPil:
    """The paper's preprocessing: RGB, bilinear squash to a square, scaled to 0..1, *not* normalised.

    Args:
        image_size: pixels a side that the image tower reads.
    """
    size = {"height": image_size, "width": image_size}
    return CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False, do_normalize=False, resample=2)


def truncating(tokenizer: CLIPTokenizer, length: int) -> CLIPTokenizer:
    """The same tokenizer with a limit of `length` tokens, so that its files say how much the text tower reads."""
    tokenizer.model_max_length = length
    tokenizer.backend_tokenizer.enable_truncation(length)
    return tokenizer


def plain_processor(processor: ProcessorMixin) -> CLIPProcessor:
    """The stock processor with the same image processor and tokenizer."""
    for part in (processor.image_processor.__dict__, processor.tokenizer.init_kwargs):
        part.pop("auto_map", None)  # it names code that the folder of a plain CLIP does not need and does not have
    return CLIPProcessor(processor.image_processor, processor.tokenizer)


def save_processor(processor: ProcessorMixin, folder: Path) -> None:
    """Writes the processor's and tokenizer's files to `folder`, without what transformers notes of where it read them."""
    for name in ("is_local", "local_files_only"):
        processor.tokenizer.init_kwargs.pop(name, None)
    processor.save_pretrained(folder)
    if type(processor) is CLIPProcessor:
        processor.image_processor.save_pretrained(folder)  # `preprocessor_config.json`, which transformers.js reads
