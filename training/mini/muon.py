"""Muon (Jordan et al., 2024): gradient steps whose singular values are all made nearly equal.

A transformer learns about as much in half the steps of AdamW. `torch.optim.Muon` computes in bf16, which a CPU without such
instructions emulates several times slower than float32; this one stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, Jordan's
ITERATIONS = 5


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (M, N) with its singular values moved close to one, by Newton and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if len(matrix) <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """For the matrices inside a transformer; steps are as large as AdamW's at the same learning rate (0.2 of it, root mean square)."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                mean = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
                mean.lerp_(gradient, 1 - group["momentum"])
                update = orthogonal(gradient.lerp(mean, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * group["lr"] * max(parameter.shape) ** 0.5)
