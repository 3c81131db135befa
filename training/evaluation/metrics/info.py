"""What the metrics of this folder tell ``evaluate`` of themselves."""

from __future__ import annotations

import datasets
import evaluate


def info(description: str, inputs: str) -> evaluate.MetricInfo:
    """Predictions and references as they are given: an integer column would cut 0.9 down to 0, and
    ``recall.py`` refuses it."""
    index = datasets.Value("float64")
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description=inputs,
        features=datasets.Features({"predictions": index, "references": index}),
    )
