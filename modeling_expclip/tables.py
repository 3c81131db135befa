"""Rows of ``expclip classify`` as people open them: a table in the terminal, CSV, JSON, Parquet."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from .classify import Row

FIXED_COLUMNS = ("path", "face", "x0", "y0", "x1", "y1", "detection_score", "label", "error")
FORMATS = (".csv", ".json", ".parquet")


def _text(path: str) -> str:
    """The path as text any file format takes: bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _flat(row: Row, labels: tuple[str, ...]) -> dict[str, Any]:
    x0, y0, x1, y1 = row.box or (None,) * 4
    error = None if row.error is None else _text(row.error)
    values = (_text(row.path), row.face, x0, y0, x1, y1, row.detection_score, row.label, error)
    return dict(zip(FIXED_COLUMNS, values)) | {label: row.scores.get(label) for label in labels}


def check_output(output: Path) -> None:
    """Raises ValueError or OSError where ``write`` would fail, before any work is done."""
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"--output {output}: the name must end in {', '.join(FORMATS)}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output {output}: there is no folder {output.parent}")
    if output.is_dir():
        raise IsADirectoryError(f"--output {output} is a folder")
    part = _part(output)
    part.touch()
    part.unlink()


def _part(output: Path) -> Path:
    return output.with_name(f".{output.name}.part")


def write(rows: list[Row], labels: tuple[str, ...], output: Path) -> None:
    """Writes all rows to ``output``; the ending chooses the format. The file appears whole."""
    part, kind = _part(output), output.suffix.lower()
    try:
        if kind == ".csv":
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*FIXED_COLUMNS, *labels])
                writer.writeheader()
                for row in rows:
                    flat = _flat(row, labels)
                    writer.writerow(flat | {name: f"{score:.8f}" for name, score in row.scores.items()})
        elif kind == ".json":
            entries = []
            for row in rows:
                flat = _flat(row, labels)
                entry = {name: flat[name] for name in ("path", "face")}
                entry |= {"box": row.box, "label": row.label, "scores": row.scores, "error": flat["error"]}
                entries.append(entry)
            part.write_text(json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        else:
            _write_parquet([_flat(row, labels) for row in rows], labels, part)
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)


def _write_parquet(rows: list[dict[str, Any]], labels: tuple[str, ...], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = dict.fromkeys(FIXED_COLUMNS, pa.int64())
    types |= {"path": pa.string(), "label": pa.string(), "error": pa.string(), "detection_score": pa.float64()}
    schema = pa.schema([*types.items(), *((label, pa.float64()) for label in labels)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _printable(text: str) -> str:
    """A file may be called anything; what would move the cursor or colour the terminal is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def text_table(rows: list[Row], labels: tuple[str, ...], limit: int = 50) -> str:
    """The first ``limit`` rows as text: the path, the label, and the probability of each label in percent."""
    shown = [(_printable(_text(row.path)), row) for row in rows[:limit]]
    path_width = min(40, max([len("path"), *(len(path) for path, _ in shown)]))
    label_width = max([len("label"), *map(len, labels)])
    widths = [max(len(label), 5) for label in labels]
    titles = (f"{label:>{width}}" for label, width in zip(labels, widths))
    lines = ["  ".join([f"{'path':{path_width}}", f"{'label':{label_width}}", *titles])]
    for path, row in shown:
        path = path if len(path) <= path_width else "..." + path[3 - path_width :]
        if row.error is not None:
            lines.append(f"{path:{path_width}}  {_printable(_text(row.error))}")
            continue
        cells = [f"{100 * row.scores[label]:{width}.1f}" for label, width in zip(labels, widths)]
        lines.append("  ".join([f"{path:{path_width}}", f"{row.label:{label_width}}", *cells]))
    if len(rows) > limit:
        lines.append(f"... and {len(rows) - limit} more rows")
    return "\n".join(line.rstrip() for line in lines)
