"""The trained towers become a checkpoint folder: stock CLIP modules, the tokenizer, a processor, a projection head."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from modeling_expclip import ExpCLIPConfig, ExpCLIPModel, ExpCLIPProcessor
from modeling_expclip.checkpoint.head import with_head
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.checkpoint.processors import truncating
from modeling_expclip.checkpoint.save import save_checkpoint

from .images import MEAN, SIZE, STD
from .text import MAX_LENGTH, TextTower
from .towers import PROJECTION_DIM, VISION, ImageTower

# The towers saw grey pictures only. Weighting the colours in the patch embedding as a grey conversion does makes the
# model see colour pictures in grey as well.
LUMA = (0.299, 0.587, 0.114)


def assemble(text: TextTower, tokenizer: CLIPTokenizer, image: ImageTower) -> tuple[ExpCLIPModel, ExpCLIPProcessor]:
    """Puts the towers into an ExpCLIPModel whose head is the identity: it answers as the towers alone do."""
    config = ExpCLIPConfig(
        text_config=text.text_model.config.to_dict(),
        vision_config=VISION.to_dict(),
        projection_dim=PROJECTION_DIM,
        alignment_dim=PROJECTION_DIM,
        logit_scale_init_value=image.logit_scale.item(),
    )
    state = {f"text_model.{name}": value for name, value in text.text_model.state_dict().items()}
    state |= {f"vision_model.{name}": value for name, value in image.vision_model.state_dict().items()}
    state["visual_projection.weight"] = image.visual_projection.weight
    state["text_projection.weight"] = image.caption_projection.weight
    state["logit_scale"] = image.logit_scale
    state["projection_head.weight"] = torch.eye(PROJECTION_DIM)
    patches = "vision_model.embeddings.patch_embedding.weight"
    state[patches] = state[patches].sum(1, keepdim=True) * torch.tensor(LUMA).view(1, 3, 1, 1)
    model = ExpCLIPModel(config)
    model.load_state_dict(state)

    size = {"height": SIZE, "width": SIZE}
    image_processor = CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, resample=2, image_mean=[MEAN] * 3, image_std=[STD] * 3
    )
    return model.eval(), ExpCLIPProcessor(image_processor, truncating(tokenizer, MAX_LENGTH))


def export_towers(text: TextTower, tokenizer: CLIPTokenizer, image: ImageTower, output: Path) -> None:
    """Writes the towers as a checkpoint whose head is the identity."""
    model, processor = assemble(text, tokenizer, image)
    save_checkpoint(model, processor, output, "The towers of expclip-mini; their head is the identity.\n")


def export_with_head(towers: str | Path, head: torch.Tensor, output: Path, card: Path) -> None:
    """Writes the towers with a learned head (H, 128), verified, with the model card at ``card`` as its README."""
    model, processor = load_checkpoint(towers)
    model = with_head(model, head)
    save_checkpoint(model, processor, output, card.read_text(encoding="utf-8"))
