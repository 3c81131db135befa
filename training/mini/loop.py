"""One training stage: AdamW (and Muon), one-cycle learning rate, bf16 where it is fast, progress, and a state file to resume from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from .muon import Muon


def fit(
    name: str,
    module: nn.Module,
    loss_of_step: Callable[[torch.Generator], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    state: Path,
    seed: int,
    hidden: Sequence[nn.Parameter] = (),
    save_every: int = 100,
    after_save: Callable[[], str] | None = None,
) -> None:
    """Trains ``module`` for ``steps``, or what is left of them when ``state`` exists.

    ``loss_of_step(generator)`` makes its own batch from a generator seeded by the step, so that a resumed stage sees
    the batches an uninterrupted one would have seen. ``hidden``, a transformer's inner matrices, learn by Muon at twice the
    rate, all else by AdamW. ``after_save`` may return a line to print.
    """
    inner = set(map(id, hidden))
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in inner]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))]
    if hidden:
        optimizers.append(Muon(hidden, lr=2 * learning_rate, weight_decay=weight_decay))
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer, optimizer.defaults["lr"], total_steps=steps, pct_start=0.15, cycle_momentum=False
        )
        for optimizer in optimizers
    ]
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)  # noqa: TID251, no pickles
        module.load_state_dict(saved["module"])
        for part, values in zip([*optimizers, *schedules], saved["optimizers"] + saved["schedules"], strict=True):
            part.load_state_dict(values)
        first = saved["step"]

    # Without these instructions bf16 is emulated, ten times slower than float32.
    fast_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    module.train()
    bar = tqdm(range(first, steps), desc=name, initial=first, total=steps, mininterval=5)
    mean = None
    for step in bar:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        torch.manual_seed(seed * 1_000_003 + step)  # for dropout
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_bf16):
            loss = loss_of_step(generator)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"stage {name}: loss is {loss.item()} at step {step}; lower its learning rate")
        module.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for part in [*optimizers, *schedules]:
            part.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            unfinished = state.with_suffix(".part")
            saved = {
                "module": module.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "schedules": [schedule.state_dict() for schedule in schedules],
                "step": step + 1,
            }
            torch.save(saved, unfinished)
            os.replace(unfinished, state)
            if after_save is not None:
                module.eval()
                tqdm.write(f"{name} step {step + 1}: {after_save()}")
                module.train()
    module.eval()
