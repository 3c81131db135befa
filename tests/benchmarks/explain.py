"""``python -m tests.benchmarks.explain --ferplus FILE [--london FILE]``: which method says best where in a face a label is seen.

Faces with votes come in (FER+, the first hundred of each of five labels), and each method's map of what speaks for the label, in patches
of the image tower; tables leave. Patches are taken away in the order of the map (deletion) or put into a face without any (insertion),
and what is not there is the mean colour or the blurred face: the mean of both. The area under the label's probability among the five
should be small for deletion, large for insertion. Then, on photos of the same people smiling and neutral (London Set): how much of the
map of "smiling" against "neutral" lies in the lower half of the face.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch as replaced

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.nn.functional import normalize
from tqdm import tqdm

from modeling_expclip import MINI, FaceAnalyzer, FaceDetector
from modeling_expclip.media import explain
from modeling_expclip.media.faces import crop_face
from modeling_expclip.media.label_sets import Words
from modeling_expclip.prompts import REFERENCES
from training.evaluation.bootstrap import middle

from .results import record

LABELS = ("happiness", "sadness", "anger", "surprise", "neutral")
EACH = 100
STEPS = 8
RESAMPLES = 1000
SHIPPED = "integrated gradients from the blurred face"
# By name: passes of the image tower a face; None where it takes one for each patch, and one more.
PASSES = {
    SHIPPED: explain.STEPS,
    "integrated gradients from its mean colour": explain.STEPS,
    "attention and its gradients (Chefer et al., 2021)": 1,
    "gradient times input, from the mean colour": 1,
    "Grad-CAM on the last layer's tokens": 1,
    "occlusion by patches": None,
    "at random": 0,
}


def mean_colour(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.mean((2, 3), keepdim=True).expand_as(pixels)


FILLS = (mean_colour, explain._blurred)


class Methods:
    """Maps (rows, columns) of one face (1, 3, height, width), of what speaks for a direction (D,)."""

    def __init__(self, model) -> None:
        self._model = model
        self.patch = model.config.vision_config.patch_size
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, name: str, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        if name == SHIPPED:
            return explain.relevance(self._model, pixels, direction[None])[0]
        if name.startswith("integrated"):
            with replaced.object(explain, "_blurred", mean_colour):
                return explain.relevance(self._model, pixels, direction[None])[0]
        rows, columns = (side // self.patch for side in pixels.shape[2:])
        if name == "at random":
            return torch.rand(rows, columns, generator=self._generator)
        if name.startswith("occlusion"):
            return self._occlusion(pixels, direction).view(rows, columns)
        if name.startswith("gradient times"):
            return self._gradient_times_input(pixels, direction, rows, columns)
        of_tokens = self._grad_cam if name.startswith("Grad-CAM") else self._attention
        return of_tokens(pixels, direction)[1:].view(rows, columns)  # without the class token

    def score(self, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return normalize(self._model.get_image_features(pixel_values=pixels).pooler_output, dim=-1) @ direction

    def mixed(self, pixels: torch.Tensor, fill: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The face where ``kept`` (N, patches) is 1, else the fill: (N, 3, height, width)."""
        height, width = pixels.shape[2:]
        mask = kept.view(len(kept), 1, height // self.patch, width // self.patch)
        mask = mask.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return fill + mask * (pixels - fill)

    @torch.no_grad()
    def _occlusion(self, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        count = pixels[0, 0].numel() // self.patch**2
        kept = torch.cat([torch.ones(1, count), 1 - torch.eye(count)])
        whole, *without = self.score(self.mixed(pixels, mean_colour(pixels), kept), direction)
        return whole - torch.stack(without)

    def _gradient_times_input(
        self, pixels: torch.Tensor, direction: torch.Tensor, rows: int, columns: int
    ) -> torch.Tensor:
        leaf = pixels.clone().requires_grad_()
        [slope] = torch.autograd.grad(self.score(leaf, direction).sum(), leaf)
        added = (slope * (pixels - mean_colour(pixels)))[0].sum(0)
        return added.unflatten(0, (rows, -1)).unflatten(2, (columns, -1)).sum((1, 3))

    def _attention(self, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """What the class token took from each token, layer by layer: positive attention times its gradient, mean over heads."""
        seen: list[torch.Tensor] = []
        layers = self._model.vision_model.encoder.layers
        hooks = [
            layer.self_attn.register_forward_hook(lambda _, __, output: seen.append(output[1])) for layer in layers
        ]
        score = self.score(pixels.clone().requires_grad_(), direction).sum()
        for hook in hooks:
            hook.remove()
        taken = torch.eye(seen[0].shape[-1])
        for weights, slope in zip(seen, torch.autograd.grad(score, seen)):
            taken = taken + (weights * slope)[0].detach().clamp(min=0).mean(0) @ taken
        return taken[0]

    def _grad_cam(self, pixels: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        norm = self._model.vision_model.encoder.layers[-1].layer_norm1
        hook = norm.register_forward_hook(lambda _, __, output: seen.append(output))
        score = self.score(pixels.clone().requires_grad_(), direction).sum()
        hook.remove()
        [slope] = torch.autograd.grad(score, seen)
        return seen[0][0].detach() @ slope[0, 1:].mean(0)


@torch.no_grad()
def areas(
    methods: Methods, pixels: torch.Tensor, heat: torch.Tensor, probability: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[float, float]:
    """Of deletion and of insertion, each the mean of both fills."""
    order = heat.flatten().argsort(descending=True, stable=True)
    counts = torch.linspace(0, len(order), STEPS + 1).round()
    first = (order.argsort() < counts[:, None]).float()  # (steps + 1, patches), the best of them
    found = []
    for fill in FILLS:
        seen = probability(methods.mixed(pixels, fill(pixels), torch.cat([1 - first, first[1:-1]])))
        deletion = seen[: STEPS + 1]
        insertion = torch.cat([deletion[-1:], seen[STEPS + 1 :], deletion[:1]])
        found.append([torch.trapezoid(curve, counts / len(order)).item() for curve in (deletion, insertion)])
    return tuple(np.mean(found, 0))


def ferplus(path: Path) -> list[tuple[Image.Image, int]]:
    """The first faces of each label that more than half of the taggers gave them."""
    table = pq.read_table(path, columns=["image", "votes"])
    votes = np.array(table["votes"].to_pylist())
    faces = []
    for place, label in enumerate(LABELS):
        said = np.flatnonzero(2 * votes[:, REFERENCES.index(label)] > votes.sum(1))[:EACH]
        faces += [(opened(table["image"][int(row)].as_py()), place) for row in said]
    return faces


def opened(image: dict) -> Image.Image:
    return Image.open(io.BytesIO(image["bytes"])).convert("RGB")


def interval(values: np.ndarray) -> str:
    """The mean of values (N,) and its 95 % interval, by bootstrap."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return "{:.3f} ({:.3f} to {:.3f})".format(values.mean(), *middle(values[drawn].mean(1)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.explain", description=__doc__)
    parser.add_argument("--model", default=MINI)
    parser.add_argument("--ferplus", type=Path, required=True, help="Parquet file with image and votes")
    parser.add_argument("--london", type=Path, help="Parquet file of photos, with image, label and person")
    parser.add_argument("--detector", default="auto", help="what finds the faces of --london")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = FaceAnalyzer(arguments.model, faces=False).pipeline
    pipeline.model.set_attn_implementation("eager")  # the others keep their weights to themselves
    methods = Methods(pipeline.model)
    subject = "expclip-mini" if arguments.model == MINI else Path(arguments.model).name
    rows = _faithfulness(pipeline, methods, ferplus(arguments.ferplus))
    if arguments.london is not None:
        rows += _smiles(pipeline, methods, arguments)
    record("explain", [(f"{subject}: {name}", value, unit, "", count) for name, value, unit, count in rows])


def _pixels(pipeline, image: Image.Image) -> torch.Tensor:
    return torch.as_tensor(np.asarray(pipeline.image_processor(images=image, return_tensors="np")["pixel_values"]))


def _faithfulness(pipeline, methods: Methods, faces: list[tuple[Image.Image, int]]) -> list[tuple]:
    prototypes = pipeline.class_prototypes(LABELS).clone()
    directions = explain.directions(pipeline, Words(LABELS)).clone()
    scale = pipeline.model.logit_scale.exp().detach()
    found = {name: [] for name in PASSES}  # (faces, 2)
    for image, label in tqdm(faces, desc="faces", disable=None):
        pixels = _pixels(pipeline, image)

        def probability(seen: torch.Tensor, label: int = label) -> torch.Tensor:
            return (scale * methods.score(seen, prototypes.T)).softmax(-1)[:, label]

        for name, kept in found.items():
            kept.append(areas(methods, pixels, methods(name, pixels, directions[label]), probability))
    count = int((pipeline.model.config.vision_config.image_size // methods.patch) ** 2)
    print(f"\n{len(faces)} faces, {count} patches\n")
    print("| map | passes | deletion | insertion | insertion less deletion | more than occlusion's |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    gains = {name: np.array(kept)[:, 1] - np.array(kept)[:, 0] for name, kept in found.items()}
    for name, kept in found.items():
        deletion, insertion = np.mean(kept, 0)
        passes = count + 1 if PASSES[name] is None else PASSES[name]
        more = "-" if PASSES[name] is None else interval(gains[name] - gains["occlusion by patches"])
        print(f"| {name} | {passes} | {deletion:.3f} | {insertion:.3f} | {interval(gains[name])} | {more} |")
    return [
        (f"{name}: insertion less deletion", gain.mean(), "area of probability", len(gain))
        for name, gain in gains.items()
    ]


def _smiles(pipeline, methods: Methods, arguments: argparse.Namespace) -> list[tuple]:
    table = pq.read_table(arguments.london, columns=["image", "label", "person"]).to_pylist()
    direction = explain.directions(pipeline, Words(("smiling", "neutral")))[0].clone()
    detector = FaceDetector(arguments.detector)
    shares: dict[str, dict[str, list]] = {name: {} for name in PASSES}  # by person: neutral, smiling
    for row in tqdm(table, desc="photos", disable=None):
        photo = opened(row["image"])
        for face in detector(photo)[:1]:
            pixels = _pixels(pipeline, crop_face(photo, face))
            for name, by_person in shares.items():
                heat = methods(name, pixels, direction).clamp(min=0)
                lower = (torch.arange(len(heat)) + 1 - len(heat) / 2).clamp(0, 1)  # of each row
                share = (lower[:, None] * heat).sum() / heat.sum()
                pair = by_person.setdefault(row["person"], [np.nan, np.nan])
                pair[row["label"] == REFERENCES.index("happiness")] = share.item()
    print("\nOf the map of “smiling”, the share in the lower half of the face\n")
    print("| map | smiling | neutral | more when smiling | people |\n| --- | ---: | ---: | ---: | ---: |")
    rows = []
    for name, by_person in shares.items():
        pairs = np.array([pair for pair in by_person.values() if np.isfinite(pair).all()])
        neutral, smiling = pairs.mean(0)
        print(f"| {name} | {smiling:.3f} | {neutral:.3f} | {interval(pairs[:, 1] - pairs[:, 0])} | {len(pairs)} |")
        if name == SHIPPED:
            rows.append((f"{name}: lower half, smiling less neutral", smiling - neutral, "share", len(pairs)))
    return rows


if __name__ == "__main__":
    main()
