"""Pictures of results: the training curve, confusion matrices."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeling_expclip.media.plot import legible
from modeling_expclip.system.files import whole_file
from modeling_expclip.system.terminal import one_line, printable

_TITLE = 90  # characters


def _beside_the_figures(draw: Callable[..., None]) -> Callable[..., None]:
    """Lets ``draw(..., path)`` draw a file that appears whole. What cannot be drawn is said on
    stderr: the figures are worth more.

    A disk that fails is raised: the same command continues once that is mended.
    """

    @functools.wraps(draw)
    def drawn(*arguments: Any) -> None:
        *content, path = arguments
        try:
            with whole_file(path) as part:
                draw(*content, part)
        except OSError:
            raise
        except Exception as error:  # matplotlib raises whatever it pleases
            shown = printable(str(path))
            print(f"{shown} was not drawn ({type(error).__name__}: {one_line(error)})", file=sys.stderr)

    return drawn


@_beside_the_figures
def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Counts (classes, classes), rows the truth, as PNG: cells show the share of their row in percent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.2 + 0.55 * len(classes)
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    panel = figure.subplots()
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shown = panel.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shown, ax=panel, shrink=0.8, label="share of the row, %")
    for (row, column), value in np.ndenumerate(share):
        panel.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value > 55 else "black"
        )
    panel.set_xticks(range(len(classes)), [*map(legible, classes)], rotation=45, ha="right", fontsize=8)
    panel.set_yticks(
        range(len(classes)), [f"{legible(name)} ({n})" for name, n in zip(classes, matrix.sum(1))], fontsize=8
    )
    panel.set_xlabel("apparent expression, as the model says")
    panel.set_ylabel("as people labelled it (number of samples)")
    panel.set_title(legible(title, _TITLE), fontsize=9)
    FigureCanvasAgg(figure).print_png(path)


@_beside_the_figures
def training_curve(steps: list[dict[str, Any]], path: Path) -> None:
    """Loss, in-batch retrieval accuracy and, where it was measured, zero-shot UAR over the steps,
    as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    means = sorted({name for row in steps for name in row if name.endswith("_mean_uar")})
    figure = Figure(figsize=(11, 3.4) if means else (7.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3 if means else 2)
    retrieval = {"image_to_teacher": "face to teacher", "teacher_to_image": "teacher to face"}
    _draw(panels[0], steps, {"loss": "loss"}, "alignment loss, nats")
    _draw(panels[1], steps, retrieval, "in-batch retrieval accuracy, 0 to 1")
    if means:
        names = {name: name.removeprefix("eval_").removesuffix("_mean_uar") for name in means}
        _draw(panels[2], steps, names, "zero-shot UAR, %, mean of prompt sets")
    FigureCanvasAgg(figure).print_png(path)


def _draw(panel: Any, steps: list[dict[str, Any]], names: dict[str, str], title: str) -> None:
    for name, label in names.items():
        points = [(row["step"], row[name]) for row in steps if name in row]
        panel.plot(*zip(*points), label=legible(label), marker="." if len(points) < 30 else "")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("step")
    panel.grid(alpha=0.3)
    if len(names) > 1 or title.startswith("zero"):
        panel.legend(fontsize=8, frameon=False)
