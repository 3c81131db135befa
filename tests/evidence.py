"""``python -m tests.evidence``: writes docs/results.md, the page that says where each figure comes from.

Files in docs/measured, one a measurement, come in: what it measures and the command, data, version, machine and date in YAML, then what
came out in Markdown. With the benchmarks' results.csv and the paper's reported_results.csv they become one page. ``missing``
names the figures of another text that the page has not.
"""

from __future__ import annotations

import csv
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.benchmarks.results import RESULTS

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "measured"
PAGE = ROOT / "docs" / "results.md"
REPORTED = ROOT / "training" / "evaluation" / "reported_results.csv"
ASKED = ("command", "data", "version", "machine", "date")

INTRODUCTION = """# Results

The figures of the [README](../README.md), the [model card](../model_card.md) and the other pages, with the command that gave them, the
data, the version, the machine and the date. This page is written by `python -m tests.evidence` from the files in
`docs/measured`, `tests/benchmarks/results.csv` and `training/evaluation/reported_results.csv`; a test fails where a row
of a table, a percentage or a number with a decimal point of any of them is missing here. Paths of data are those of Parquet files with the columns that [evaluate](evaluate.md) names.
"""


@dataclass(frozen=True)
class Measurement:
    """``text`` is Markdown; of ``facts`` a measurement has all that ASKED names, what was taken from others has a ``source``."""

    title: str
    facts: dict[str, str]
    text: str


def read(path: Path) -> Measurement:
    """Raises ValueError where a file has no title, or neither all of ASKED nor a source."""
    parts = path.read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    if not isinstance(facts, dict) or "title" not in facts:
        raise ValueError(f"{path}: begin with YAML between two lines of '---' that has a title")
    title = facts.pop("title")
    absent = [name for name in ASKED if name not in facts]
    if absent and "source" not in facts:
        raise ValueError(f"{path}: {', '.join(absent)} missing; a figure from elsewhere has a 'source' instead")
    return Measurement(title, {name: str(value).strip() for name, value in facts.items()}, parts[2].strip())


def page() -> str:
    sections = [_section(read(path)) for path in sorted(MEASURED.glob("*.md"))]
    text = "\n\n".join([INTRODUCTION.strip(), *sections, _speed(), _reported()])
    return "\n".join(_short(line) for line in text.splitlines()) + "\n"


def figures(text: str) -> list[tuple[str, ...]]:
    """What stands for something measured in Markdown ``text``: each table row's numbers, and of other lines each number with a
    decimal point and each percentage by itself.

    Code blocks (their outputs are compared elsewhere), links, inline code and headings are left out.
    """
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^( {4}|#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|https?://\S+", " ", text)
    found = []
    for line in text.splitlines():
        matches = list(re.finditer(r"(?<![\w./])(?<!\w-)\d[\d,]*(?:\.\d+)?(?![\w-])(?!\.\d)(\s?%)?", line))
        numbers = [match[0].rstrip(" %").replace(",", "") for match in matches]
        if line.startswith("|"):
            found.append(tuple(numbers))
        else:
            found += [(number,) for number, match in zip(numbers, matches) if "." in number or match[1]]
    return [numbers for numbers in found if numbers]


def missing(text: str, of: str, given: Iterable[str]) -> list[str]:
    """The figures of ``text`` that the page ``of`` has not: of a table row, those numbers in that order in one row."""
    known = [" ".join(numbers) for numbers in figures(of)]
    rows = f" | {' | '.join(known)} | "
    return [row for row in map(" ".join, figures(text)) if f" {row} " not in rows and row not in given]


def _section(measurement: Measurement) -> str:
    rows = [f"| {name} | {_cell(name, value)} |" for name, value in measurement.facts.items()]
    return "\n".join([f"## {measurement.title}", "", "| | |", "| --- | --- |", *rows, "", measurement.text])


def _cell(name: str, value: str) -> str:
    lines = [f"`{line}`" if name == "command" else line for line in value.splitlines()]
    return "<br>".join(lines).replace("|", "\\|")


def _short(line: str) -> str:
    if line.startswith(("|", "    ")):
        return line
    return textwrap.fill(line, 100, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)


def _table(rows: Iterable[dict[str, str]]) -> str:
    rows = list(rows)
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])


def _speed() -> str:
    with RESULTS.open(newline="") as file:
        rows = _table(csv.DictReader(file))
    return f"## Speed and memory\n\nRatios and sizes, each from one run of `python -m tests.benchmarks.NAME`.\n\n{rows}"


def _reported() -> str:
    with REPORTED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    benchmarks = dict.fromkeys((row["benchmark"] for row in rows if not row["prompt_set"]), "")
    tables: dict[str, dict[str, str]] = {}
    for row in rows:
        if not row["prompt_set"]:
            name = f"{row['model']} ({row['source']})"
            tables.setdefault(name, {"model": name, **benchmarks})[row["benchmark"]] = f"{row['uar']} / {row['war']}"
    logs = [row for row in rows if row["prompt_set"]]
    return (
        "## Reported by the paper's authors\n\nNot measured here: UAR / WAR in percent, from the paper's tables.\n\n"
        f"{_table(tables.values())}\n\nFrom the logs that the authors released, by prompt set:\n\n{_table(logs)}"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
