"""``python fer_package.py FOLDER``: what the package ``fer`` says of the crops in FOLDER (see toolkits.py), run by an interpreter that
has it, and imports nothing of ours."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from fer.fer import FER

TOGETHER = 64


def main(folder: Path) -> None:
    recognise = FER(offsets=(0, 0))  # the crop as it is; by default a box of its own detector is widened by 10 pixels
    pixels = np.fromfile(folder / "crops.rgb", np.uint8)
    answers, start = [], 0
    for (width, height), same in itertools.groupby(map(tuple, json.loads((folder / "sizes.json").read_text()))):
        left = len(list(same))
        while left:
            # Crops one below the other, as the faces of one photo, save a call each. What is no square it widens to one beyond the crop.
            count = min(left, TOGETHER) if width == height else 1
            end = start + count * width * height * 3
            photo = pixels[start:end].reshape(count * height, width, 3)
            boxes = [(0, i * height, width, height) for i in range(count)]
            found = recognise.detect_emotions(photo[..., ::-1].copy(), boxes)  # BGR
            answers += [face["emotions"] for face in found]
            left, start = left - count, end
    (folder / "answers.json").write_text(json.dumps(answers))


main(Path(sys.argv[1]))
