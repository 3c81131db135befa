"""``python -m tests.benchmarks.pairs``: what training takes of memory for few and for many pairs, and reading windows of time.

The vectors are random and narrow (16 and 32 numbers), so that ten million pairs are 2 GB of disk; with ``--wide`` 26,000 pairs
of the paper's widths (512 and 4,096) are trained on instead, in windows and in one window of them all, of which the second epoch reads no file.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from tests.benchmarks.results import record
from training.alignment.loss import AlignmentModel
from training.alignment.run import initial_head, optimizer_of, training_arguments
from training.alignment.trainer import ExpCLIPTrainer, as_it_is
from training.embeddings import cache as caches
from training.embeddings import pairs as pairs_module
from training.embeddings.cache import Shard, VectorSet, set_name
from training.embeddings.pairs import load_pairs
from training.recipe import ClipRecipe, TeacherRecipe, TrainingRecipe

CLIP, SHARD = ClipRecipe("c"), 4096


def teacher(dtype: str) -> TeacherRecipe:
    return TeacherRecipe("vectors", storage_dtype=dtype)


def write(cache: Path, pairs: int, widths: tuple[int, int], dtype: str = "float32") -> None:
    """A cache of random vectors, the teacher's a noisy map of CLIP's."""
    caches.begin(cache, {"sources": [], "rows": pairs, "shard_size": SHARD})
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(widths, generator=generator)
    sets = [VectorSet(cache / set_name(CLIP)), VectorSet(cache / set_name(teacher(dtype), ""))]
    sets[0].begin(CLIP, None, "random")
    sets[1].begin(teacher(dtype), "", "random")
    shards = -(-pairs // SHARD)
    for index in range(shards):
        rows = min(SHARD, pairs - index * SHARD)
        ids = [f"{index}/{row:07d}.jpg" for row in range(rows)]
        image = torch.randn(rows, widths[0], generator=generator)
        noisy = image @ truth + torch.randn(rows, widths[1], generator=generator)
        for each, vectors in zip(sets, (image, noisy.to(getattr(torch, dtype)))):
            each.write(index, Shard(ids, vectors, [], "", ""))
    caches.finish(cache, shards)


class _Epochs(TrainerCallback):
    def __init__(self, began: list[float]) -> None:
        self.began = began

    def on_epoch_begin(self, *_, **__) -> None:
        self.began.append(time.perf_counter())


def train(cache: Path, dtype: str, window: int, steps: int) -> None:
    """Trains for two epochs, or ``steps``. Prints the seconds to open the cache and of the last epoch, and the peak in MB."""
    pairs_module.WINDOW = window or pairs_module.WINDOW
    start = time.perf_counter()
    pairs = load_pairs(cache, CLIP, teacher(dtype))
    opened = time.perf_counter() - start
    torch.manual_seed(0)
    model, settings = AlignmentModel(initial_head("random", *pairs.widths[::-1]), 20.0), TrainingRecipe(epochs=10_000 if steps else 2, max_steps=steps or None)  # fmt: skip
    arguments = training_arguments(settings, len(pairs), cache / ".run", False)
    began = []
    trainer = ExpCLIPTrainer(
        model=model,
        args=dataclasses.replace(arguments, save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1000),
        train_dataset=pairs,
        data_collator=as_it_is,
        optimizers=(optimizer_of(model, settings), None),
        callbacks=[_Epochs(began)],
    )
    trainer.train()
    epoch = time.perf_counter() - began[-1]
    # Not getrusage, whose figure a process inherits from the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    print("measured", opened, epoch, int(peak[1]) / 1024)


def measured(cache: Path, dtype: str = "float32", window: int = 0, steps: int = 0) -> list[float]:
    command = [sys.executable, "-m", "tests.benchmarks.pairs", "--train", cache, dtype, window, steps]
    result = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return [float(value) for value in result.stdout.rpartition("measured")[2].split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--most", type=int, default=10_000_000, help="pairs of the larger cache")
    parser.add_argument(
        "--steps", type=int, default=10_000, help="steps of either narrow run (default: half of ten million pairs)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the caches are made, by default the system's temporary folder"
    )
    parser.add_argument("--train", nargs=4, metavar="X", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        cache, dtype, window, steps = arguments.train
        train(Path(cache), dtype, int(window), int(steps))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.wide:
            write(folder / "float32", 26_000, (512, 4096))
            write(folder / "float16", 26_000, (512, 4096), "float16")
            _, whole, most = measured(folder / "float32", window=2**31)
            rows = [("peak memory, all in one window", most, "MB", "", 1)]
            for dtype in ("float32", "float16"):
                _, epoch, peak = measured(folder / dtype, dtype)
                rows.append((f"speed of an epoch in windows, {dtype}, / of one in memory", whole / epoch, "x", ">= 0.8", 1))  # fmt: skip
                rows.append((f"peak memory in windows, {dtype}", peak, "MB", "", 1))
            record("26,000 wide pairs", rows)
            return
        peaks, rows = {}, []
        for pairs in (100_000, arguments.most):
            write(folder / str(pairs), pairs, (16, 32))
            opened, _, peaks[pairs] = measured(folder / str(pairs), steps=arguments.steps)
            rows += [(f"peak memory, {pairs} pairs", peaks[pairs], "MB", "", 1), (f"opening {pairs} pairs", opened, "s", "", 1)]  # fmt: skip
        rows.append((f"more for {arguments.most} pairs", peaks[arguments.most] - peaks[100_000], "MB", "<= 300", 1))
        record("narrow pairs", rows)


if __name__ == "__main__":
    main()
