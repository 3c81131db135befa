"""One training stage: AdamW, one-cycle learning rate, bf16 where it is fast, progress, and a state file to resume from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm


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
    save_every: int = 100,
    after_save: Callable[[], str] | None = None,
) -> None:
    """Trains ``module`` for ``steps``, or what is left of them when ``state`` exists.

    ``loss_of_step(generator)`` makes its own batch from a generator seeded by the step, so that a resumed stage sees
    the batches an uninterrupted one would have seen. ``after_save`` may return a line to print.
    """
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)  # noqa: TID251, no pickles
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
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
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            part = state.with_suffix(".part")
            saved = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved | {"schedule": schedule.state_dict(), "step": step + 1}, part)
            os.replace(part, state)
            if after_save is not None:
                module.eval()
                tqdm.write(f"{name} step {step + 1}: {after_save()}")
                module.train()
    module.eval()
