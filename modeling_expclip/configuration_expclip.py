"""ExpCLIPConfig: a CLIPConfig plus the width of the projection head. Travels inside every checkpoint."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPConfig

_INSTALLED = __name__ == "modeling_expclip.configuration_expclip"  # and not a checkpoint's copy


class _CustomPipelines(dict):
    """Where the library is installed and its classes are registered, `pipeline` must take its registered pipeline too, and not the one in
    the checkpoint, which would be a mixture of both, and refused without trust_remote_code. Reading the name of the task stays possible."""

    def __contains__(self, task: object) -> bool:
        return not _INSTALLED and super().__contains__(task)


class ExpCLIPConfigMixin:
    """What the configs of all backbones share: the checked width of the head, and where transformers finds their classes in a
    checkpoint folder."""

    alignment_dim: int
    auto_model = "modeling_expclip.ExpCLIPModel"  # the file and the class that a checkpoint's `auto_map` names

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)  # type: ignore[misc]  # the backbone's config stands behind
        if not isinstance(self.alignment_dim, int) or self.alignment_dim < 1:
            raise ValueError(f"alignment_dim must be at least 1, got {self.alignment_dim!r}")
        own = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        self.auto_map = {"AutoConfig": own, "AutoModel": self.auto_model}
        # Without it the stock zero-shot-image-classification pipeline refuses the model.
        self.auto_map["AutoModelForZeroShotImageClassification"] = self.auto_model
        pipeline = {"impl": "pipeline_expclip.FacialExpressionPipeline", "pt": ["AutoModel"], "type": "multimodal"}
        self.custom_pipelines = _CustomPipelines({"facial-expression-recognition": pipeline})


@strict
class ExpCLIPConfig(ExpCLIPConfigMixin, CLIPConfig):
    r"""
    Configuration of an [`ExpCLIPModel`].

    Args:
        alignment_dim (`int`, defaults to 4096):
            H, the output width of the projection head: the width of the LLM encoder it was aligned to
            (4096 for Flan-T5-XXL, the paper's).
        text_config, vision_config, projection_dim, logit_scale_init_value:
            as in [`CLIPConfig`].

    Example:

    ```python
    >>> from modeling_expclip import ExpCLIPConfig, ExpCLIPModel

    >>> config = ExpCLIPConfig(alignment_dim=2048)
    >>> model = ExpCLIPModel(config)  # random weights
    ```
    """

    model_type = "expclip"

    alignment_dim: int = 4096


ExpCLIPConfig.register_for_auto_class()

# Once a name of the installed library was used, the Auto classes find it without trust_remote_code. A checkpoint's copy of this file does not
# register itself: it would then answer for every other checkpoint as well.
if _INSTALLED:
    AutoConfig.register("expclip", ExpCLIPConfig)
