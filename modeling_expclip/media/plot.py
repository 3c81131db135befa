"""Rows of a video as an image: for each person the score of each label over time; for valence and arousal also the circumplex."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..system.files import LONGEST_NAME, distinct_names, whole_file
from ..system.terminal import one_line, printable
from .label_sets import Words
from .table import Row

_LONGEST = 40  # characters of a name; the curves need room beside it
_PEOPLE = 6  # those seen most often
_GAP = 3  # no line is drawn across a pause this many times as long as usual
_ENDING = ".png"


class Timelines:
    """The timelines of a run, one PNG for each video, drawn once its last row is known.

    Args:
        videos: their paths.
        folder: where the images go; `prepare` makes it.
        words: their labels are one curve each.

    Raises:
        ImportError: without matplotlib.
    """

    def __init__(self, videos: Iterable[str], folder: Path, words: Words) -> None:
        _matplotlib()
        self._folder = folder
        self._words = words
        self.paths = _image_paths(list(videos), folder)
        self._rows: list[Row] = []

    def prepare(self, overwrite: bool) -> None:
        """Makes the folder. Raises FileExistsError where images are there that are not to be overwritten."""
        there = [path for path in self.paths.values() if path.exists()]
        if there and not overwrite:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise FileExistsError(
                f"--plot: {there[0]}{more} would be replaced; add --overwrite, or choose another folder"
            )
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, path: str, rows: Iterable[Row], done: bool) -> None:
        """Takes rows of a file, `done` with its last. What cannot be drawn is said on stderr: the rows are worth more."""
        if path not in self.paths:
            return
        self._rows += [row for row in rows if row.time is not None]
        if not done:
            return
        rows, self._rows = self._rows, []
        if rows:
            try:
                draw_timeline(rows, self._words, self.paths[path])
            except Exception as error:  # matplotlib raises whatever it pleases
                shown = printable(str(self.paths[path]))
                print(f"{shown} was not drawn ({type(error).__name__}: {one_line(error)})", file=sys.stderr)


def _image_paths(videos: list[str], folder: Path) -> dict[str, Path]:
    """Where each video is drawn: under its name."""
    names = distinct_names({video: Path(video).name for video in videos}, LONGEST_NAME - len(_ENDING))
    return {video: folder / f"{name}{_ENDING}" for video, name in names.items()}


def draw_timeline(rows: list[Row], words: Words, path: Path) -> None:
    """Draws one video as a PNG that appears whole, with a panel for each person; for axes, beside it where the person was between
    them, valence to the right and arousal up, later the darker.

    Args:
        rows: of this video; `time` in seconds, `scores` as probabilities, or from -1 to 1 where the words are axes.
        words: their labels are one curve each.
        path: the file.

    Raises:
        ImportError: without matplotlib.
    """
    Figure, FigureCanvas = _matplotlib()
    people: dict[int, list[tuple[float, Row]]] = {}
    for row in rows:
        if row.face is not None and row.time is not None:
            people.setdefault(row.face, []).append((row.time, row))
    shown = sorted(sorted(people, key=lambda number: -len(people[number]))[:_PEOPLE])
    pauses = [after - before for person in people.values() for (before, _), (after, _) in pairwise(person)]
    gap = _GAP * statistics.median(pauses) if pauses else 0.0
    figure = Figure(figsize=(10, 0.8 + 2.2 * len(shown)), layout="constrained")
    widths = {"width_ratios": [3, 1]} if words.axes else {}
    grid = figure.subplots(len(shown), 1 + words.axes, sharex="col", squeeze=False, **widths)
    panels = grid[:, 0]
    for number, panel in zip(shown, panels):
        person = people[number]
        for i, label in enumerate(words.labels):
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
                times, values, style, label=legible(label), linewidth=1.4, marker="." if len(person) < 30 else ""
            )
        panel.set_ylim(-100 if words.axes else 0, 100)
        panel.set_ylabel(f"face {number}, %" if len(people) > 1 else "%")
        panel.grid(alpha=0.3)
    for number, panel in zip(shown, grid[:, 1] if words.axes else ()):
        _draw_circumplex(panel, people[number], words.labels)
    hidden = f", the {len(shown)} of {len(people)} faces seen most" if len(people) > len(shown) else ""
    panels[0].set_title(f"{legible(Path(rows[0].path).name)}: apparent expression{hidden}", fontsize=10, loc="left")
    panels[-1].set_xlabel("seconds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    with whole_file(path) as part:
        FigureCanvas(figure).print_png(part)


def _draw_circumplex(panel: Any, person: list[tuple[float, Row]], axes: tuple[str, ...]) -> None:
    across, up = ([100 * row.scores[name] for _, row in person] for name in axes)
    panel.scatter(across, up, c=[time for time, _ in person], cmap="viridis_r", s=12)
    panel.set(xlim=(-100, 100), ylim=(-100, 100), aspect="equal", ylabel=legible(axes[1]), xlabel=legible(axes[0]))
    panel.axhline(0, color="grey", linewidth=0.6)
    panel.axvline(0, color="grey", linewidth=0.6)


def legible(name: str, longest: int = _LONGEST) -> str:
    """A name as matplotlib shows it, cut at `longest` characters: it would read `$...$` as mathematics,
    hide what begins with an underscore, and fail at bytes that are not UTF-8."""
    shown = printable(name)
    short = shown if len(shown) <= longest else f"{shown[:longest]}..."
    return "\u200b" + short.replace("$", r"\$")


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install matplotlib") from error
    return Figure, FigureCanvasAgg
