"""Exp-CLIP on MetaCLIP 2, whose text tower reads some 300 languages: the same head. Travels in checkpoints of this backbone only."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    MetaClip2Config,
    MetaClip2Model,
)

from .configuration_expclip import ExpCLIPConfigMixin
from .modeling_expclip import ExpCLIPMixin
from .pipeline_expclip import FacialExpressionPipeline
from .processing_expclip import ExpCLIPProcessor
from .prompts import build_prompts

# As in modeling_expclip.py: the files that travel are those that this one names.
__all__ = ["ExpCLIPProcessor", "ExpMetaCLIP2Config", "ExpMetaCLIP2Model", "FacialExpressionPipeline", "build_prompts"]


@strict
class ExpMetaCLIP2Config(ExpCLIPConfigMixin, MetaClip2Config):
    """A [`MetaClip2Config`] and `alignment_dim` (`int`, defaults to 4096), the output width H of the projection head."""

    model_type = "expclip_metaclip_2"
    auto_model = "metaclip2_expclip.ExpMetaCLIP2Model"

    alignment_dim: int = 4096


class ExpMetaCLIP2Model(ExpCLIPMixin, MetaClip2Model):
    """[`MetaClip2Model`] whose image and text embeddings both pass through `projection_head`; see [`ExpCLIPModel`]."""

    config_class = ExpMetaCLIP2Config
    config: ExpMetaCLIP2Config
    plain_class = MetaClip2Model


ExpMetaCLIP2Config.register_for_auto_class()
ExpMetaCLIP2Model.register_for_auto_class("AutoModel")

if __name__ == "modeling_expclip.metaclip2_expclip":  # not in a checkpoint's copy
    AutoConfig.register(ExpMetaCLIP2Config.model_type, ExpMetaCLIP2Config)
    AutoModel.register(ExpMetaCLIP2Config, ExpMetaCLIP2Model)
    AutoModelForZeroShotImageClassification.register(ExpMetaCLIP2Config, ExpMetaCLIP2Model)
