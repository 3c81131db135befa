"""Exp-CLIP, Hugging Face-native: zero-shot facial expression recognition, of apparent expressions, with any text labels.

Names are imported when they are first used, so that ``expclip --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wrapt

from .prompts import LABEL_SETS, PROMPT_SETS

MINI = str(Path(__file__).parent / "expclip_mini")

_HOMES = {
    "ExpCLIPConfig": ".configuration_expclip",
    "ExpCLIPModel": ".modeling_expclip",
    "ExpCLIPProcessor": ".processing_expclip",
    "ExpMetaCLIP2Config": ".metaclip2_expclip",
    "ExpMetaCLIP2Model": ".metaclip2_expclip",
    "ExpSigLIPConfig": ".siglip_expclip",
    "ExpSigLIPModel": ".siglip_expclip",
    "FacialExpressionPipeline": ".pipeline_expclip",
    "FaceAnalyzer": ".media.analyzer",
    "ExpressionScorer": ".media.scorer",
    "FaceDetector": ".media.detectors",
    "Face": ".media.faces",
    "VideoLimits": ".media.video",
    "WORD_SETS": ".media.label_sets",
    "convert": ".checkpoint.convert",
    "convert_released": ".checkpoint.convert",
    "export": ".exporters.export",
    "load_checkpoint": ".checkpoint.load",
    "merge": ".checkpoint.merge",
    "verify": ".checkpoint.verify",
}

# The seven basic expressions, in the order of LABEL_SETS["rafdb"], and a template, by ISO 639-1 code, for backbones that read these languages.
LANGUAGES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "languages.json").read_text(encoding="utf-8")
)

__all__ = ["LABEL_SETS", "LANGUAGES", "MINI", "PROMPT_SETS", *_HOMES]


if TYPE_CHECKING:
    from .checkpoint.convert import convert as convert
    from .checkpoint.convert import convert_released as convert_released
    from .checkpoint.load import load_checkpoint as load_checkpoint
    from .checkpoint.merge import merge as merge
    from .checkpoint.verify import verify as verify
    from .configuration_expclip import ExpCLIPConfig as ExpCLIPConfig
    from .exporters.export import export as export
    from .media.analyzer import FaceAnalyzer as FaceAnalyzer
    from .media.detectors import FaceDetector as FaceDetector
    from .media.faces import Face as Face
    from .media.label_sets import WORD_SETS as WORD_SETS
    from .media.scorer import ExpressionScorer as ExpressionScorer
    from .media.video import VideoLimits as VideoLimits
    from .metaclip2_expclip import ExpMetaCLIP2Config as ExpMetaCLIP2Config
    from .metaclip2_expclip import ExpMetaCLIP2Model as ExpMetaCLIP2Model
    from .modeling_expclip import ExpCLIPModel as ExpCLIPModel
    from .pipeline_expclip import FacialExpressionPipeline as FacialExpressionPipeline
    from .processing_expclip import ExpCLIPProcessor as ExpCLIPProcessor
    from .siglip_expclip import ExpSigLIPConfig as ExpSigLIPConfig
    from .siglip_expclip import ExpSigLIPModel as ExpSigLIPModel


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        _register()
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    """Makes our classes known to transformers' Auto classes and `pipeline`: their modules do so when they are imported."""
    for backbone in (".modeling_expclip", ".metaclip2_expclip", ".siglip_expclip"):
        importlib.import_module(backbone, __name__)


@wrapt.when_imported("transformers.pipelines")
def _register_with(_: Any) -> None:
    """So that ``import modeling_expclip`` is enough for ``pipeline("facial-expression-recognition", model=MINI)``."""
    if (
        f"{__name__}.pipeline_expclip" not in sys.modules
    ):  # else it is being imported, and imports transformers' pipelines
        _register()
