"""A checkpoint's processor: the paper's preprocessing, the tokenizer's limit, and its files."""

from __future__ import annotations

from pathlib import Path

from tokenizers import normalizers
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    SiglipConfig,
)
from transformers.utils import cached_file


def paper_image_processor(image_size: int) -> CLIPImageProcessorPil:
    """The paper's preprocessing: RGB, bilinear squash to a square, scaled to 0..1, *not* normalised.

    Args:
        image_size: pixels a side that the image tower reads.
    """
    size = {"height": image_size, "width": image_size}
    return CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False, do_normalize=False, resample=2)


def own_image_processor(source: str, config: PreTrainedConfig, revision: str | None = None) -> CLIPImageProcessorPil:
    """A backbone's own preprocessing, on PIL's pixels.

    Args:
        source: folder or Hub id of the backbone.
        config: its config.
        revision: of the Hub id.
    """
    if isinstance(
        config, SiglipConfig
    ):  # its files name no crop, for it squashes; CLIP's class would crop where nothing is said
        return CLIPImageProcessorPil.from_pretrained(source, revision=revision, do_center_crop=False)
    return CLIPImageProcessorPil.from_pretrained(source, revision=revision)


def own_tokenizer(source: str, config: PreTrainedConfig, revision: str | None = None) -> PreTrainedTokenizerFast:
    """A backbone's tokenizer, which cuts texts where the text tower's positions end.

    SigLIP was trained on texts in lower case, padded on the right. The classes that the Hub's files name for it do not all do so,
    so its `tokenizer.json` is read as it stands, and both are written into it. The config learns which tokens pad and end a text.

    Args:
        source, config, revision: as of `own_image_processor`.

    Raises:
        ValueError: a SigLIP without `tokenizer.json`.
        OSError: there are no files of a tokenizer.
    """
    text = config.text_config
    if not isinstance(config, SiglipConfig):
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        return truncating(tokenizer, text.max_position_embeddings)
    if cached_file(source, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False) is None:
        raise ValueError(f"{source} has no tokenizer.json; take a SigLIP 2, such as google/siglip2-base-patch16-224")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source, revision=revision)
    backend = tokenizer.backend_tokenizer
    before = [] if backend.normalizer is None else [backend.normalizer]
    if not before or before[0].normalize_str("A") != "a":
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    tokenizer.padding_side = "right"
    text.pad_token_id, text.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    return truncating(tokenizer, text.max_position_embeddings)


def truncating(tokenizer: PreTrainedTokenizerFast, length: int) -> PreTrainedTokenizerFast:
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
