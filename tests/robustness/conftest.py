"""Hypothesis draws the same examples on every machine; ``HYPOTHESIS_PROFILE=hunt`` draws new ones, and many more."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from modeling_expclip import FaceAnalyzer, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint

# A failing example that takes a second is not made smaller: that would take an hour.
QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),
}
settings.register_profile("repeatable", max_examples=60, derandomize=True, **QUIET)
settings.register_profile("hunt", max_examples=3000, **QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def recognise(checkpoint) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


@pytest.fixture(scope="session")
def analyzer(recognise) -> FaceAnalyzer:
    return FaceAnalyzer(recognise, faces=False)
