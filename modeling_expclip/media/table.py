"""Rows, one for each face, as people open them: a table in the terminal, CSV, JSON, Parquet."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..system.files import LONGEST_NAME, whole_file
from ..system.terminal import printable

if TYPE_CHECKING:
    import pyarrow as pa

FIXED_COLUMNS = ("path", "time", "face", "x0", "y0", "x1", "y1", "detection_score", "label", "error")
FORMATS = (".csv", ".json", ".parquet")
_PARQUET_ROWS = 10_000


@dataclass
class Row:
    """What is known of one face.

    Attributes:
        path: the file; of a table's row, the file, `#` and the row's number from 0.
        time: seconds from the start of a video.
        face: its number from 0: in an image by size, the largest first; in a video that of the person.
        box: x0, y0, x1, y1 in pixels of the image held upright; None for an image that is a face crop.
        detection_score: the detector's, 0 to 1.
        detector: what looked for faces; None for a face crop, and for what could not be read. In JSON only.
        label: the most probable; None where labels are scored one by one and none fits.
        error: what is wrong instead of scores.
        scores: the probability of each label; of an axis, -1 to 1.
    """

    path: str
    time: float | None = None
    face: int | None = None
    box: tuple[int, int, int, int] | None = None
    detection_score: float | None = None
    detector: str | None = None
    label: str | None = None
    error: str | None = None
    scores: dict[str, float] = field(default_factory=dict)

    def best(self, count: int) -> list[tuple[str, float]]:
        """The `count` most probable labels and their probabilities, best first."""
        return sorted(self.scores.items(), key=lambda item: -item[1])[:count]


class Layout:
    """What the columns of a table are.

    Args:
        labels: one column each, with its probability.
        moving: there is a video among the rows, so they have a time.
        top_k: instead of the labels' columns, `label_1`, `score_1` and so on for the best of a row.
    """

    def __init__(self, labels: tuple[str, ...], moving: bool = False, top_k: int | None = None) -> None:
        self.labels = labels
        self.top_k = None if top_k is None else min(top_k, len(labels))
        self.fixed = [name for name in FIXED_COLUMNS if moving or name != "time"]
        ranks = range(1, (self.top_k or 0) + 1)
        scored = labels if top_k is None else [f"{name}_{rank}" for rank in ranks for name in ("label", "score")]
        self.columns = [*self.fixed, *scored]

    def check(self) -> None:
        """Raises ValueError for a label that is called like another column."""
        reserved = sorted(set(self.labels) & set(FIXED_COLUMNS)) if self.top_k is None else []
        if reserved:
            raise ValueError(f"a label cannot be called like a column of the output: {', '.join(reserved)}")

    def schema(self) -> pa.Schema:
        """The columns' types in Parquet and Arrow."""
        import pyarrow as pa

        types = dict.fromkeys(self.columns, pa.float64())
        types |= dict.fromkeys(("path", "label", "error"), pa.string())
        types |= dict.fromkeys(("face", "x0", "y0", "x1", "y1"), pa.int64())
        types |= {f"label_{rank}": pa.string() for rank in range(1, (self.top_k or 0) + 1)}
        return pa.schema(list(types.items()))

    def scores(self, row: Row) -> dict[str, float]:
        """The probabilities of a row that are kept: of all labels, or of the best, best first."""
        return row.scores if self.top_k is None else dict(row.best(self.top_k))

    def values(self, row: Row) -> dict[str, Any]:
        """A row by column."""
        x0, y0, x1, y1 = row.box or (None,) * 4
        error = None if row.error is None else _text(row.error)
        fixed = (_text(row.path), row.time, row.face, x0, y0, x1, y1, row.detection_score, row.label, error)
        values = {name: value for name, value in zip(FIXED_COLUMNS, fixed) if name in self.fixed}
        if self.top_k is None:
            return values | {label: row.scores.get(label) for label in self.labels}
        for rank, (label, score) in enumerate(row.best(self.top_k), 1):
            values |= {f"label_{rank}": label, f"score_{rank}": score}
        return values


def check_output(output: Path) -> None:
    """Raises ValueError or OSError for a name that `write` could not write to, before any work is done."""
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"--output {output}: the name must end in {', '.join(FORMATS)}")
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise ValueError(f"--output {output}: the name is longer than {LONGEST_NAME} bytes; choose a shorter one")
    if output.is_dir():
        raise IsADirectoryError(f"--output {output} is a folder; name a file in it, such as {output / 'faces.csv'}")


