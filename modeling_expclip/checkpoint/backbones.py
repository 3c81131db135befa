"""The backbones that a head can sit on: for each of transformers' classes, ours with the head.

In: a model type as configs say it. Out: the class to load it with. A new backbone is a file of remote code at the root of the library and
a line here.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from ..metaclip2_expclip import ExpMetaCLIP2Model
from ..modeling_expclip import ExpCLIPModel
from ..siglip_expclip import ExpSigLIPModel

_HEADS: tuple[Any, ...] = (ExpCLIPModel, ExpMetaCLIP2Model, ExpSigLIPModel)
WITH_HEAD: dict[str, type[PreTrainedModel]] = {head.config_class.model_type: head for head in _HEADS}
PLAIN: dict[str, type[PreTrainedModel]] = {
    head.plain_class.config_class.model_type: head.plain_class for head in _HEADS
}
_HEAD_OF = {head.plain_class: head for head in _HEADS}


def backbone_class(source: str, model_type: str | None) -> type[PreTrainedModel]:
    """What loads a checkpoint of this type, with a head or without.

    Raises:
        ValueError: no head sits on a model of this type.
    """
    found = (WITH_HEAD | PLAIN).get(str(model_type))
    if found is None:
        known = ", ".join([*WITH_HEAD, *PLAIN])
        hint = ""
        if model_type == "siglip2":
            hint = "; this SigLIP 2 reads images in patches of any shape (NaFlex), take one that reads one size, whose config says siglip"
        raise ValueError(f"{source} holds a model of type {model_type!r}; expected one of {known}{hint}")
    return found


def embedding_dim(model: PreTrainedModel) -> int:
    """D, the width of what the head reads."""
    return getattr(model.config, "projection_dim", model.config.vision_config.hidden_size)


def head_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The class with a head for a loaded backbone, with a head or without."""
    return next(head for plain, head in _HEAD_OF.items() if isinstance(model, plain))
