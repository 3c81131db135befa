"""``python -m training.mini.examples``: the average face of each expression, pictures that are ours to ship.

An average of a hundred faces and more shows an expression and nobody's identity.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageFilter

from modeling_expclip.media.storage import local_path

from .captions import EXPRESSIONS
from .images import load_votes

SIDE = 192
EXAGGERATION = 1.2
ENOUGH = 100  # faces
# Of the taggers: the largest share that leaves enough faces is taken, for disgust, the rarest, 0.3.
AGREED = (0.7, 0.6, 0.5, 0.4, 0.3)


def average_face(pixels: torch.Tensor, shares: torch.Tensor, everyone: torch.Tensor) -> Image.Image:
    """The mean of pixels (N, 48, 48) uint8, weighted by shares (N,), and of its mirror image, as a picture of SIDE x SIDE.

    What sets it apart from ``everyone``, the mean face (48, 48), is exaggerated, and the blur of averaging undone a little:
    otherwise all averages look alike.
    """
    mean = torch.einsum("n, nhw -> hw", shares / shares.sum(), pixels.float())
    mean = mean + EXAGGERATION * (mean - everyone)
    mean = (mean + mean.flip(1)) / 2
    low, high = mean.quantile(0.005), mean.quantile(0.995)
    grey = ((mean - low) / (high - low) * 235 + 10).clamp(0, 255).byte().numpy()
    face = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return face.filter(ImageFilter.UnsharpMask(radius=8, percent=80))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.mini.examples", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="FER+'s training part: Parquet with image and votes")
    parser.add_argument("--output", type=local_path, required=True, help="folder for one PNG an expression")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    pixels, votes, _ = load_votes(arguments.data)
    everyone = pixels.float().mean(0)
    for index, expression in enumerate(EXPRESSIONS):
        shares = votes[:, index]
        clear = shares > next(agreed for agreed in AGREED if (shares > agreed).sum() >= ENOUGH)
        average_face(pixels[clear], shares[clear], everyone).save(arguments.output / f"average-{expression}.png")


if __name__ == "__main__":
    main()