def write(
    rows: Iterable[Row], labels: tuple[str, ...], output: Path, moving: bool = False, top_k: int | None = None
) -> None:
    """Writes all rows to a file that appears whole, holding few at a time.

    Args:
        rows: the rows, in the order they are written in.
        labels: the labels of a row's scores.
        output: the file; its ending, one of `FORMATS`, chooses the format.
        moving, top_k: as for `Layout`. In JSON, `scores` holds the best, best first.
    """
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    with whole_file(output) as part:
        writers[output.suffix.lower()](rows, Layout(labels, moving, top_k), part)


def _write_csv(rows: Iterable[Row], layout: Layout, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, layout.columns)
        writer.writeheader()
        for row in rows:
            values = layout.values(row)
            for name in layout.columns[len(layout.fixed) :]:
                if isinstance(values.get(name), float):
                    values[name] = f"{values[name]:.8f}"
            if row.time is not None:
                values["time"] = f"{row.time:.3f}"
            writer.writerow(values)


def _write_json(rows: Iterable[Row], layout: Layout, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        before = "[\n"
        for row in rows:
            entry: dict[str, Any] = {
                name: getattr(row, name) for name in ("path", "time", "face") if name in layout.fixed
            }
            entry |= {
                "path": _text(row.path),
                "box": row.box,
                "detection_score": row.detection_score,
                "detector": row.detector,
                "label": row.label,
                "scores": layout.scores(row),
                "error": None if row.error is None else _text(row.error),
            }
            file.write(before + json.dumps(entry, ensure_ascii=False, allow_nan=False))
            before = ",\n"
        file.write("\n]\n" if before == ",\n" else "[]\n")


def _write_parquet(rows: Iterable[Row], layout: Layout, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = layout.schema()
    rows = iter(rows)
    # Opened here: pyarrow takes no name that is not UTF-8.
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        while part := [layout.values(row) for row in itertools.islice(rows, _PARQUET_ROWS)]:
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


class Summary:
    """What the terminal shows of a run: its first rows, and how many there were."""

    def __init__(self, limit: int = 50) -> None:
        self.rows: list[Row] = []
        self.total = self.failed = 0
        self._limit = limit

    def add(self, row: Row) -> None:
        self.total += 1
        self.failed += row.error is not None
        if len(self.rows) < self._limit:
            self.rows.append(row)

    def table(self, labels: tuple[str, ...], top_k: int | None = None) -> str:
        """A line for each row: the path (with time and face where there are any), and percentages.

        Args:
            labels: a column each, after that of the most probable.
            top_k: instead, this many columns of labels and percentages, best first.
        """
        if top_k is None:
            titles, side = ["label", *map(printable, labels)], ">"
        else:
            titles, side = [str(rank) for rank in range(1, min(top_k, len(labels)) + 1)], "<"
        names = [_name(row) for row in self.rows]
        cells = [_cells(row, labels, top_k) for row in self.rows]
        width = min(48, max([len("path"), *map(len, names)]))
        columns = zip(titles, *(line for row, line in zip(self.rows, cells) if row.error is None))
        widths = [max(5, *map(len, column)) for column in columns]
        lines = []
        for name, (first, *others) in zip(["path", *names], [titles, *cells]):
            name = name if len(name) <= width else "..." + name[3 - width :]
            aligned = [f"{cell:{side}{wide}}" for cell, wide in zip(others, widths[1:])]
            lines.append("  ".join([f"{name:{width}}", f"{first:{widths[0]}}", *aligned]))
        if self.total > len(self.rows):
            lines.append(f"... and {self.total - len(self.rows)} more rows")
        return "\n".join(line.rstrip() for line in lines)


def _cells(row: Row, labels: tuple[str, ...], top_k: int | None) -> list[str]:
    if row.error is not None:
        return [printable(_text(row.error))]
    if top_k is None:
        return [
            "-" if row.label is None else printable(row.label),
            *(f"{100 * row.scores[label]:.1f}" for label in labels),
        ]
    return [f"{printable(label)} {100 * score:.1f}" for label, score in row.best(top_k)]


def _name(row: Row) -> str:
    name = printable(_text(row.path))
    if row.time is not None:
        name += f" {row.time:.1f}s"
    return f"{name} #{row.face}" if row.box is not None else name


def _text(path: str) -> str:
    """A path as text any file format takes: bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
