"""Text encoders that read captions of faces as teachers."""

from __future__ import annotations

import torch
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding

from ..recipe import TeacherRecipe
from .base import OF_A_MODEL, Teacher, load_model, load_part, load_tokenizer, masked_mean, ready_to_pad


class CaptionTeacher(Teacher):
    """A text encoder that reads captions, the instruction in front: the mean of its last hidden state."""

    reads = OF_A_MODEL | {"column"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        config = load_part(AutoConfig, spec, "config")
        encoder_class = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        if encoder_class is AutoModel and config.is_encoder_decoder:
            raise ValueError(f"{spec.model} (type {config.model_type!r}) has a decoder; choose a text encoder or a T5")
        self.tokenizer = ready_to_pad(load_tokenizer(spec))
        self.model = load_model(encoder_class, spec, device, unused=("pooler.",))

    def embed(self, items: list[str], instruction: str) -> torch.Tensor:
        for index, item in enumerate(items):
            if not isinstance(item, str) or not item.strip():
                raise ValueError(f"column {self.column!r}: expected a caption for item {index}, got {item!r}")
        texts = [f"{instruction} {item}" if instruction else item for item in items]
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        return masked_mean(self.model(**inputs).last_hidden_state, inputs["attention_mask"])
