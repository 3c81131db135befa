"""What the metrics of this folder tell ``evaluate`` of themselves."""

from __future__ import annotations

import datasets
import evaluate


def info_of_votes(description: str, inputs: str) -> evaluate.MetricInfo:
    """Predictions and references with a number for each class in every row."""
    return _info(description, inputs, datasets.List(datasets.Value("float64")))


def info(description: str, inputs: str) -> evaluate.MetricInfo:
    """Predictions and references as they are given: an integer column would cut 0.9 down to 0, and
    ``recall.py`` refuses it."""
    return _info(description, inputs, datasets.Value("float64"))


def _info(description: str, inputs: str, column: datasets.Value | datasets.List) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description=inputs,
        features=datasets.Features({"predictions": column, "references": column}),
    )
