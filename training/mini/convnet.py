"""The convnet that the image tower learns from: it sees FER2013's labels, and its 6 x 6 map is what ViT tokens imitate.

A ViT learns slowly from 27,000 faces; a convnet does not. It never leaves the training run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .captions import EXPRESSIONS, FACTORS

CHANNELS = 192


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut, halving the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.norms[0](self.first(x)).relu())
        return (self.norms[1](y) + self.shortcut(F.avg_pool2d(x, 2))).relu()


class ConvNet(nn.Module):
    """(B, 1, 48, 48) -> a map (B, 192, 6, 6), and logits for the expression and each factor of a view."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(Block(32, 64), Block(64, 128), Block(128, CHANNELS))
        sizes = [len(EXPRESSIONS), *(len(values) for values in FACTORS.values())]
        self.heads = nn.ModuleList(nn.Linear(CHANNELS, size) for size in sizes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        feature_map = self.blocks(self.stem(x.contiguous(memory_format=torch.channels_last)))  # (B, 192, 6, 6)
        pooled = F.dropout(feature_map.mean((2, 3)), 0.2, self.training)
        return feature_map, [head(pooled) for head in self.heads]


def classification_loss(
    convnet: ConvNet, batch: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]]
) -> Callable[[torch.Generator], torch.Tensor]:
    """Cross-entropy of the expression, and a little of each factor. ``batch`` gives views and truth (B, 1 + factors)."""

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, truth = batch(generator)
        _, logits = convnet(x)
        expression = F.cross_entropy(logits[0].float(), truth[:, 0], label_smoothing=0.05)
        factors = sum(F.cross_entropy(logits[i].float(), truth[:, i]) for i in range(1, truth.shape[1]))
        return expression + 0.1 * factors

    return loss
