"""The class every teacher extends, and what loading one shares: its processor, tokenizer and weights."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from modeling_expclip.checkpoint.load import load_weights

from ..models.loading import DTYPES, not_loaded
from ..models.sources import origin_of, source_of
from ..recipe import TeacherRecipe
from ..support.processes import world_size

OF_A_MODEL = frozenset({"model", "revision", "instruction", "dtype", "device_map", "quantization"})


class Teacher:
    """Called with B items of its ``column`` and one instruction, gives (B, H) float32 on the CPU."""

    reads: frozenset[str] = frozenset()  # the fields of a TeacherRecipe that mean something to this kind

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        self.spec = spec
        self.column = spec.input_column

    @classmethod
    def origin(cls, spec: TeacherRecipe) -> str:
        return origin_of(spec.model, spec.revision)

    def embed(self, items: list, instruction: str) -> torch.Tensor:
        """The vectors (B, H), in whatever dtype and place they were computed."""
        raise NotImplementedError

    def __call__(self, items: list, instruction: str) -> torch.Tensor:
        """Raises ValueError, naming the items by their place in the list, where a vector is not finite."""
        with torch.inference_mode():
            vectors = self.embed(items, instruction).float().cpu()
        broken = [index for index, fine in enumerate(vectors.isfinite().all(1).tolist()) if not fine]
        if broken:
            raise ValueError(
                f"teacher {self.spec.model or self.spec.kind!r} gave values that are not finite for items {broken} of "
                f"{len(items)} of column {self.column!r}: leave them out, or use another dtype if this was float16"
            )
        return vectors.clone()  # outside inference mode, so that a loss may use it


def load_part(auto_class: type, spec: TeacherRecipe, what: str, **options: str) -> Any:
    try:
        return auto_class.from_pretrained(
            source_of(spec.model), revision=spec.revision, trust_remote_code=False, **options
        )
    except Exception as error:  # a missing file makes transformers raise half a dozen kinds
        raise not_loaded(spec.model, what, error) from error


def load_tokenizer(spec: TeacherRecipe, subfolder: str = "") -> PreTrainedTokenizerBase:
    what = subfolder or "tokenizer"
    tokenizer = load_part(AutoTokenizer, spec, what, subfolder=subfolder)
    # Where files are missing transformers makes up a tokenizer without a vocabulary instead of an error.
    read = tokenizer.decode(tokenizer("face", add_special_tokens=False).input_ids)
    if read.replace(" ", "").lower() != "face":
        raise ValueError(f"{spec.model} has a {what} that reads 'face' as {read!r}: is its tokenizer.json missing?")
    return tokenizer


def load_model(
    model_class: type,
    spec: TeacherRecipe,
    device: torch.device,
    unused: tuple[str, ...] = (),
    source: str | None = None,
) -> PreTrainedModel:
    """The model, evaluating, of ``source`` (default: what the recipe names). Raises ValueError
    where weights are missing (but those of ``unused``) or of another shape."""
    # Under torchrun every process has a device of its own; "auto" would spread each one's weights
    # over all of them.
    options = {"device_map": spec.device_map} if spec.device_map and world_size() == 1 else {}
    if spec.quantization:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ImportError(
                f"quantization {spec.quantization!r} needs the package bitsandbytes: pip install bitsandbytes, "
                "or leave quantization out and choose dtype bfloat16"
            )
        settings = BitsAndBytesConfig(
            **{f"load_in_{spec.quantization}": True},
            bnb_4bit_compute_dtype=DTYPES[spec.dtype],
            bnb_4bit_quant_type="nf4",
        )
        options = {"device_map": {"": device}, **options, "quantization_config": settings}
    source, dtype = source or source_of(spec.model), DTYPES[spec.dtype]
    model = load_weights(model_class, source, dtype, spec.revision, leftover=True, unused=unused, **options)
    return model if options else model.to(device)


def ready_to_pad(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Pads on the right, where no position moves and no causal token sees it; any token will do
    where there is none."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T, H) and (B, T) -> (B, H) float32, the mean over the tokens where the mask is set."""
    mask = mask.to(hidden.device).bool().unsqueeze(-1)  # (B, T, 1)
    return hidden.float().masked_fill(~mask, 0).sum(1) / mask.sum(1)  # (B, H)
