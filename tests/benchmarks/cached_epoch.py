"""``python -m tests.benchmarks.cached_epoch``: one epoch of head training from the embedding cache, against the paper's way.

Both ways train the same head on the same faces with the same Trainer in this process; the paper's way runs CLIP and the teacher
again for every batch. CLIP has the shape of ViT-B/32, the teacher is a BLIP-2 cut down to a few layers whose T5 is as wide as Flan-T5-XXL
(so that the head has the paper's size); both have random weights. The full teacher would make the ratio larger.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PIL
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    T5Config,
)

from tests.benchmarks.results import record
from tests.conftest import small_tokenizer
from training.alignment.loss import AlignmentModel
from training.alignment.run import ImageDataset, initial_head, optimizer_of, training_arguments
from training.alignment.trainer import ExpCLIPTrainer, as_it_is
from training.embeddings.fill import embed
from training.embeddings.pairs import load_pairs
from training.recipe import ClipRecipe, FacesRecipe, Recipe, TeacherRecipe, TrainingRecipe

INSTRUCTION = "Objectively describe the detailed facial actions of the person in the image."
ALIGNMENT_DIM = 4096


def write_faces(path: Path, count: int) -> None:
    """Synthetic JPEGs of 112 x 112 pixels."""
    generator, images = np.random.default_rng(0), []
    for _ in range(count):
        content = io.BytesIO()
        small = generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        PIL.fromarray(small).resize((112, 112), 2).save(content, "JPEG")
        images.append({"bytes": content.getvalue(), "path": None})
    rows = {"id": [str(i) for i in range(count)], "image": images}
    Dataset.from_dict(rows, features=Features({"id": Value("string"), "image": Image()})).to_parquet(path)


def write_clip(folder: Path) -> None:
    """A CLIP of ViT-B/32's shape."""
    vision = {"image_size": 224, "patch_size": 32}
    CLIPModel(CLIPConfig(vision_config=vision, text_config={"vocab_size": 514})).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(), small_tokenizer()).save_pretrained(folder)


def write_blip2(folder: Path) -> None:
    """A BLIP-2 of two vision layers, two Q-Former layers and one T5 layer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(f"face {INSTRUCTION}".split())]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    layers = {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
    text = T5Config(
        d_model=ALIGNMENT_DIM, d_kv=32, num_heads=4, d_ff=256, num_layers=1, num_decoder_layers=1, vocab_size=64,
        decoder_start_token_id=0,
    )  # fmt: skip
    config = Blip2Config(
        vision_config={**layers, "image_size": 224, "patch_size": 14},
        qformer_config={**layers, "encoder_hidden_size": 256, "vocab_size": 64},
        text_config=text.to_dict(),
        num_query_tokens=32,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def seconds(recipe: Recipe, pairs: torch.utils.data.Dataset, folder: Path) -> float:
    """One epoch."""
    torch.manual_seed(0)
    model = AlignmentModel(initial_head("random", ALIGNMENT_DIM, 512), 100.0)
    trainer = ExpCLIPTrainer(
        model=model,
        args=dataclasses.replace(training_arguments(recipe.training, len(pairs), folder, False), save_strategy="no", report_to=[]),
        train_dataset=pairs,
        data_collator=as_it_is,
        optimizers=(optimizer_of(model, recipe.training), None),
    )  # fmt: skip
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5, help="epochs from the cache, of which the median counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        write_clip(folder / "clip")
        write_blip2(folder / "teacher")
        write_faces(folder / "faces.parquet", arguments.faces)
        recipe = Recipe(
            ClipRecipe(str(folder / "clip"), preprocessing="paper"),
            TeacherRecipe("blip2", str(folder / "teacher"), instruction=INSTRUCTION, preprocessing="paper"),
            FacesRecipe(),
            TrainingRecipe(epochs=1, optimizer="sgd", weight_decay=1e-4),
        )
        start = time.perf_counter()
        embed(recipe, [str(folder / "faces.parquet")], folder / "cache", 1024)
        embedding = time.perf_counter() - start
        pairs = load_pairs(folder / "cache", recipe.clip, recipe.teacher)
        seconds(recipe, pairs, folder / "warm-up")
        images = seconds(recipe, ImageDataset(recipe, [str(folder / "faces.parquet")]), folder / "images")
        cached = statistics.median(seconds(recipe, pairs, folder / f"cached{i}") for i in range(arguments.repeats))
    rows = [
        ("an epoch the paper's way / one from the cache", images / cached, "x", ">= 200", arguments.repeats),
        ("the embedding pass / an epoch the paper's way", embedding / images, "x", "", 1),
    ]
    record(f"cached epoch, {arguments.faces} faces", rows)
    print(f"({images:.1f} s and {cached:.3f} s)")


if __name__ == "__main__":
    main()
