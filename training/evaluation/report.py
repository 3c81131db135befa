"""Reports: measured rows beside the paper's reported ones and what they were measured on, as
Markdown and HTML, and as metadata for a model card.

``reported_results.csv`` holds the figures of the paper's tables and of its released logs. A table's
figure does not say which prompts it belongs to; those are shown, and only the logs' figures are
compared.
"""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from modeling_expclip.system.files import write_text

from .run import Results, folder_name

REPORTED = Path(__file__).parent / "reported_results.csv"


def reported() -> list[dict[str, Any]]:
    """The reported rows: model, benchmark, prompt_set ("" where it is not said), uar, war
    (percent), source."""
    with REPORTED.open(newline="", encoding="utf-8") as file:
        return [{**row, "uar": float(row["uar"]), "war": float(row["war"])} for row in csv.DictReader(file)]


def overall(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of results, the rows that stand for a whole benchmark: the mean of several folds, or the only one."""
    means = {(row["model"], row["benchmark"]) for row in rows if row["fold"] == "mean"}
    return [row for row in rows if row["fold"] == "mean" or (row["model"], row["benchmark"]) not in means]


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each measured row that has a reported one (same model name, benchmark and prompt set):
    both and measured minus reported."""
    known = {(row["model"], row["benchmark"], row["prompt_set"]): row for row in reported() if row["prompt_set"]}
    compared = []
    for row in overall(rows):
        expected = known.get((row["model"], row["benchmark"], row["prompt_set"]))
        if expected is not None:
            compared.append({**row, **{f"reported_{name}": expected[name] for name in ("uar", "war")}})
            compared[-1] |= {f"d_{name}": row[name] - expected[name] for name in ("uar", "war")}
    return compared


def write_report(results: Results, output: Path) -> None:
    """``report.md`` and ``report.html`` in ``output``, with the confusion matrices, and
    ``MODEL/model-index.yaml`` for each model."""
    rows = results.rows
    measured, title = overall(rows), "Zero-shot evaluation"
    plots = [path.relative_to(output).as_posix() for path in sorted(output.glob("*/*/confusion-*.png"))]
    note = (
        "Scores are percent, their differences percentage points, with 95 % bootstrap intervals over samples in brackets. UAR: mean recall of "
        "the classes that occur; uar_minN: of those with at least N samples. WAR: accuracy."
    )
    markdown = [f"# {title}", note]
    page = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>",
        _STYLE,
        f"<h1>{title}</h1><p>{note}</p>",
    ]
    tables = [*_tables(measured, results), *_origins(measured)]
    for heading, header, cells in tables:
        markdown += [
            f"## {heading}",
            "\n".join(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
                for row in [header, ["---"] * len(header), *cells]
            ),
        ]
        lines = [
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for tag, row in [("th", header), *(("td", r) for r in cells)]
        ]
        page += [f"<h2>{html.escape(heading)}</h2><table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"]
    markdown += [f"![{path}]({path})" for path in plots]
    page += [f"<img src='{html.escape(path, quote=True)}' alt='{html.escape(path, quote=True)}'>" for path in plots]
    write_text(output / "report.md", "\n\n".join(markdown) + "\n")
    write_text(output / "report.html", "\n".join(page) + "</html>\n")
    for model in dict.fromkeys(row["model"] for row in measured):
        own = [row for row in measured if row["model"] == model]
        write_text(output / folder_name(model) / "model-index.yaml", model_index(model, own))


Table = tuple[str, list[str], list[list[str]]]  # heading, header, cells


