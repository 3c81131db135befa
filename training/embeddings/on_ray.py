"""The embedding pass as tasks of a Ray cluster, each a process of those that share the shards out, as under torchrun."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from modeling_expclip.system.cluster import connected

from ..recipe import Recipe
from .fill import embed, report, sets_of


def embed_on_ray(recipe: Recipe, processes: int | None, output: Path, **options: Any) -> None:
    """``embed`` in ``processes`` tasks, each with a GPU where the cluster has any, else a processor;
    by default as many as there are. Recipe, data and cache must be there for all of them.

    Raises what ``embed`` does, ImportError without Ray, OSError where the cluster cannot be
    reached.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"--processes is {processes}; it must be at least 1")
    with connected() as ray:
        have = ray.cluster_resources()
        gpus = 1 if have.get("GPU", 0) >= 1 else 0
        processes = processes or int(have["GPU" if gpus else "CPU"])
        print(f"{processes} processes on Ray share the shards out; they appear in {output}")
        task = ray.remote(num_cpus=1, num_gpus=gpus)(_process)
        tasks = [
            task.remote(rank, processes, os.getcwd(), recipe, output=output, **options) for rank in range(processes)
        ]
        shards = max(ray.get(tasks))
    report(output, sets_of(recipe, output), shards)


def _process(rank: int, processes: int, cwd: str, recipe: Recipe, **options: Any) -> int:
    with suppress(OSError):  # relative paths are those of the command
        os.chdir(cwd)
    # A task sees its own GPU only, as number 0.
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK="0")
    torch.set_num_threads(1)  # its share of the processors, whatever OMP_NUM_THREADS of who started Ray says
    return embed(recipe, **options)
