"""A small run of the training commands: a random CLIP, a folder of faces in Parquet with vectors, a recipe."""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import Dataset, Features, Image, List, Value

from tests.conftest import picture
from training.support.command import run as run_command

REPOSITORY = Path(__file__).parents[2]


def write_faces(path: Path, count: int, broken: tuple[int, ...] = (), seed: int = 0, width: int = 12) -> Path:
    """Parquet with ids face-0 ..., captions, vectors and labels; the images of ``broken`` rows cannot be decoded."""
    generator = np.random.default_rng(seed)
    images, words = [], ("Happy", "angry", "fear", "Sad")
    for i in range(count):
        content = io.BytesIO()
        picture(1000 * seed + i, (24, 20)).save(content, "PNG")
        images.append({"bytes": content.getvalue()[: 40 if i in broken else None], "path": None})
    rows = {
        "id": [f"face-{i}" for i in range(count)],
        "image": images,
        "caption": [f"the corners of mouth {i} are raised" for i in range(count)],
        "embedding": generator.standard_normal((count, width)).astype(np.float32).tolist(),
        "label": [words[i % 4] for i in range(count)],
    }
    text = Value("string")
    features = {"id": text, "image": Image(), "caption": text, "embedding": List(Value("float32")), "label": text}
    Dataset.from_dict(rows, features=Features(features)).to_parquet(path)
    return path


@pytest.fixture
def recipe(tmp_path, clip_folder):
    """Writes a recipe: ``recipe(training={...}, teacher={...})``."""

    def write(name: str = "recipe.yaml", **sections) -> Path:
        content = {
            "clip": {"model": str(clip_folder), "preprocessing": "paper"},
            "teacher": {"kind": "vectors"},
            "faces": {"batch_size": 8},
            "training": {"max_steps": 20, "batch_size": 16, "log_steps": 5, "save_steps": 5, "evaluate_steps": 5},
        }
        for section, values in sections.items():
            content[section] = {**content.get(section, {}), **values}
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def run(module: str, *arguments, processes: int = 1) -> subprocess.CompletedProcess:
    """Runs a training command from the repository, under torchrun for several processes."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*start, f"training.{module}", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def call(module: str, *arguments, monkeypatch) -> int:
    """Calls a training command in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    try:
        run_command(f"training.{module}", importlib.import_module(f"training.{module}").main)
    except SystemExit as end:
        return end.code
    return 0


def content_of(path: Path) -> Any:
    """A file's bytes; of safetensors, which write their metadata in any order, the header and the rest."""
    whole = path.read_bytes()
    if path.suffix != ".safetensors":
        return whole
    end = 8 + int.from_bytes(whole[:8], "little")
    return json.loads(whole[8:end]), whole[end:]


def kill_ten_times(work: Callable, *arguments, fresh: Callable[[], tuple], seed: int = 0) -> None:
    """Runs ``work(*fresh())`` undisturbed to learn its time, then ``work(*arguments)`` again and again: ten runs are killed
    (SIGKILL) at random moments, the last may end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.preload"])

    def start(function: Callable, *given) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=function, args=given)
        process.start()
        return process

    start(time.sleep, 0).join()  # the server's own start is not part of the time
    began = time.monotonic()
    undisturbed = start(work, *fresh())
    undisturbed.join()
    assert undisturbed.exitcode == 0
    duration, luck, killed, ended = time.monotonic() - began, random.Random(seed), 0, 0
    while killed < 10:
        process = start(work, *arguments)
        process.join(luck.uniform(0.1, 0.35) * duration * 0.7**ended)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
        ended += process.exitcode == 0  # what is done already makes later runs shorter
    last = start(work, *arguments)
    last.join()
    assert last.exitcode == 0
