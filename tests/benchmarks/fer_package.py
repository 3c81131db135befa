"""``python fer_package.py FOLDER``: what the package ``fer`` says of the crops in FOLDER (see toolkits.py), run by an interpreter that
has it, and imports nothing of ours."""

import json
import sys
from pathlib import Path

import numpy as np
from fer.fer import FER  # its __init__ also imports what edits videos


def main(folder: Path) -> None:
    recognise = FER(offsets=(0, 0))  # the crop as it is; by default a box of its own detector is widened by 10 pixels
    pixels = np.fromfile(folder / "crops.rgb", np.uint8)
    answers, start = [], 0
    for width, height in json.loads((folder / "sizes.json").read_text()):
        face = pixels[start : start + width * height * 3].reshape(height, width, 3)
        start += face.size
        (found,) = recognise.detect_emotions(face[..., ::-1].copy(), [(0, 0, width, height)])  # BGR
        answers.append(found["emotions"])
    (folder / "answers.json").write_text(json.dumps(answers))


main(Path(sys.argv[1]))
