"""``python -m tests.benchmarks.face_margin --data PARQUET``: how much around a detected face should the model see?

Labelled pictures, wider than the faces in them, come in; YuNet finds the largest face of each, and it is cut out with several
margins, as a square or as the box stands, with and without levelled eyes. A table of the mini's WAR and UAR leaves, averaged
over the prompt sets.
"""

from __future__ import annotations

import argparse
import io

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI, PROMPT_SETS, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.faces import crop_face

LABELS = LABEL_SETS["rafdb"]


def box_as_it_stands(image: Image.Image, face, margin: float) -> Image.Image:
    x0, y0, x1, y1 = face.box
    dx, dy = margin * (x1 - x0), margin * (y1 - y0)
    return image.crop((max(0, x0 - dx), max(0, y0 - dy), min(image.width, x1 + dx), min(image.height, y1 + dy)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="Parquet with the columns image and label (rafdb's order)")
    arguments = parser.parse_args()
    table = pq.read_table(arguments.data, columns=["image", "label"]).to_pylist()
    detect = FaceDetector()
    found = []
    for row in table:
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        faces = detect(image)
        if faces and row["label"] < len(LABELS):
            found.append((image, faces[0], row["label"]))
    print(f"a face in {len(found)} of {len(table)} pictures")
    truth = np.array([label for _, _, label in found])
    model, processor = load_checkpoint(MINI)
    pipeline = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    prototypes = torch.stack([pipeline.class_prototypes(LABELS, name) for name in PROMPT_SETS])  # (sets, labels, D)

    def scores(crops: list[Image.Image]) -> tuple[float, float]:
        embeds = []
        for start in range(0, len(crops), 64):
            pixels = pipeline.image_processor(crops[start : start + 64], return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                embeds.append(model.get_image_features(pixels).pooler_output)
        guesses = (torch.nn.functional.normalize(torch.cat(embeds), dim=-1) @ prototypes.mT).argmax(-1).numpy()
        hits = guesses == truth  # (sets, pictures)
        recalls = [hits[:, truth == label].mean() for label in range(len(LABELS)) if (truth == label).sum() >= 30]
        return 100 * hits.mean(), 100 * float(np.mean(recalls))

    ways = {"the picture as it came": [scores([image for image, _, _ in found])]}
    for margin in (-0.1, 0.0, 0.1, 0.2, 0.3, 0.4):
        ways[f"box {margin:+.1f}"] = [scores([box_as_it_stands(i, f, margin) for i, f, _ in found])]
        if margin >= 0:
            ways[f"square {margin:+.1f}"] = [scores([crop_face(i, f, margin) for i, f, _ in found])]
            ways[f"square, aligned {margin:+.1f}"] = [
                scores([crop_face(i, f, margin, align=True) for i, f, _ in found])
            ]
    for name, [(war, uar)] in ways.items():
        print(f"{name:28} WAR {war:5.1f}  UAR {uar:5.1f}")


if __name__ == "__main__":
    main()
