"""``python -m training.mini.score``: zero-shot accuracy of a checkpoint on labelled faces, by prompt set and on unseen words.

Prints Markdown tables. The seven classes of the paper's static benchmarks are the candidates; faces with another label
(contempt) are left out. UAR is the mean recall of the classes with at least 30 faces.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from PIL.Image import Image
from tqdm import tqdm

from modeling_expclip import LABEL_SETS, MINI, PROMPT_SETS, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint

from ..evaluation import zero_shot
from ..support.command import run
from .images import load_labels, pictures

CLASSES = LABEL_SETS["rafdb"]
ENOUGH_FACES = 30
# A word for each class that no caption of the mini's training contains, in the order of CLASSES (see captions.py).
UNSEEN = ("joyful", "sorrowful", "expressionless", "furious", "astonished", "revolted", "scared")


@torch.inference_mode()
def embed(pipeline: FacialExpressionPipeline, faces: Iterable[Image], name: str) -> torch.Tensor:
    """Normalised embeddings (N, D) of images. ``name`` stands before the progress."""
    faces, parts = iter(tqdm(faces, desc=name)), []
    while images := list(islice(faces, 256)):
        pixels = pipeline.image_processor(images=images, return_tensors="pt")["pixel_values"]
        parts.append(pipeline.model.get_image_features(pixels).pooler_output)
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def war_uar(guess: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Accuracy and mean recall over the classes with enough faces, in percent, of the faces that have one of CLASSES."""
    known = truth < len(CLASSES)
    return zero_shot.war_uar(guess[known], truth[known], ENOUGH_FACES)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.mini.score", description=__doc__)
    parser.add_argument("--model", default=MINI)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Parquet files with image and label")
    arguments = parser.parse_args()
    model, processor = load_checkpoint(arguments.model)
    pipeline = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    embedded = {
        path.parent.name: (embed(pipeline, pictures(path), path.parent.name), labels)
        for path, labels in [(path, load_labels(path)) for path in arguments.data]
    }

    print("| candidates | prompts |" + "".join(f" {name} WAR | UAR |" for name in embedded))
    print("| --- | --- |" + " ---: | ---: |" * len(embedded))
    rows = [("the seven class names", CLASSES, prompts) for prompts in PROMPT_SETS]
    rows += [
        ("unseen: " + ", ".join(UNSEEN), UNSEEN, prompts) for prompts in ("class_name", "expression", "ensemble10")
    ]
    for title, labels, prompts in rows:
        prototypes = pipeline.class_prototypes(labels, prompts)
        cells = [war_uar((embeds @ prototypes.T).argmax(1), truth) for embeds, truth in embedded.values()]
        print(f"| {title} | {prompts} |" + "".join(f" {war:.1f} | {uar:.1f} |" for war, uar in cells))

    print("\n| recall of (ensemble10) | " + " | ".join(CLASSES) + " |\n| --- |" + " ---: |" * len(CLASSES))
    prototypes = pipeline.class_prototypes(CLASSES, "ensemble10")
    for name, (embeds, truth) in embedded.items():
        hits = (embeds @ prototypes.T).argmax(1) == truth
        recalls = [100 * hits[truth == c].float().mean().item() for c in range(len(CLASSES))]
        print(f"| {name} | " + " | ".join(f"{recall:.1f}" for recall in recalls) + " |")

    smile = pipeline.class_prototypes(("smiling", "frowning"), ["a {} person"])
    for name, (embeds, truth) in embedded.items():
        happy, cross = truth == CLASSES.index("happiness"), truth == CLASSES.index("anger")
        right = (embeds @ smile.T).argmax(1)
        recalls = [(right[happy] == 0).float().mean().item(), (right[cross] == 1).float().mean().item()]
        print(
            f"\n{name}: {100 * recalls[0]:.1f} % of happy faces are smiling, {100 * recalls[1]:.1f} % of angry ones frowning"
        )


if __name__ == "__main__":
    run("training.mini.score", main)
