"""``python -m tests.benchmarks.crops PARQUET...``: does ``crops_warning`` tell face crops from photos?

Parquet files with a column image come in; for each leaves the largest face's share of an image (1st percentile, median, 99th), the images taken for
no crops, and how many of 200 random draws of eight are warned of.
"""

from __future__ import annotations

import argparse
import random

import numpy as np
import pyarrow.parquet as pq

from modeling_expclip.media import crop_check as crops
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.images import open_image

DRAWS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="Parquet with a column image")
    detector = FaceDetector(threshold=crops._THRESHOLD, resolution=crops._RESOLUTION)
    for path in parser.parse_args().data:
        images = pq.read_table(path, columns=["image"]).column("image").to_pylist()
        images = [open_image(image["bytes"]) for image in random.Random(0).sample(images, min(1000, len(images)))]
        shares = []
        for image in images:
            boxes = [face.box for face in detector(image)]
            area = max(((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes), default=0)
            shares.append(area / (image.width * image.height))
        others = np.asarray(shares) < crops._FILLS
        draw = random.Random(1)
        warned = sum(sum(draw.sample(list(others), 8)) >= crops._SEVERAL for _ in range(DRAWS))
        low, middle, high = np.percentile(shares, [1, 50, 99])
        print(
            f"{path}: a face fills {low:.3f} / {middle:.3f} / {high:.3f}; {others.sum()} of {len(images)} are taken for no crops; "
            f"{warned} of {DRAWS} draws of eight are warned of"
        )


if __name__ == "__main__":
    main()
