"""Decoder-only vision-language models as teachers."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from ..models.loading import DTYPES
from ..recipe import TeacherRecipe
from .base import OF_A_MODEL, Teacher, load_model, load_part, masked_mean, ready_to_pad


class ImageTextTeacher(Teacher):
    """Any decoder-only vision-language model (Qwen-VL, SmolVLM, LLaVA ...): the mean of one of its
    hidden states."""

    reads = OF_A_MODEL | {"pooling", "layer", "longest_edge"}

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        config = load_part(AutoConfig, spec, "config")
        text_config = config.get_text_config()
        if config.is_encoder_decoder or text_config.is_encoder_decoder:
            raise ValueError(
                f"{spec.model} has an encoder and a decoder (model type {config.model_type!r}) and kind 'image-text' "
                "needs a decoder-only model; for BLIP-2 with T5 choose kind 'blip2' or 'instructblip'"
            )
        layers = text_config.num_hidden_layers
        if not -layers - 1 <= spec.layer <= layers:
            raise ValueError(f"{spec.model} has {layers} layers: expected layer in 0..{layers} or -1, got {spec.layer}")
        self.image_token = getattr(config, "image_token_id", None)
        if spec.pooling == "image" and self.image_token is None:
            raise ValueError(f"{spec.model} does not say which tokens are its image's; use pooling 'all'")
        self.processor = load_part(AutoProcessor, spec, "processor (image processor and tokenizer)")
        if not (hasattr(self.processor, "tokenizer") and hasattr(self.processor, "image_processor")):
            raise ValueError(f"{spec.model} has a {type(self.processor).__name__} where a whole processor is needed")
        size = dict(self.processor.image_processor.size or {})
        if spec.longest_edge is not None and size.get("longest_edge") is None:
            raise ValueError(
                f"{spec.model} does not resize by the longest edge (its size: {size}); "
                f"leave teacher.longest_edge {spec.longest_edge} out"
            )
        ready_to_pad(self.processor.tokenizer)
        self.model = load_model(AutoModelForImageTextToText, spec, device)

    def prompt(self, instruction: str) -> str:
        """One image and the instruction in this model's own format."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}] + [{"type": "text", "text": instruction}] * bool(instruction)
            return self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        if hasattr(self.processor, "num_query_tokens"):  # BLIP's processors put the image tokens there themselves
            return instruction
        return str(getattr(self.processor, "image_token", "")) + instruction

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        prompt = self.prompt(instruction)
        options: dict[str, Any] = {"return_tensors": "pt", "padding": True}
        if self.spec.longest_edge is not None:
            # Idefics3 and SmolVLM enlarge every picture and cut it into tiles, each as costly as a whole picture.
            options["images_kwargs"] = {"size": {"longest_edge": self.spec.longest_edge}}
        bos = self.processor.tokenizer.bos_token
        if bos and prompt.startswith(bos):  # the chat template wrote it, a second one would be read as text
            options["add_special_tokens"] = False
        inputs = self.processor(images=[[item] for item in items], text=[prompt] * len(items), **options)
        inputs = inputs.to(self.model.device, dtype=DTYPES[self.spec.dtype])
        base = self.model.base_model  # without the language model's head
        # Only models without such a base (BLIP-2 with OPT) must show all their hidden states for
        # the last one.
        every = self.spec.layer != -1 or base is self.model
        outputs = base(**inputs, use_cache=False, output_hidden_states=every)
        outputs = getattr(outputs, "language_model_outputs", outputs)
        hidden = outputs.hidden_states[self.spec.layer] if every else outputs.last_hidden_state  # (B, T, H)
        if self.spec.pooling == "all":
            return masked_mean(hidden, inputs["attention_mask"])
        return masked_mean(hidden, inputs["input_ids"] == self.image_token)
