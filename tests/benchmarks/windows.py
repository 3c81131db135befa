"""``python -m tests.benchmarks.windows --embeddings CACHE --data NAME=PARQUET``: does reading pairs in windows change the head?

The cache of ``expclip embed mini`` and labelled faces come in. With each of three seeds a head is trained with all pairs in memory, and with
windows of a few batches, and, where the cache has them (``--override teacher.storage_dtype=float16``), from teacher vectors in half
precision. For each way leave the mean loss of the steps, the loss at the end, and the head's UAR, as mean and range of the seeds.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path

from modeling_expclip.prompts import LABEL_SETS
from training.alignment.run import train_from_cache
from training.embeddings import pairs as pairs_module
from training.embeddings.pairs import load_pairs
from training.recipe import load_recipe

HALF = "teacher.storage_dtype=float16"


def train(cache: Path, evaluate: dict[str, str], overrides: list[str], window: int, output: Path) -> dict[str, float]:
    """Mean loss, final loss and the final UAR for each data set."""
    pairs_module.WINDOW = window
    overrides = [*overrides, "training.epochs=10000"]
    train_from_cache(load_recipe("mini", overrides), cache, output, evaluate, LABEL_SETS["rafdb"])
    with (output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    tail = losses[-len(losses) // 5 :]
    found = {"mean loss": statistics.mean(losses), "loss at the end": statistics.mean(tail)}
    for name in evaluate:
        found[f"UAR {name}"] = [float(row[column]) for row in rows if row[column := f"eval_{name}_mean_uar"]][-1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=Path, required=True, metavar="CACHE")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=PARQUET")
    parser.add_argument("--window", type=int, default=4 * 2**20, help="bytes of the small windows (default: 4 MiB)")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--override", nargs="+", default=[], metavar="SECTION.KEY=VALUE", help="of the recipe mini")
    parser.add_argument("--half", action="store_true", help="the cache has the teacher's vectors in float16, too")
    options = parser.parse_args()
    evaluate = dict(data.split("=", 1) for data in options.data)
    pairs_module.WINDOW = options.window
    recipe = load_recipe("mini", options.override)
    pairs = load_pairs(options.embeddings, recipe.clip, recipe.teacher)
    if len(pairs) <= 4 * pairs.most:
        parser.error(f"{len(pairs)} pairs are fewer than four windows; lower --window, or embed more faces")
    ways = {"in memory": (2**40, []), "in windows": (options.window, [])}
    if options.half:
        ways["in memory, float16"] = 2**40, [HALF]
    lines = ["| pairs | " + " | ".join(["mean loss", "loss at the end", *(f"UAR {name}" for name in evaluate)]) + " |"]
    lines.append("| --- |" + " ---: |" * (2 + len(evaluate)))
    for way, (window, overrides) in ways.items():
        runs = []
        for seed in range(3):
            overrides_now = [
                *options.override,
                *overrides,
                f"training.seed={seed}",
                f"training.max_steps={options.steps}",
            ]
            with tempfile.TemporaryDirectory() as output:
                runs.append(train(options.embeddings, evaluate, overrides_now, window, Path(output) / "run"))
        cells = [[run[name] for run in runs] for name in runs[0]]
        shown = (f"{statistics.mean(cell):.3f} ({min(cell):.3f} to {max(cell):.3f})" for cell in cells)
        lines.append(f"| {way} | " + " | ".join(shown) + " |")
    print("\n".join(lines))  # below what the runs have printed


if __name__ == "__main__":
    main()
