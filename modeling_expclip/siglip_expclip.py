"""Exp-CLIP on SigLIP, and on those SigLIP 2 that read one size of image: the same head. Travels in checkpoints of this backbone only."""

from __future__ import annotations

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForZeroShotImageClassification, SiglipConfig, SiglipModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.siglip.modeling_siglip import SiglipOutput
from transformers.utils import can_return_tuple

from .configuration_expclip import ExpCLIPConfigMixin
from .modeling_expclip import ExpCLIPMixin
from .pipeline_expclip import FacialExpressionPipeline
from .processing_expclip import ExpCLIPProcessor
from .prompts import build_prompts

# As in modeling_expclip.py: the files that travel are those that this one names.
__all__ = ["ExpCLIPProcessor", "ExpSigLIPConfig", "ExpSigLIPModel", "FacialExpressionPipeline", "build_prompts"]


@strict
class ExpSigLIPConfig(ExpCLIPConfigMixin, SiglipConfig):
    """A [`SiglipConfig`] and `alignment_dim` (`int`, defaults to 4096), the output width H of the projection head.

    `text_config.pad_token_id` must be the tokenizer's: SigLIP's configs on the Hub leave it at a default that not every tokenizer has.
    """

    # Without SigLIP's name in it: where transformers' pipeline finds that name, it takes a sigmoid, and the bias in it was learned
    # without the head. Over labels the softmax is what the head was trained for.
    model_type = "expclip_sig_lip"
    auto_model = "siglip_expclip.ExpSigLIPModel"

    alignment_dim: int = 4096

    @property
    def projection_dim(self) -> int:
        """D, the width of both towers' outputs: SigLIP has no projections."""
        return self.vision_config.hidden_size


class ExpSigLIPModel(ExpCLIPMixin, SiglipModel):
    """[`SiglipModel`] whose image and text embeddings both pass through `projection_head`; see [`ExpCLIPModel`].

    Logits are SigLIP's, exp(logit_scale) * cosine + logit_bias. The bias is the same for all labels and so without effect on a softmax;
    the sigmoid of these logits is no probability, for the bias was learned on cosines without the head.
    """

    config_class = ExpSigLIPConfig
    config: ExpSigLIPConfig
    plain_class = SiglipModel

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """As [`ExpCLIPModel`]'s. SigLIP reads its last position and has seen texts of one length only, without a mask, so texts are padded
        to that length here, and a mask tells only where the texts end that are longer."""
        text = self.config.text_config
        if input_ids.shape[-1] > text.max_position_embeddings and attention_mask is None:
            attention_mask = (input_ids != text.pad_token_id).long()
        input_ids, _ = self._cut(input_ids, attention_mask)
        missing = text.max_position_embeddings - input_ids.shape[-1]
        input_ids = nn.functional.pad(input_ids, (0, missing), value=text.pad_token_id)
        return super().get_text_features(input_ids, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> SiglipOutput:
        """`logits_per_image` (images, texts), `logits_per_text`, and the normalised `image_embeds` and `text_embeds` (B, alignment_dim).

        SiglipModel's own calls the towers, and would leave out the head. There is no `return_loss`: `expclip train` has the head's loss.
        """
        if kwargs.pop("return_loss", None):
            raise ValueError("ExpSigLIPModel has no return_loss; `expclip train` trains its head")
        images = self.get_image_features(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        texts = self.get_text_features(input_ids, attention_mask=attention_mask, **kwargs)
        image_embeds = nn.functional.normalize(images.pooler_output, dim=-1)
        text_embeds = nn.functional.normalize(texts.pooler_output, dim=-1)
        logits = self.logit_scale.exp() * text_embeds @ image_embeds.T + self.logit_bias  # (texts, images)
        return SiglipOutput(
            logits_per_image=logits.T,
            logits_per_text=logits,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            text_model_output=texts,
            vision_model_output=images,
        )

    def merge_projection(self):
        """Raises ValueError: no plain SigLIP gives these predictions."""
        raise ValueError(
            "a SigLIP cannot take up the head: its image tower ends in a sum and not in a projection, so there is no matrix to fold the "
            "head into; `expclip export --backend onnx` writes the model with its head as ONNX graphs, which need no code of ours"
        )


ExpSigLIPConfig.register_for_auto_class()
ExpSigLIPModel.register_for_auto_class("AutoModel")

if __name__ == "modeling_expclip.siglip_expclip":  # not in a checkpoint's copy
    AutoConfig.register(ExpSigLIPConfig.model_type, ExpSigLIPConfig)
    AutoModel.register(ExpSigLIPConfig, ExpSigLIPModel)
    AutoModelForZeroShotImageClassification.register(ExpSigLIPConfig, ExpSigLIPModel)
