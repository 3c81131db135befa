"""Rows of a video as a picture: for each person the probability of each label over time."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

from .classify import Row

_LONGEST = 40  # characters of a name; the curves need room beside it
_PEOPLE = 6  # those seen most often
_GAP = 3  # no line is drawn across a pause this many times as long as usual


def draw_timeline(rows: list[Row], labels: tuple[str, ...], path: Path) -> None:
    """Rows with ``time`` and ``scores`` of one video -> PNG, a panel for each person. Raises ImportError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing needs matplotlib: pip install matplotlib") from None
    people: dict[int, list[tuple[float, Row]]] = {}
    for row in rows:
        if row.face is not None and row.time is not None:
            people.setdefault(row.face, []).append((row.time, row))
    shown = sorted(sorted(people, key=lambda number: -len(people[number]))[:_PEOPLE])
    pauses = [after - before for person in people.values() for (before, _), (after, _) in pairwise(person)]
    gap = _GAP * statistics.median(pauses) if pauses else 0.0
    figure = Figure(figsize=(10, 0.8 + 2.2 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for number, panel in zip(shown, panels):
        person = people[number]
        for i, label in enumerate(labels):
            times: list[float] = []
            values: list[float] = []
            for time, row in person:
                if times and time - times[-1] > gap:
                    times.append(time)
                    values.append(float("nan"))
                times.append(time)
                values.append(100 * row.scores[label])
            style = ("-", "--", ":")[i // 10 % 3]  # matplotlib has ten colours
            panel.plot(
                times, values, style, label=_legible(label), linewidth=1.4, marker="." if len(person) < 30 else ""
            )
        panel.set_ylim(0, 100)
        panel.set_ylabel(f"face {number}, %" if len(people) > 1 else "%")
        panel.grid(alpha=0.3)
    hidden = f", the {len(shown)} of {len(people)} faces seen most" if len(people) > len(shown) else ""
    panels[0].set_title(f"{_legible(Path(rows[0].path).name)}: apparent expression{hidden}", fontsize=10, loc="left")
    panels[-1].set_xlabel("seconds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def _legible(name: str) -> str:
    """A name as matplotlib shows it: it would read ``$...$`` as mathematics and hide what begins with an underscore."""
    short = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return "\u200b" + short.replace("$", r"\$")
