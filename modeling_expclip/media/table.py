"""Rows of ``expclip classify`` as people open them: a table in the terminal, CSV, JSON, Parquet."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..system.files import LONGEST_NAME, whole_file
from ..system.terminal import printable
from .classify import Row

FIXED_COLUMNS = ("path", "time", "face", "x0", "y0", "x1", "y1", "detection_score", "label", "error")
FORMATS = (".csv", ".json", ".parquet")
_PARQUET_ROWS = 10_000


def _text(path: str) -> str:
    """The path as text any file format takes: bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def columns_of(labels: tuple[str, ...], moving: bool) -> list[str]:
    """The columns of the output; runs with a video in them have the time as well."""
    fixed = [name for name in FIXED_COLUMNS if moving or name != "time"]
    return [*fixed, *labels]


def _flat(row: Row, labels: tuple[str, ...]) -> dict[str, Any]:
    x0, y0, x1, y1 = row.box or (None,) * 4
    error = None if row.error is None else _text(row.error)
    values = (_text(row.path), row.time, row.face, x0, y0, x1, y1, row.detection_score, row.label, error)
    return dict(zip(FIXED_COLUMNS, values)) | {label: row.scores.get(label) for label in labels}


def check_output(output: Path) -> None:
    """Raises ValueError or OSError for a name that ``write`` could not write to, before any work is done."""
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"--output {output}: the name must end in {', '.join(FORMATS)}")
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise ValueError(f"--output {output}: the name is longer than {LONGEST_NAME} bytes; choose a shorter one")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output {output}: there is no folder {output.parent}")
    if output.is_dir():
        raise IsADirectoryError(f"--output {output} is a folder")


def write(rows: Iterable[Row], labels: tuple[str, ...], output: Path, moving: bool = False) -> None:
    """Writes all rows to ``output``, holding few at a time; the ending chooses the format. The file appears whole.

    ``moving`` says that some rows have a time.
    """
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    with whole_file(output) as part:
        writers[output.suffix.lower()](rows, labels, part, columns_of(labels, moving))


def _write_csv(rows: Iterable[Row], labels: tuple[str, ...], path: Path, columns: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            flat = _flat(row, labels) | {name: f"{score:.8f}" for name, score in row.scores.items()}
            if row.time is not None:
                flat["time"] = f"{row.time:.3f}"
            writer.writerow(flat)


def _write_json(rows: Iterable[Row], labels: tuple[str, ...], path: Path, columns: list[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        before = "[\n"
        for row in rows:
            flat = _flat(row, labels)
            entry: dict[str, Any] = {name: flat[name] for name in ("path", "time", "face") if name in columns}
            entry |= {
                "box": row.box,
                "detection_score": row.detection_score,
                "label": row.label,
                "scores": row.scores,
                "error": flat["error"],
            }
            file.write(before + json.dumps(entry, ensure_ascii=False, allow_nan=False))
            before = ",\n"
        file.write("\n]\n" if before == ",\n" else "[]\n")


def _write_parquet(rows: Iterable[Row], labels: tuple[str, ...], path: Path, columns: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = dict.fromkeys(columns, pa.float64())
    types |= dict.fromkeys(("path", "label", "error"), pa.string())
    types |= dict.fromkeys(("face", "x0", "y0", "x1", "y1"), pa.int64())
    rows = iter(rows)
    # Opened here: pyarrow takes no name that is not UTF-8.
    with path.open("wb") as file, pq.ParquetWriter(file, pa.schema(list(types.items()))) as writer:
        while part := [_flat(row, labels) for row in itertools.islice(rows, _PARQUET_ROWS)]:
            writer.write_table(pa.Table.from_pylist(part, schema=writer.schema))


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

    def table(self, labels: tuple[str, ...]) -> str:
        """The path (with the time and face where there are any), the label, and the probability of each label in percent."""
        names = [_name(row) for row in self.rows]
        width = min(48, max([len("path"), *map(len, names)]))
        shown = {label: printable(label) for label in labels}
        label_width = max([len("label"), *map(len, shown.values())])
        widths = [max(len(label), 5) for label in shown.values()]
        titles = (f"{label:>{wide}}" for label, wide in zip(shown.values(), widths))
        lines = ["  ".join([f"{'path':{width}}", f"{'label':{label_width}}", *titles])]
        for name, row in zip(names, self.rows):
            name = name if len(name) <= width else "..." + name[3 - width :]
            if row.error is not None:
                lines.append(f"{name:{width}}  {printable(_text(row.error))}")
                continue
            label = shown[str(row.label)]
            cells = [f"{100 * row.scores[label]:{wide}.1f}" for label, wide in zip(labels, widths)]
            lines.append("  ".join([f"{name:{width}}", f"{label:{label_width}}", *cells]))
        if self.total > len(self.rows):
            lines.append(f"... and {self.total - len(self.rows)} more rows")
        return "\n".join(line.rstrip() for line in lines)


def _name(row: Row) -> str:
    name = printable(_text(row.path))
    if row.time is not None:
        name += f" {row.time:.1f}s"
    return f"{name} #{row.face}" if row.box is not None else name