def _tables(measured: Sequence[dict[str, Any]], results: Results) -> list[Table]:
    """For each benchmark what was measured, of all and of groups, the agreement with votes, the
    differences between models, and what the paper reports."""
    sections = []
    for name in dict.fromkeys(row["benchmark"] for row in measured):
        sections.append(_measured(name, [row for row in measured if row["benchmark"] == name]))
        own = [row for row in results.panel if row["benchmark"] == name]
        if own:
            sections.append(_panel(name, own))
        own = [row for row in results.differences if row["benchmark"] == name]
        if own:
            further = _min_samples_columns(own[0], "d_uar")
            header = ["model", "minus", "prompts", "fold", "n", "UAR, points", "WAR, points"]
            header += [f"{column.removeprefix('d_')}, points" for column in further]
            cells = [
                [
                    *(str(row[key]) for key in ("model", "other", "prompt_set", "fold", "n")),
                    *(_score(row, metric, "+") for metric in ("d_uar", "d_war", *further)),
                ]
                for row in own
            ]
            sections.append((f"{name}: differences between models, on the same samples", header, cells))
        sections += _groups(name, results)
        table = [
            [r["model"], f"{r['uar']:.2f}", f"{r['war']:.2f}", r["source"]]
            for r in reported()
            if r["benchmark"] == name and not r["prompt_set"]
        ]
        if table:
            header = ["model", "UAR, %", "WAR, %", "where"]
            sections.append((f"{name}: reported in the paper, not measured here", header, table))
    return sections


def _panel(name: str, own: Sequence[dict[str, Any]]) -> Table:
    header = ["model", "prompts", "fold", "temperature", "n", "UAR, %", "WAR, %", "cross-entropy, nats"]
    header += ["Jensen-Shannon divergence, base 2", "agreement, %", "calibration error, %"]
    cells = []
    for row in own:
        tempered = "" if row["temperature"] is None else f"{row['temperature']:.4g}"
        about = [str(row[key] or "") for key in ("model", "prompt_set", "fold")]
        cells.append(
            [*about, tempered + (f", fitted on {row['fitted_on']}" if row["fitted_on"] else ""), str(row["n"])]
        )
        cells[-1] += [_score(row, metric) for metric in ("uar", "war")]
        cells[-1] += [_score(row, metric, digits=3) for metric in ("cross_entropy", "js_divergence")]
        cells[-1] += [_score(row, metric) for metric in ("agreement", "calibration")]
    return f"{name}: agreement with the votes (entropy of the votes: {own[0]['entropy']:.3f} nats)", header, cells


def agreement_in_words(row: dict[str, Any]) -> str:
    """A row of panel.csv in a line."""
    at = "" if row["temperature"] is None else f"temperature {row['temperature']:.3g}  "
    sure = "" if row["cross_entropy"] is None else f"cross-entropy {row['cross_entropy']:.3f}  "
    return f"{at}{sure}JS divergence {row['js_divergence']:.3f}  agreement {row['agreement']:.1f}  calibration error {row['calibration']:.1f}"


def _groups(name: str, results: Results) -> list[Table]:
    """The scores of groups, and the gaps between the best and the worst."""
    own, gaps = ([row for row in rows if row["benchmark"] == name] for rows in (results.groups, results.gaps))
    if not own:
        return []
    recalled = [key.removeprefix("n_") for key in own[0] if key.startswith("n_") and own[0][key] is not None]
    pair = " over ".join(recalled)
    header = ["model", "prompts", "fold", "group", "n", "UAR, %", "WAR, %", "UAR below the best group, points"]
    header += [f"AUC of {pair}"] if len(recalled) == 2 else []
    header += [f"recall of {label}, %" for label in recalled]
    cells = []
    for row in own:
        cells.append([str(row[key]) for key in ("model", "prompt_set", "fold", "group", "n")])
        cells[-1] += [_score(row, "uar"), _score(row, "war"), "" if row["gap"] is None else f"{row['gap']:.2f}"]
        cells[-1] += [_score(row, "auc", digits=3)] if len(recalled) == 2 else []
        cells[-1] += [f"{_score(row, f'recall_{label}')} of {row[f'n_{label}']}" for label in recalled]
    between = [
        [*(str(row[key]) for key in ("model", "prompt_set", "fold", "measure")), gap_in_words(row)] for row in gaps
    ]
    return [
        (f"{name}: groups", header, cells),
        (f"{name}: the best group minus the worst", ["model", "prompts", "fold", "measure", "gap"], between),
    ]


def gap_in_words(row: dict[str, Any]) -> str:
    """A row of gaps.csv in a sentence."""
    small = f"; too small to compare: {row['too_small']}" if row["too_small"] else ""
    if row["gap"] is None:
        return f"{row['groups']} group{'s' * (row['groups'] != 1)} to compare{small}"
    digits, unit = (3, "") if row["measure"] == "auc" else (1, " points")
    around = f"{row['gap_low']:.{digits}f} to {row['gap_high']:.{digits}f}"
    return f"{row['gap']:.{digits}f}{unit} ({around}), {row['best']} above {row['worst']}, of {row['groups']} groups{small}"


