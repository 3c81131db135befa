"""ExpCLIPModel: CLIP with one linear projection head on top of both towers. Travels inside every checkpoint.

Images and prompts come in as CLIP's tensors; both towers' embeddings pass through the same matrix W; cosines leave.
Source: "Enhancing Zero-Shot Facial Expression Recognition by LLM Knowledge Transfer", WACV 2025.
"""

from __future__ import annotations

from typing import Any

import torch
from packaging.version import Version
from torch import nn
from transformers import AutoModel, AutoModelForZeroShotImageClassification, CLIPModel, PreTrainedModel
from transformers import __version__ as transformers_version
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from .configuration_expclip import ExpCLIPConfig
from .pipeline_expclip import FacialExpressionPipeline
from .processing_expclip import ExpCLIPProcessor
from .prompts import build_prompts

# All of these travel with a saved model, for its config names the pipeline, which needs the others: transformers 5.6 copies the
# files that the model's own file names, and no others.
__all__ = ["ExpCLIPConfig", "ExpCLIPModel", "ExpCLIPProcessor", "FacialExpressionPipeline", "build_prompts"]

if Version(transformers_version) < Version("5.6"):
    # There CLIPModel.forward bypasses get_*_features: the head would be left out without a word.
    raise ImportError(f"Exp-CLIP needs transformers >= 5.6, found {transformers_version}; pip install -U transformers")


class ExpCLIPProjectionHead(nn.Linear):
    """The matrix W (alignment_dim, projection_dim), without bias; a class of its own so that it has its own initialisation."""

    def __init__(self, projection_dim: int, alignment_dim: int) -> None:
        super().__init__(projection_dim, alignment_dim, bias=False)


_Backbone: Any = object  # a type checker cannot know which one stands behind the mixin


