"""Faces for the mini: a Parquet file becomes grey 48 x 48 pixels, and a batch of them a batch of views.

A view shows its face the way its factors say (dark, tilted to the left, out of focus ...), so that a caption about
them is true of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset

from modeling_expclip.media.images import open_image
from modeling_expclip.media.parquet import image_rows
from modeling_expclip.prompts import LABEL_SETS, canonical_label

from .captions import FACTORS

SIZE = 48
MEAN, STD = 0.5, 0.25  # of grey pixels in 0..1; stored in the checkpoint's image processor

# For each value of a factor, the range its strength is drawn from.
BRIGHTNESS = torch.tensor([[0.85, 1.15], [0.45, 0.70], [1.30, 1.65]])
DEGREES = torch.tensor([[-8.0, 8.0], [-24.0, -12.0], [12.0, 24.0]])
SCALE = torch.tensor([[0.92, 1.16], [1.18, 1.42], [0.68, 0.90]])  # detectors cut faces tight or wide
COARSE = (16, 36)  # pixels across a face that was small in its photo


def load_faces(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads a Parquet file with an ``image`` column, and a ClassLabel ``label`` column or ``votes``, of which the most count.

    Returns pixels (N, 48, 48) uint8 and labels (N,) int64, indices into the paper's list of classes.
    """
    if "votes" in Dataset.from_parquet(str(path)).column_names:
        pixels, shares, _ = load_votes(path)
        return pixels, shares.argmax(1)
    return _grey(path), load_labels(path)


def load_votes(path: str | Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reads a Parquet file with an ``image`` column and FER+'s ten ``votes``: eight categories, unknown, not a face.

    Returns pixels (N, 48, 48) uint8, vote shares of the eight (N, 8) float32 and the part of the taggers who chose one of
    the eight (N,) float32. Faces that nobody could read are left out.
    """
    pixels, votes = _grey(path), np.array(Dataset.from_parquet(str(path))["votes"], dtype=np.float32)
    choices = votes.shape[1] if votes.ndim == 2 else 1
    if choices != 10:
        raise ValueError(
            f"{path}: votes for ten choices are needed, not {choices}: FER+ has eight categories, unknown and not a face"
        )
    votes = torch.from_numpy(votes)
    if not (votes.isfinite().all() and (votes >= 0).all()):
        raise ValueError(f"{path}: votes are numbers of people, and some are below 0 or no numbers")
    told = votes[:, :8].sum(1)
    read = told > 0
    return pixels[read], votes[read, :8] / told[read, None], told[read] / votes[read].sum(1)


def pictures(path: str | Path) -> Iterator[PIL.Image.Image]:
    """The RGB images of a Parquet file, upright. Only what stands in the file is read: raises ValueError for a row with a path alone."""
    for number, content in image_rows(path):
        if isinstance(content, str):
            raise ValueError(f"{path}, row {number}: {content}")
        yield open_image(content)


def load_labels(path: str | Path) -> torch.Tensor:
    """The ClassLabel column ``label`` of a Parquet file (N,) int64, as indices into the paper's list of classes."""
    faces = Dataset.from_parquet(str(path))
    kind = faces.features.get("label")
    if not isinstance(kind, ClassLabel):
        raise ValueError(f"{path}: a column 'label' of the type ClassLabel is needed, and it is {kind}")
    classes = [LABEL_SETS["mafw"].index(canonical_label(name)) for name in kind.names]
    labels = np.array([-1 if label is None else label for label in faces["label"]])
    if len(unlabelled := np.flatnonzero(labels < 0)):  # the Hub's mark of a test part
        raise ValueError(f"{path}, row {unlabelled[0]}: it has no label; leave such faces out")
    return torch.tensor(classes)[labels]


def _grey(path: str | Path) -> torch.Tensor:
    small = [np.asarray(image.convert("L").resize((SIZE, SIZE), resample=2)) for image in pictures(path)]
    return torch.from_numpy(np.stack(small))


def draw_factors(mentioned: torch.Tensor, generator: torch.Generator, ordinary_share: float = 0.85) -> torch.Tensor:
    """Completes ``mentioned`` (B, factors), where negative means free, to what each view will look like (B, factors)."""
    factors = mentioned.clone()
    for column, values in enumerate(FACTORS.values()):
        drawn = torch.randint(1, len(values), (len(factors),), generator=generator)
        ordinary = torch.rand(len(factors), generator=generator) < ordinary_share
        free = factors[:, column] < 0
        factors[free, column] = torch.where(ordinary, 0, drawn)[free]
    return factors


def views(pixels: torch.Tensor, factors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """pixels (B, 48, 48) uint8, factors (B, len(FACTORS)) -> normalised grey views (B, 1, 48, 48) float32."""
    light, tilt, zoom, focus, grain = factors.unbind(1)
    count = len(pixels)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    x = pixels[:, None].float() / 255
    angle = uniform(*DEGREES[tilt].T) * (math.pi / 180)
    scale = uniform(*SCALE[zoom].T)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    shift = uniform(-0.1, 0.1, 2)
    # Mirroring acts on the source's x axis, so that the direction of the tilt stays what the factor says.
    theta = torch.stack(
        [torch.stack([flip * cos, flip * sin, shift[:, 0]], 1), torch.stack([-sin, cos, shift[:, 1]], 1)], 1
    )
    x = F.grid_sample(
        x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False, padding_mode="reflection"
    )

    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    kernel = (kernel[:, None] * kernel / 256)[None, None]
    soft = F.conv2d(F.pad(x, (2,) * 4, mode="reflect"), kernel)
    side = int(torch.randint(*COARSE, (1,), generator=generator))
    coarse = F.interpolate(
        F.interpolate(x, (side, side), mode="bilinear", antialias=True), (SIZE, SIZE), mode="bicubic"
    )
    blurred = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, soft, coarse.clamp(0, 1))
    x = torch.where((focus == 1)[:, None, None, None], blurred, x)
    x = x.clamp(0, 1) ** uniform(0.75, 1.35, 1, 1, 1)  # cameras and screens differ in gamma

    contrast = uniform(0.75, 1.25, 1, 1, 1)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = (middle + (x - middle) * contrast) * uniform(*BRIGHTNESS[light].T)[:, None, None, None]
    strength = torch.where(grain == 1, uniform(0.03, 0.07), uniform(0.0, 0.02))[:, None, None, None]
    x = x + strength * torch.randn(x.shape, generator=generator)
    x = (x.clamp(0, 1) - MEAN) / STD

    # Hide a random rectangle of a third of the views: a face half covered still has an expression.
    rows, columns = torch.arange(SIZE)[None, :, None], torch.arange(SIZE)[None, None, :]
    top, left = uniform(0, SIZE, 1, 1), uniform(0, SIZE, 1, 1)
    height, width = uniform(6, 20, 1, 1), uniform(6, 20, 1, 1)
    hidden = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    hidden &= torch.rand(count, 1, 1, generator=generator) < 0.33
    return x.masked_fill(hidden[:, None], 0.0)


def plain_views(pixels: torch.Tensor) -> torch.Tensor:
    """pixels (B, 48, 48) uint8 -> what the processor makes of them (B, 1, 48, 48) float32."""
    return (pixels[:, None].float() / 255 - MEAN) / STD