def _measured(name: str, own: Sequence[dict[str, Any]]) -> Table:
    """A benchmark's results, beside what the paper's logs say where they do."""
    logged = {(r["model"], r["prompt_set"]): r for r in reported() if r["benchmark"] == name and r["prompt_set"]}
    further = _min_samples_columns(own[0], "uar")
    header, cells = (
        ["model", "prompts", "n", "skipped", "UAR, %", "WAR, %", *(f"{column}, %" for column in further)],
        [],
    )
    if logged:
        header += ["UAR reported, %", "WAR reported, %", "UAR difference, points", "WAR difference, points"]
    for row in own:
        there = logged.get((row["model"], row["prompt_set"]))
        cells.append([_shown(row), row["prompt_set"], str(row["n"]), str(row["skipped"])])
        cells[-1] += [_score(row, metric) for metric in ("uar", "war", *further)]
        if logged:
            cells[-1] += [f"{there[m]:.2f}" if there else "" for m in ("uar", "war")]
            cells[-1] += [f"{row[m] - there[m]:+.2f}" if there else "" for m in ("uar", "war")]
    return f"{name}: measured (chance: UAR {own[0]['chance_uar']:.1f} %)", header, cells


def _min_samples_columns(row: dict[str, Any], name: str) -> list[str]:
    """The columns of a UAR of the classes with a minimum of samples."""
    return [column for column in row if re.fullmatch(f"{name}_min[0-9]+", column)]


def _shown(row: dict[str, Any]) -> str:
    """A model's name, which says so where the head was left out."""
    bare = row["model_source"].startswith("clip-of:") and "without head" not in row["model"]
    return row["model"] + (" (without head)" if bare else "")


def _origins(measured: Sequence[dict[str, Any]]) -> list[Table]:
    """What was measured, on what and with what, to trace and repeat it."""
    models = [[_shown(row), row["model_source"], row["weights"]] for row in measured]
    data = [
        [row["benchmark"], row["data_source"], row["data"], row["crop"], row["short_clips"], str(row["frames_differ"])]
        for row in measured
    ]
    software = [[name, row[name]] for row in measured for name in ("expclip", "transformers", "torch", "pillow")]
    return [
        (heading, header, list(map(list, dict.fromkeys(map(tuple, cells)))))
        for heading, header, cells in (
            ("Models", ["model", "folder or id", "weights"], models),
            (
                "Data",
                [
                    "data",
                    "from",
                    "content",
                    "faces",
                    "clips of 16 frames or fewer",
                    "clips with other numbers of frames than listed",
                ],
                data,
            ),
            ("Software", ["name", "version"], software),
        )
    ]


def model_index(model: str, rows: Sequence[dict[str, Any]]) -> str:
    """A model's results as the metadata a model card carries, in YAML."""
    results = [
        EvalResult(
            task_type="zero-shot-image-classification",
            dataset_type=row["benchmark"],
            dataset_name=row["benchmark"],
            metric_type=metric,
            metric_name=f"{metric.upper()}, {row['prompt_set']}",
            metric_value=round(row[metric], 2),
        )
        for row in rows
        for metric in ("uar", "war")
    ]
    return ModelCardData(model_name=model, eval_results=results).to_yaml() + "\n"


_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color-scheme: light dark }
table { border-collapse: collapse; display: block; overflow-x: auto } td, th { padding: .2rem .7rem; border-bottom: 1px solid #8885; text-align: right; white-space: nowrap }
td:first-child, th:first-child, td:nth-child(2), th:nth-child(2) { text-align: left } img { max-width: 100%; background: white }
</style>"""


def _score(row: dict[str, Any], metric: str, sign: str = "", digits: int = 2) -> str:
    value, low, high = row[metric], row[f"{metric}_low"], row[f"{metric}_high"]
    if value is None:
        return ""
    rough = 1 if digits == 2 else digits
    return f"{value:{sign}.{digits}f}" + (
        f" ({low:{sign}.{rough}f} to {high:{sign}.{rough}f})" if low is not None else ""
    )
