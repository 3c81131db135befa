"""``python -m training.mini.teacher``: trains the convnet that the image tower learns from, on the votes of FER+.

Faces and votes come in, maps of features (6 x 6) and the vote shares come out. A ViT learns slowly from 27,000 faces;
a convnet does not. A stopped training resumes from ``--work``. What it wrote in 1,900 steps lies beside this file, ``teacher.safetensors``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_expclip.media.storage import local_path

from ..support.command import run
from .captions import CATEGORIES, FACTORS
from .images import draw_factors, load_votes, views
from .loop import fit

CHANNELS = 192
MAPS = (384, CHANNELS, CHANNELS)  # channels; the first map is 12 x 12, and its squares of four are stacked
BATCH = 256
SEED = 0
STEPS = (1000, 900)  # of each cycle of the learning rate
PEAKS = (3e-3, 2e-3)  # of the learning rate, in each cycle


class Block(nn.Module):
    """Normalise, then two 3 x 3 convolutions, with a shortcut: a pre-activation residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)])
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.Identity() if same else nn.AvgPool2d(stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](x).relu()
        kept = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(self.pool(y))
        return kept + self.second(self.norms[1](self.first(y)).relu())


class TeacherNet(nn.Module):
    """Grey views (B, 1, 48, 48) -> what its last three blocks hand on, maps (B, C, 6, 6) with C of ``MAPS``; logits of the
    eight categories (B, 8) and of each factor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            Block(32, 48, 2), Block(48, 96, 2), Block(96, CHANNELS, 2), Block(CHANNELS, CHANNELS, 1)
        )
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.heads = nn.ModuleList(
            nn.Linear(CHANNELS, size) for size in (len(CATEGORIES), *(len(values) for values in FACTORS.values()))
        )

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        h = self.blocks[1](self.blocks[0](self.stem(x.contiguous(memory_format=torch.channels_last))))
        maps = [F.pixel_unshuffle(self.blocks[2].norms[0](h).relu(), 2)]
        h = self.blocks[2](h)
        maps.append(self.blocks[3].norms[0](h).relu())
        maps.append(self.norm(self.blocks[3](h)).relu())
        pooled = F.dropout(maps[-1].mean((2, 3)), 0.2, self.training)
        return maps, [head(pooled) for head in self.heads]


def sampling_weights(shares: torch.Tensor, certainty: torch.Tensor) -> torch.Tensor:
    """How often each face is drawn (N,): rarer votes more often, by the square root of their rarity; faces that taggers
    could not read, less. ``shares`` (N, 8) sum to one; ``certainty`` (N,) is the part of the taggers who chose one of the eight."""
    return certainty * (shares * shares.mean(0).clamp(min=1e-3).rsqrt()).sum(1)


def vote_loss(
    teacher: TeacherNet, batch: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> Callable[[torch.Generator], torch.Tensor]:
    """Cross-entropy to the vote shares, and a little of each factor.

    ``batch`` gives views (B, 1, 48, 48), vote shares (B, 8) and factors (B, len(FACTORS)).
    """

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, shares, factors = batch(generator)
        _, logits = teacher(x)
        votes = F.cross_entropy(logits[0].float(), shares)
        told = sum(F.cross_entropy(logits[i + 1].float(), factors[:, i]) for i in range(factors.shape[1]))
        return votes + 0.1 * told

    return loss


def train(data: Path, work: Path, steps: Sequence[int]) -> TeacherNet:
    """Trains on the Parquet file ``data`` (``images.load_votes``), or goes on with what ``work`` holds. ``steps`` are those of each cycle."""
    pixels, shares, certainty = load_votes(data)
    weights = sampling_weights(shares, certainty)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        factors = draw_factors(torch.full((BATCH, len(FACTORS)), -1), generator)
        return views(pixels[rows], factors, generator), shares[rows], factors

    torch.manual_seed(SEED)
    teacher = TeacherNet().to(memory_format=torch.channels_last)
    for cycle, (count, peak) in enumerate(zip(steps, PEAKS, strict=True)):
        fit(
            f"teacher, cycle {cycle + 1}",
            teacher,
            vote_loss(teacher, batch),
            steps=count,
            learning_rate=peak,
            weight_decay=0.05,
            state=work / f"teacher_{cycle + 1}.pt",
            seed=SEED + cycle,
        )
    return teacher


def save_teacher(teacher: TeacherNet, path: Path) -> None:
    """Matrices in half precision."""
    state = {name: value.half() if value.ndim > 1 else value for name, value in teacher.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def load_teacher(path: Path) -> TeacherNet:
    teacher = TeacherNet()
    teacher.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return teacher.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.mini.teacher", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="FER+'s training part: Parquet with image and votes")
    parser.add_argument("--work", type=local_path, required=True, help="folder for the state of a stopped training")
    parser.add_argument("--output", type=local_path, required=True, help="safetensors file to write")
    parser.add_argument("--steps", type=int, nargs=len(STEPS), default=STEPS, help="of each cycle of the learning rate")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    save_teacher(train(arguments.data, arguments.work, arguments.steps), arguments.output)


if __name__ == "__main__":
    run("training.mini.teacher", main)
