"""BLIP-2 and InstructBLIP with a T5: the paper's kind of teacher."""

from __future__ import annotations

import torch
from PIL import Image
from transformers import AutoConfig, BlipImageProcessorPil

from modeling_expclip.checkpoint.processors import paper_image_processor

from ..models.loading import DTYPES
from ..recipe import TeacherRecipe
from .base import OF_A_MODEL, Teacher, load_model, load_part, load_tokenizer
from .t5_encoders import Blip2Encoder, InstructBlipEncoder, needed_files


class BlipTeacher(Teacher):
    """BLIP-2 or InstructBLIP with a T5: the mean of T5's encoder's last hidden state. The paper's
    teacher is BLIP-2."""

    reads = OF_A_MODEL | {"pooling", "preprocessing"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        encoder_class = {"blip2": Blip2Encoder, "instructblip": InstructBlipEncoder}[spec.kind]
        model_type = encoder_class.config_class.model_type
        config = load_part(AutoConfig, spec, "config")
        if config.model_type != model_type:
            raise ValueError(
                f"{spec.model} holds a model of type {config.model_type!r}; kind {spec.kind!r} expects {model_type!r}"
            )
        if config.text_config.model_type != "t5":
            raise ValueError(
                f"{spec.model} has a language model of type {config.text_config.model_type!r} and kind {spec.kind!r} "
                "needs T5's encoder: choose a checkpoint with Flan-T5, or kind 'image-text' for this one"
            )
        if spec.preprocessing == "paper":
            self.image_processor = paper_image_processor(config.vision_config.image_size)
        else:  # not the Auto class's choice: torchvision resizes differently, and vectors must not depend on it
            self.image_processor = load_part(BlipImageProcessorPil, spec, "image processor")
        tokenizer = load_tokenizer(spec)
        if tokenizer("").input_ids != [tokenizer.eos_token_id]:
            raise ValueError(f"the tokenizer in {spec.model} does not end a text as T5's does; save T5's own there")
        self.tokenizers = {"input_ids": tokenizer}
        if spec.kind == "instructblip":
            self.tokenizers["qformer_input_ids"] = load_tokenizer(spec, subfolder="qformer_tokenizer")
        with needed_files(encoder_class, spec.model, spec.revision) as folder:
            self.model = load_model(encoder_class, spec, device, source=folder)

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        pixels = self.image_processor(items, return_tensors="pt")["pixel_values"]  # (B, 3, side, side)
        inputs = {"pixel_values": pixels.to(self.model.device, DTYPES[self.spec.dtype])}
        for name, tokenizer in self.tokenizers.items():
            ids = tokenizer(instruction, return_tensors="pt").input_ids  # (1, n): the same for all, so no padding
            inputs[name] = ids.to(self.model.device).expand(len(items), -1)  # (B, n)
        hidden = self.model(**inputs)  # (B, queries + n, H)
        if self.spec.pooling == "image":
            hidden = hidden[:, : self.model.config.num_query_tokens]  # (B, queries, H)
        return hidden.float().mean(1)  # (B, H)
