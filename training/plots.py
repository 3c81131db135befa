"""Pictures of results: the training curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def training_curve(steps: list[dict[str, Any]], path: Path) -> None:
    """Loss, in-batch retrieval accuracy and, where it was measured, zero-shot UAR over the steps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    means = sorted({name for row in steps for name in row if name.endswith("_mean_uar")})
    figure = Figure(figsize=(11, 3.4) if means else (7.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3 if means else 2)
    retrieval = {"image_to_teacher": "face to teacher", "teacher_to_image": "teacher to face"}
    _draw(panels[0], steps, {"loss": "loss"}, "alignment loss")
    _draw(panels[1], steps, retrieval, "in-batch retrieval accuracy")
    if means:
        names = {name: name.removeprefix("eval_").removesuffix("_mean_uar") for name in means}
        _draw(panels[2], steps, names, "zero-shot UAR, %, mean of prompt sets")
    FigureCanvasAgg(figure).print_png(path)


def _draw(panel: Any, steps: list[dict[str, Any]], names: dict[str, str], title: str) -> None:
    for name, label in names.items():
        points = [(row["step"], row[name]) for row in steps if name in row]
        panel.plot(*zip(*points), label=label, marker="." if len(points) < 30 else "")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("step")
    panel.grid(alpha=0.3)
    if len(names) > 1 or title.startswith("zero"):
        panel.legend(fontsize=8, frameon=False)
