"""The frozen CLIP of a recipe: faces in, image features *before* the projection head out, (B, D)
float32."""

from __future__ import annotations

import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from modeling_expclip import ExpCLIPModel, ExpCLIPProcessor
from modeling_expclip.checkpoint.load import load_weights, model_type_of
from modeling_expclip.checkpoint.processors import paper_image_processor, truncating

from ..recipe import ClipRecipe
from ..support.processes import local_device
from .sources import source_of


class FrozenClip:
    """A CLIP or Exp-CLIP checkpoint whose towers are used as they are.

    ``model`` is the CLIPModel (an Exp-CLIP's head is not used), ``processor`` prepares images as
    the recipe says.
    """

    def __init__(self, recipe: ClipRecipe) -> None:
        source = source_of(recipe.model)
        kind = model_type_of(source, recipe.revision)
        if kind not in ("clip", "expclip"):
            raise ValueError(f"clip.model {recipe.model!r} is a model of type {kind!r}; expected a CLIP or an Exp-CLIP")
        model_class = ExpCLIPModel if kind == "expclip" else CLIPModel
        model = load_weights(model_class, source, getattr(torch, recipe.dtype), recipe.revision)
        self.model = model.requires_grad_(False).to(local_device())
        tokenizer = AutoTokenizer.from_pretrained(source, revision=recipe.revision, trust_remote_code=False)
        if recipe.preprocessing == "paper":
            images = paper_image_processor(model.config.vision_config.image_size)
        else:
            images = CLIPImageProcessorPil.from_pretrained(source, revision=recipe.revision)
        self.processor = ExpCLIPProcessor(
            images, truncating(tokenizer, model.config.text_config.max_position_embeddings)
        )

    @torch.no_grad()
    def __call__(self, images: list[Image.Image]) -> torch.Tensor:
        """RGB images -> (B, D) float32 on the CPU."""
        pixels = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]  # (B, 3, S, S)
        pooled = self.model.vision_model(pixels.to(self.model.device, self.model.dtype)).pooler_output
        return self.model.visual_projection(pooled).float().cpu()  # (B, D)