class ExpCLIPMixin(_Backbone):
    """The head and what passes it, for any backbone with `get_image_features`, `get_text_features` and bias-free projections."""

    plain_class: type[PreTrainedModel]  # the backbone's own class

    def __init__(self, config) -> None:
        super().__init__(config)
        self.projection_head = ExpCLIPProjectionHead(config.projection_dim, config.alignment_dim)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # CLIP leaves a plain nn.Linear at standard deviation 1; the paper's head starts as torch's nn.Linear does.
        if isinstance(module, ExpCLIPProjectionHead):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False, **kwargs
    ) -> BaseModelOutputWithPooling:
        """Image embeddings after the head, not normalised.

        Args:
            pixel_values: (B, 3, height, width), as the processor makes them.
            interpolate_pos_encoding: allow other sizes than the config's ``image_size``.

        Returns:
            the vision tower's output with ``pooler_output`` W P_v f(image), (B, alignment_dim).
        """
        kwargs["return_dict"] = True
        output = super().get_image_features(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        output.pooler_output = self.projection_head(output.pooler_output)
        return output

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """Text embeddings after the head, not normalised.

        Args:
            input_ids: (B, L); what is beyond the tower's positions (77) is cut as a truncating tokenizer would.
            attention_mask, position_ids: (B, L).

        Returns:
            the text tower's output with ``pooler_output`` W P_t g(text), (B, alignment_dim).
        """
        kwargs["return_dict"] = True
        input_ids, attention_mask = self._cut(input_ids, attention_mask)
        position_ids = None if position_ids is None else position_ids[:, : input_ids.shape[-1]]
        output = super().get_text_features(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )
        output.pooler_output = self.projection_head(output.pooler_output)
        return output

    def _cut(self, ids: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        limit = self.config.text_config.max_position_embeddings
        if ids.shape[-1] <= limit:  # the stock pipeline does not truncate
            return ids, mask
        mask = torch.ones_like(ids) if mask is None else mask
        ends = ids.gather(1, mask.sum(1, keepdim=True) - 1)  # (B, 1), each row's end token
        cut = torch.where(mask[:, limit - 1 : limit].bool(), ends, ids[:, limit - 1 : limit])
        return torch.cat([ids[:, : limit - 1], cut], 1), mask[:, :limit]

    @can_return_tuple
    def get_video_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Embeddings of clips: the mean of their frames' embeddings, not normalised.

        Args:
            pixel_values: (B, T, 3, height, width), T frames a clip.

        Returns:
            an output whose ``pooler_output`` is the mean over T of W P_v f(frame), (B, alignment_dim).
        """
        if pixel_values.ndim != 5:
            shape = tuple(pixel_values.shape)
            raise ValueError(f"expected clips of shape (B, T, C, H, W), got {shape}; use get_image_features for images")
        kwargs["return_dict"] = True
        frames = self.get_image_features(pixel_values.flatten(0, 1), **kwargs).pooler_output  # (B * T, alignment_dim)
        return BaseModelOutputWithPooling(pooler_output=frames.unflatten(0, pixel_values.shape[:2]).mean(1))

    def freeze_clip(self) -> ExpCLIPMixin:
        """Leaves only the projection head trainable, as in the paper. Returns the model itself."""
        self.requires_grad_(False)
        self.projection_head.requires_grad_(True)
        return self

    @torch.no_grad()
    def merge_projection(self) -> PreTrainedModel:
        """The backbone's own class, such as a plain CLIPModel, with the same predictions.

        Only cosines count, and W = Q R with Q orthonormal gives <W v, W t> = <R v, R t>; so R, which is no larger than CLIP's
        space, folds into both of CLIP's projections. QR, not Cholesky, so that rank-deficient heads work; where the
        head is narrower than CLIP's space, zero rows keep the size.
        """
        # On the CPU, because not every device has float64.
        _, triangle = torch.linalg.qr(self.projection_head.weight.cpu().double())  # (min(H, D), D)
        missing = self.config.projection_dim - len(triangle)
        triangle = nn.functional.pad(triangle, (0, 0, 0, missing))  # (D, D)
        config = self.plain_class.config_class(
            text_config=self.config.text_config.to_dict(),
            vision_config=self.config.vision_config.to_dict(),
            projection_dim=self.config.projection_dim,
            logit_scale_init_value=self.config.logit_scale_init_value,
        )
        state = {key: value for key, value in self.state_dict().items() if not key.startswith("projection_head.")}
        for name in ("visual_projection.weight", "text_projection.weight"):
            state[name] = (triangle @ state[name].cpu().double()).to(state[name])
        merged = self.plain_class(config).to(device=self.device, dtype=self.dtype)
        merged.load_state_dict(state)
        return merged.train(self.training)


class ExpCLIPModel(ExpCLIPMixin, CLIPModel):
    r"""
    [`CLIPModel`] whose image and text embeddings both pass through `projection_head`. All modules but the head keep CLIP's
    names and are stock modules, so `visual_projection(vision_model(pixel_values).pooler_output)` is CLIP's own embedding.

    `forward` is inherited: it returns `logits_per_image` (images, texts), `logits_per_text` (texts, images), and the normalised
    `image_embeds` and `text_embeds` (B, alignment_dim).

    Example:

    ```python
    >>> import torch
    >>> from PIL import Image
    >>> from modeling_expclip import MINI, ExpCLIPModel, ExpCLIPProcessor

    >>> model, processor = ExpCLIPModel.from_pretrained(MINI), ExpCLIPProcessor.from_pretrained(MINI)
    >>> inputs = processor(images=Image.new("RGB", (48, 48)), text=["anger.", "fear."], return_tensors="pt")
    >>> with torch.inference_mode():
    ...     probabilities = model(**inputs).logits_per_image.softmax(-1)  # (1, 2)
    ```
    """

    config_class = ExpCLIPConfig
    config: ExpCLIPConfig
    plain_class = CLIPModel


ExpCLIPModel.register_for_auto_class("AutoModel")

if __name__ == "modeling_expclip.modeling_expclip":  # not in a checkpoint's copy
    AutoModel.register(ExpCLIPConfig, ExpCLIPModel)
    AutoModelForZeroShotImageClassification.register(ExpCLIPConfig, ExpCLIPModel)
