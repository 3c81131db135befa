"""``python -m tests.benchmarks.detectors --data PARQUET``: what do YuNet and MTCNN find, and what do they take for a face?

Pictures of single faces come in. Some are pasted, in several sizes, on photos of coloured noise and shapes, in colour and in grey; others
are looked at as they came. For each detector leaves the share of faces found in each size, the boxes that are no face in
100 photos, and the milliseconds a photo.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import time

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from modeling_expclip.media.detectors import DEFAULT_THRESHOLD, FaceDetector
from modeling_expclip.media.tracking import overlap

SIDES = (24, 36, 48, 72, 120, 240, 480)  # of a pasted picture, in pixels; its face takes some two thirds of it
PHOTO = (1600, 900)
_SAME = 0.2  # of a box and a pasted picture, which is wider than the face in it


def background(seed: int) -> Image.Image:
    """A photo without a face: noise of all sizes, and ellipses and rectangles, some of them in pairs as eyes are."""
    dice, noise = random.Random(seed), np.random.default_rng(seed)
    layers = np.zeros((PHOTO[1], PHOTO[0], 3), np.float32)
    for side in (4, 16, 64, 256):
        grain = noise.integers(0, 256, (max(1, PHOTO[1] * side // 1600), side, 3), dtype=np.uint8)
        layers += np.asarray(Image.fromarray(grain).resize(PHOTO, Image.Resampling.BICUBIC), np.float32) / 4
    photo = Image.fromarray(layers.astype(np.uint8))
    draw = ImageDraw.Draw(photo)
    for _ in range(30):
        x, y, side = dice.randrange(PHOTO[0]), dice.randrange(PHOTO[1]), dice.randrange(10, 200)
        colour = tuple(dice.randrange(256) for _ in range(3))
        shape = dice.choice((draw.ellipse, draw.rectangle))
        for step in (0, 2 * side) if dice.random() < 0.5 else (0,):
            shape((x + step, y, x + step + side, y + dice.randrange(side // 2, 2 * side)), fill=colour)
    return photo


def pasted(faces: list[Image.Image], seed: int) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """A photo with one face of each size, side by side, and where they are."""
    photo, places, x = background(seed), [], 40
    dice = random.Random(seed)
    for face, side in zip(faces, SIDES):
        y = dice.randrange(PHOTO[1] - side)
        photo.paste(face.resize((side, side), Image.Resampling.BICUBIC), (x, y))
        places.append((x, y, x + side, y + side))
        x += side + 60
    return photo, places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="Parquet with a column image, each of one face")
    parser.add_argument("--photos", type=int, default=100, help="half of them in grey (default: 100)")
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD)
    arguments = parser.parse_args()
    rows = pq.read_table(arguments.data, columns=["image"]).column("image").to_pylist()
    wanted = len(SIDES) * arguments.photos
    faces = [
        Image.open(io.BytesIO(row["bytes"])).convert("RGB")
        for row in random.Random(0).sample(rows, min(wanted, len(rows)))
    ]
    for name in ("yunet", "mtcnn"):
        detect, dice = FaceDetector(name, arguments.threshold), random.Random(1)
        found, false, seconds = dict.fromkeys(SIDES, 0), 0, []
        for number in range(arguments.photos):
            photo, places = pasted(dice.sample(faces, len(SIDES)), number)
            if number % 2:
                photo = photo.convert("L").convert("RGB")
            began = time.perf_counter()
            boxes = [face.box for face in detect(photo)]
            seconds.append(time.perf_counter() - began)
            for side, place in zip(SIDES, places):
                found[side] += any(overlap(box, place) > _SAME for box in boxes)
            false += sum(all(overlap(box, place) <= _SAME for place in places) for box in boxes)
        alone = [len(detect(face)) for face in faces[:200]]
        shares = ", ".join(f"{side} px {count / arguments.photos:.0%}" for side, count in found.items())
        print(f"{name}: found of {arguments.photos} faces each: {shares}")
        print(
            f"  {100 * false / arguments.photos:.0f} boxes in 100 photos are no face; {1000 * statistics.median(seconds):.0f} ms a photo; "
            f"of {len(alone)} pictures as they came {sum(map(bool, alone)) / len(alone):.0%} have a face, {sum(n > 1 for n in alone)} several"
        )


if __name__ == "__main__":
    main()
