"""The convnet that the describer sees with. It learned FER2013's labels, when the embedded model of 0.1 was made."""

from __future__ import annotations

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
