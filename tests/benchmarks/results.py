"""Where benchmarks keep what they measured: ``results.csv``, with the machine that it was measured on."""

from __future__ import annotations

import csv
import platform
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = ("benchmark", "subject", "value", "unit", "target", "repeats", "machine")


def machine() -> str:
    """Processor, threads and versions."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    flags = next((line.split() for line in _lines("/proc/cpuinfo") if line.startswith("flags")), [])
    extras = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8") if flag in flags]
    processor = f"{names[0] if names else platform.machine()} ({' '.join(extras)})"
    return (
        f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def record(benchmark: str, rows: list[tuple[str, float, str, str, int]]) -> None:
    """Prints (subject, value, unit, target, repeats) rows and puts them in the place of earlier ones of the same subjects."""
    kept, again = [], {row[0] for row in rows}
    if RESULTS.is_file():
        with RESULTS.open(newline="") as file:
            found = csv.DictReader(file)
            kept = [row for row in found if row["benchmark"] != benchmark or row["subject"] not in again]
    here = machine()
    for subject, value, unit, target, repeats in rows:
        values = (benchmark, subject, f"{value:.3g}", unit, target, repeats, here)
        kept.append(dict(zip(COLUMNS, values)))
        print(f"{benchmark}: {subject}: {value:.3g} {unit}" + (f" (target {target})" if target else ""), flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept, key=lambda row: row["benchmark"]))
