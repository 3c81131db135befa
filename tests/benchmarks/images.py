"""``python -m tests.benchmarks.images``: image after image, and towers in batches, against stock transformers in float32.

Ratios of medians in one run, taken in turns, of a CLIP of ViT-B/32's shape with random weights and of the mini. ONNX
in int8 is measured on the mini alone: quantising ViT-B/32 for it takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor, pipeline

from modeling_expclip import LABEL_SETS, FaceAnalyzer
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.media.images import open_image
from modeling_expclip.prompts import build_prompts
from tests.benchmarks.results import record
from tests.benchmarks.subjects import EXPORTS, jpeg, medians, subjects

LABELS = LABEL_SETS["rafdb"]
TARGETS = {"ensemble10": (">= 8", ">= 20"), "expression": (">= 1.5", ">= 4")}
TOWERS = {"openvino bf16": ">= 2.5", "openvino int8": ">= 4"}


def ours(folder: Path, **options) -> FaceAnalyzer:
    return FaceAnalyzer(folder, faces=False, **options)


def one_after_another(name: str, folders: dict[str, Path], images: int, repeats: int) -> None:
    pictures = [open_image(jpeg(i)) for i in range(images)]
    clip = CLIPModel.from_pretrained(folders["merged"])
    processor = CLIPProcessor.from_pretrained(folders["merged"])
    stock = pipeline(
        "zero-shot-image-classification",
        model=clip,
        tokenizer=processor.tokenizer,
        image_processor=processor.image_processor,
    )
    analyzers = {"torch fp32": ours(folders["merged"]), "torch bf16": ours(folders["merged"], precision="bf16")}
    analyzers |= {what: ours(folder) for what, folder in folders.items() if what.split()[0] in ("openvino", "onnx")}
    for prompts, (in_fp32, fastest) in TARGETS.items():
        texts = list(itertools.chain.from_iterable(build_prompts(LABELS, prompts)))
        ways = {
            "stock": lambda texts=texts: [stock(p, candidate_labels=texts, hypothesis_template="{}") for p in pictures]
        }
        for what, analyzer in analyzers.items():
            ways[what] = lambda analyzer=analyzer, prompts=prompts: [
                analyzer.photo(p, prompts=prompts) for p in pictures
            ]
        times = medians(ways, repeats)
        rows = []
        best = min((what for what in times if what != "stock"), key=times.get)
        for what in times:
            if what != "stock":
                target = in_fp32 if what == "torch fp32" else fastest if what == best else ""
                target = target if name == "vit-b32" else ""
                rows.append((f"stock pipeline / {what}", times["stock"] / times[what], "x", target, repeats))
        record(f"{name}, one image after another, 7 labels, {prompts} ({len(texts)} prompts)", rows)


def towers(name: str, folders: dict[str, Path], repeats: int) -> None:
    pixels = torch.rand(16, 3, *2 * (load_checkpoint(folders["merged"])[0].config.vision_config.image_size,))
    analyzers = {"torch fp32": ours(folders["merged"]), "torch bf16": ours(folders["merged"], precision="bf16")}
    analyzers |= {what: ours(folder) for what, folder in folders.items() if what.split()[0] in ("openvino", "onnx")}
    ways = {what: lambda analyzer=analyzer: analyzer._run_tower(pixels) for what, analyzer in analyzers.items()}
    times = medians(ways, 4 * repeats)
    targets = TOWERS if name == "vit-b32" else {}
    rows = [
        (f"torch fp32 / {what}", times["torch fp32"] / times[what], "x", targets.get(what, ""), 4 * repeats)
        for what in times
        if what != "torch fp32"
    ]
    record(f"{name}, image tower, batch 16", rows)


def merged(name: str, folders: dict[str, Path], repeats: int) -> None:
    """The merged model against a CLIP that never was anything else, both through the stock class."""
    model = CLIPModel.from_pretrained(folders["merged"]).eval()
    plain = CLIPModel(model.config).eval()
    exp_clip, _ = load_checkpoint(folders["exp-clip"])
    size = model.config.vision_config.image_size
    ids = torch.full((7, 10), 5)
    ids[:, -1] = model.config.text_config.eos_token_id
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.rand(4, 3, size, size)}

    def way(model: CLIPModel):
        with torch.inference_mode():
            return model(**inputs)

    models = {"plain CLIP": plain, "merged": model, "Exp-CLIP, not merged": exp_clip}
    times = medians({what: lambda model=model: way(model) for what, model in models.items()}, 6 * repeats)
    rows = [
        (f"{what} / plain CLIP, 4 images and 7 prompts", times[what] / times["plain CLIP"], "x", "about 1" * (what == "merged"), 6 * repeats)
        for what in ("merged", "Exp-CLIP, not merged")
    ]  # fmt: skip
    record(f"{name}, merged", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="images a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vit-b32", "expclip-mini"):
            folders = subjects(Path(folder) / name, name, EXPORTS if name == "expclip-mini" else EXPORTS[:4])
            merged(name, folders, arguments.repeats)
            towers(name, folders, arguments.repeats)
            one_after_another(name, folders, arguments.images, arguments.repeats)


if __name__ == "__main__":
    main()
