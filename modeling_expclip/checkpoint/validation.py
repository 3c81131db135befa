"""What the files of a checkpoint must agree on, so that a changed or damaged one is refused and not read as another model.

transformers puts defaults where a config lacks something, makes a model of any size the config says, and warns. These functions raise
ValueError, in one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError, safe_open
from transformers import CLIPModel, PreTrainedModel, ProcessorMixin
from transformers.utils import cached_file

from ..system.files import read_json
from ..system.terminal import reason_of

# What becomes of a config whose values are of the wrong kind, or absurd.
WRONG_CONFIG = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    StrictDataclassError,
)
# What an Exp-CLIP's weights and pixels do not show: transformers would put its own defaults where these are missing.
_NEEDED = {
    "text_config": ("hidden_act", "layer_norm_eps", "num_attention_heads"),
    "vision_config": ("hidden_act", "layer_norm_eps", "num_attention_heads"),
}
_NEEDED_OF_IMAGES = ("do_center_crop", "do_normalize", "do_rescale", "do_resize", "image_mean", "image_std", "resample")
_FLOATS = ("BF16", "F16", "F32", "F64")
_BYTES = 512  # in CLIP's vocabulary: each byte, within a word and at its end
_LARGEST_SIDE = 4096  # of what any CLIP reads, in pixels


def check_complete(folder: str, config: dict[str, Any]) -> None:
    """Raises ValueError where transformers would fill the configs with defaults, and so make another model of the same weights."""
    path = cached_file(folder, "processor_config.json", _raise_exceptions_for_missing_entries=False)
    try:
        images = read_json(Path(path), "write the checkpoint again")["image_processor"] if path else {}
        needed: dict[str, tuple[dict, tuple[str, ...]]]
        needed = {"processor_config.json's image_processor": (images, _NEEDED_OF_IMAGES if path else ())}
        needed |= {f"config.json's {part}": (config.get(part) or {}, names) for part, names in _NEEDED.items()}
        missing = [f"{part}: {name}" for part, (held, names) in needed.items() for name in names if name not in held]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the configs of {folder} are damaged: {reason_of(error)}") from error
    if missing:
        raise ValueError(f"{folder} is damaged, it lacks {', '.join(missing)}; write the checkpoint again")


def check_config(folder: str, model_class: type[PreTrainedModel]) -> None:
    """Raises ValueError for a config that cannot be instantiated, or whose model is far larger than the weights.

    transformers would make it first, in memory, and only then find that the weights do not fit.
    """
    found = (
        cached_file(folder, name, _raise_exceptions_for_missing_entries=False)
        for name in ("model.safetensors", "pytorch_model.bin")
    )
    weights = next(filter(None, found), None)
    if weights is None:  # in several files, larger than what this library writes
        return
    size, kinds = Path(weights).stat().st_size, {}
    if weights.endswith(".safetensors"):
        try:
            with safe_open(weights, framework="pt") as file:
                kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118, it is no dict
        except SafetensorError as error:
            raise ValueError(f"the weights in {folder} cannot be read: {reason_of(error)}") from error
    try:
        config = model_class.config_class.from_pretrained(folder)
        layers = config.text_config.num_hidden_layers + config.vision_config.num_hidden_layers
        most = len(kinds) or size // 1024  # a .bin is not opened for this; a layer's names alone take more
        if layers > most:
            raise ValueError(f"{layers} layers cannot be made of {most} weights")
        with torch.device("meta"):
            wanted = model_class(config).state_dict()
    except WRONG_CONFIG as error:
        raise ValueError(f"the config of {folder} cannot be instantiated: {reason_of(error)}") from error
    numbers = sum(weight.numel() for weight in wanted.values())
    if numbers > size:
        raise ValueError(f"the config of {folder} is of a model of {numbers} numbers, but the weights are {size} bytes")
    integers = sorted(f"{name} ({kind})" for name, kind in kinds.items() if name in wanted and kind not in _FLOATS)
    if integers:
        raise ValueError(f"the weights in {folder} are no floating-point numbers: {', '.join(integers)}")


def check_processor(folder: str, processor: ProcessorMixin, model: PreTrainedModel) -> None:
    """Tries the processor on an image and two prompts: what comes out must be what the model reads."""
    images, side = processor.image_processor, model.config.vision_config.image_size
    text = model.config.text_config
    try:
        largest = max(value or 0 for size in (images.size, images.crop_size or {}) for value in dict(size).values())
        if largest > _LARGEST_SIDE:
            raise ValueError(f"images of {largest} pixels a side")
        prompts = ["a face", "a face that is longer"]  # so that the padding is tried as well
        image = Image.new("RGB", (2 * side, side), "grey")
        tried = processor(images=image, text=prompts, padding=True, truncation=True, return_tensors="pt")
        pixels, ids = tried["pixel_values"], tried["input_ids"]
    except OSError:
        raise
    except Exception as error:  # as varied as what the files may hold
        raise ValueError(f"the processor in {folder} does not work: {reason_of(error)}") from error
    if pixels.shape[1:] != (model.config.vision_config.num_channels, side, side) or not pixels.isfinite().all():
        shape = " x ".join(map(str, pixels.shape[2:]))
        raise ValueError(
            f"the preprocessing has changed: the processor in {folder} makes images of {shape}, the model reads "
            f"{side} x {side} finite pixels"
        )
    if ids.max() >= text.vocab_size:
        raise ValueError(f"the tokenizer in {folder} knows more words than the model's {text.vocab_size}")
    if len(processor.tokenizer) < _BYTES:  # without its files, transformers makes a tokenizer of three words
        raise ValueError(f"the tokenizer in {folder} knows {len(processor.tokenizer)} words: files are missing")
    # Configs of CLIPs written before transformers 4.31 say 2, whatever the token is; the model then knows better.
    legacy = isinstance(model, CLIPModel) and text.eos_token_id == 2
    if not legacy and not (ids == text.eos_token_id).any(1).all():
        raise ValueError(
            f"the tokenizer in {folder} does not end prompts with token {text.eos_token_id}, as the model expects"
        )
