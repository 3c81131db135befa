"""Which process this is, of how many, and its device: what torchrun says in the environment, or the
only one.

Not accelerate's PartialState: it joins the processes in a group as soon as it is asked, while those
of the embedding pass need not know each other, and job arrays that set RANK and WORLD_SIZE alone
would each be number 0 of 1 and embed every face.
"""

from __future__ import annotations

import os

import torch


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_device() -> torch.device:
    """The accelerator this process should use, or the CPU. Under torchrun each process of a machine
    has its own."""
    if not torch.accelerator.is_available():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator().type
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if kind == "cuda" else torch.device(kind)
