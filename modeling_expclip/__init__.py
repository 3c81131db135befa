"""Exp-CLIP, Hugging Face-native: zero-shot recognition of apparent facial expressions.

Names are imported when they are first used, so that ``expclip --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from .prompts import LABEL_SETS, PROMPT_SETS

MINI = str(Path(__file__).parent / "expclip_mini")

_HOMES = {
    "ExpCLIPConfig": ".configuration_expclip",
    "ExpCLIPModel": ".modeling_expclip",
    "ExpCLIPProcessor": ".processing_expclip",
    "FacialExpressionPipeline": ".pipeline_expclip",
}

__all__ = ["LABEL_SETS", "MINI", "PROMPT_SETS", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
