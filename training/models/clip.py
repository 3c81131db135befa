"""The frozen CLIP of a recipe, or another backbone: faces in, image features *before* the projection
head out, (B, D) float32."""

from __future__ import annotations

import torch
from PIL import Image
from transformers import SiglipModel

from modeling_expclip import ExpCLIPProcessor
from modeling_expclip.checkpoint.backbones import WITH_HEAD, backbone_class
from modeling_expclip.checkpoint.load import load_weights, model_type_of
from modeling_expclip.checkpoint.processors import own_image_processor, own_tokenizer, paper_image_processor

from ..recipe import ClipRecipe
from ..support.processes import local_device
from .sources import source_of


class FrozenClip:
    """A backbone or Exp-CLIP checkpoint whose towers are used as they are.

    ``model`` is that model, without the head where it had one; ``processor`` prepares images as the
    recipe says.
    """

    def __init__(self, recipe: ClipRecipe) -> None:
        source = source_of(recipe.model)
        kind = model_type_of(source, recipe.revision)
        model_class = backbone_class(f"clip.model {recipe.model!r}", kind)
        model = load_weights(model_class, source, getattr(torch, recipe.dtype), recipe.revision)
        if kind in WITH_HEAD:
            model.projection_head = torch.nn.Identity()
        self.model = model.requires_grad_(False).to(local_device())
        if recipe.preprocessing == "paper":
            images = paper_image_processor(model.config.vision_config.image_size)
        else:
            images = own_image_processor(source, model.config, recipe.revision)
        self.processor = ExpCLIPProcessor(images, own_tokenizer(source, model.config, recipe.revision))

    @torch.no_grad()
    def __call__(self, images: list[Image.Image]) -> torch.Tensor:
        """RGB images -> (B, D) float32 on the CPU."""
        pixels = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]  # (B, 3, S, S)
        features = self.model.get_image_features(pixels.to(self.model.device, self.model.dtype))
        return features.pooler_output.float().cpu()  # (B, D)

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> torch.Tensor:
        """Prompts -> (B, D) float32 on the CPU, before the head as well."""
        if isinstance(self.model, SiglipModel):  # it reads the last position, and no mask
            length = self.model.config.text_config.max_position_embeddings
            tokens = self.processor(text=prompts, padding="max_length", max_length=length, return_tensors="pt")
            tokens = {"input_ids": tokens["input_ids"].to(self.model.device)}
        else:
            tokens = self.processor(text=prompts, return_tensors="pt").to(self.model.device)
        return self.model.get_text_features(**tokens).pooler_output.float().cpu()  # (B, D)
