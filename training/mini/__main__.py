"""``python -m training.mini``: trains expclip-mini from FER2013's training split. Stages resume where they stopped.

1. text     the text tower imitates a sentence encoder (no pictures)
2. convnet  a convnet learns FER2013's labels
3. image    the image tower learns from captions and from the convnet's feature map
4. head     the projection head learns from the describer's sentences (recipes/mini.yaml), without labels
The checkpoint is assembled in ``--output``. The convnet is also written as ``describer.safetensors``; stage 4 uses the one that is in
training/mini/, so copy it there if it should be replaced.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from modeling_expclip.prompts import build_prompts

from ..alignment.run import train_from_cache
from ..embeddings.fill import embed
from ..recipe import load_recipe
from ..support.command import run
from .captions import EXPRESSIONS, FACTORS, Caption, caption_pool
from .convnet import ConvNet, classification_loss
from .describer import WEIGHTS as DESCRIBER
from .describer import save_describer
from .export import export_towers, export_with_head
from .images import draw_factors, load_faces, plain_views, views
from .loop import fit
from .score import CLASSES, war_uar
from .text import (
    SentenceEncoder,
    TextTower,
    corpus,
    imitation_loss,
    load_text_tower,
    train_tokenizer,
)
from .towers import PROJECTION_DIM, ImageTower, alignment_loss, mean_feature

SEED = 0
CAPTIONS = 24_000
BATCH = 256
IMAGE_BATCH = 96  # many small steps: with 256 faces a step the ViT learns far less from the same faces
CARD = Path(__file__).parents[2] / "model_card.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "mini.yaml"
FACE_SHARE = 0.6  # of the captions drawn for a face speak of its expression


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.mini", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="FER2013's training split: Parquet with image and label"
    )
    parser.add_argument(
        "--validation", type=Path, nargs="*", default=[], help="labelled Parquet files to print accuracy on"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the stages' state")
    parser.add_argument("--output", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, nargs=3, default=[5000, 900, 7000], help="of the three stages")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    pool = caption_pool(CAPTIONS, SEED)
    text = train_text(pool, arguments.work, arguments.steps[0])
    pixels, labels = load_faces(arguments.data)
    if labels.max() >= len(EXPRESSIONS):
        raise ValueError(f"{arguments.data} has faces labelled other than {', '.join(EXPRESSIONS)}; leave them out")
    convnet = train_convnet(pixels, labels, arguments.work, arguments.steps[1])
    checks = [(path, *load_faces(path)) for path in arguments.validation]
    image = train_image(pool, text, convnet, pixels, labels, checks, arguments.work, arguments.steps[2])
    save_describer(convnet, arguments.work / DESCRIBER.name)
    towers = arguments.work / "towers"
    if not towers.exists():
        export_towers(*text, image, towers)
    head = train_head(towers, arguments.data, arguments.work)
    export_with_head(towers, head, arguments.output, CARD)


def train_text(pool: list[Caption], work: Path, steps: int) -> tuple[TextTower, CLIPTokenizer]:
    done = work / "sentences.safetensors"
    if not done.exists():
        encoder = SentenceEncoder()
        groups, phrases = corpus(pool, encoder.words(), SEED)
        train_tokenizer(phrases).save_pretrained(work / "tokenizer")
        (work / "texts.json").write_text(json.dumps(groups))
        save_file({str(i): encoder(texts) for i, texts in enumerate(groups)}, work / "sentences.part")
        os.replace(work / "sentences.part", done)
    torch.manual_seed(SEED)  # each stage starts from its own seed, whether or not the one before was resumed
    tower, tokenizer = load_text_tower(work, PROJECTION_DIM)
    vectors = load_file(done)
    groups = json.loads((work / "texts.json").read_text())
    loss = imitation_loss(tower, tokenizer, groups, [vectors[str(i)] for i in range(len(groups))], BATCH)
    fit(
        "text",
        tower,
        loss,
        steps=steps,
        learning_rate=2e-3,
        weight_decay=0.01,
        state=work / "text.pt",
        seed=SEED,
        save_every=1000,
    )
    return tower.requires_grad_(False), tokenizer


def sampling_weights(labels: torch.Tensor) -> torch.Tensor:
    """Rare expressions are drawn more often than they occur, by the square root of their rarity."""
    return labels.bincount().float().clamp(min=1).rsqrt()[labels]


def train_convnet(pixels: torch.Tensor, labels: torch.Tensor, work: Path, steps: int) -> ConvNet:
    weights = sampling_weights(labels)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        factors = draw_factors(torch.full((BATCH, len(FACTORS)), -1), generator)
        return views(pixels[rows], factors, generator), torch.cat([labels[rows, None], factors], 1)

    torch.manual_seed(SEED)
    convnet = ConvNet().to(memory_format=torch.channels_last)
    loss = classification_loss(convnet, batch)
    fit(
        "convnet",
        convnet,
        loss,
        steps=steps,
        learning_rate=4e-3,
        weight_decay=0.05,
        state=work / "convnet.pt",
        seed=SEED,
    )
    return convnet.requires_grad_(False)


def train_image(
    pool: list[Caption],
    text: tuple[TextTower, CLIPTokenizer],
    convnet: ConvNet,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    checks: list[tuple[Path, torch.Tensor, torch.Tensor]],
    work: Path,
    steps: int,
) -> ImageTower:
    encoder, tokenizer = text
    sentences = encoder.encode(tokenizer, [caption.text for caption in pool]).clone()
    mentions = torch.tensor([caption.mentions for caption in pool])
    by_expression = {e: (mentions[:, 0] == e).nonzero().flatten() for e in mentions[:, 0].unique().tolist()}
    weights = sampling_weights(labels)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        rows = torch.multinomial(weights, IMAGE_BATCH, replacement=True, generator=generator)
        speaks = torch.rand(IMAGE_BATCH, generator=generator) < FACE_SHARE
        luck = torch.rand(IMAGE_BATCH, generator=generator)
        groups = [by_expression[label if about else -1] for label, about in zip(labels[rows].tolist(), speaks.tolist())]
        chosen = torch.stack([group[int(len(group) * u)] for group, u in zip(groups, luck.tolist())])
        factors = draw_factors(mentions[chosen, 1:], generator)
        truth = torch.cat([labels[rows, None], factors], 1)
        return views(pixels[rows], factors, generator), truth, mentions[chosen], sentences[chosen]

    torch.manual_seed(SEED)
    tower = ImageTower(encoder.text_model.config.hidden_size)

    @torch.inference_mode()
    def accuracy() -> str:
        prompts = build_prompts(CLASSES, "ensemble10")
        texts = encoder.encode(tokenizer, [prompt for group in prompts for prompt in group])
        prototypes = F.normalize(tower.caption_projection(texts), dim=-1).unflatten(0, (len(CLASSES), -1)).mean(1)
        lines = []
        for path, images, truth in checks:
            embeds = torch.cat([tower.visual_projection(tower(plain_views(part))[1]) for part in images.split(512)])
            war, uar = war_uar((embeds @ prototypes.T).argmax(1), truth)
            lines.append(f"{path.parent.name} WAR {war:.1f} UAR {uar:.1f}")
        return "; ".join(lines)

    generator = torch.Generator().manual_seed(SEED)
    sample = torch.randperm(len(pixels), generator=generator)[:1024]
    factors = draw_factors(torch.full((len(sample), len(FACTORS)), -1), generator)
    shared_feature = mean_feature(convnet, views(pixels[sample], factors, generator))
    loss = alignment_loss(tower, convnet, shared_feature, batch)
    fit(
        "image",
        tower,
        loss,
        steps=steps,
        learning_rate=1e-3,
        weight_decay=0.05,
        state=work / "image.pt",
        seed=SEED,
        save_every=500,
        after_save=accuracy,
    )
    return tower


def train_head(towers: Path, data: Path, work: Path) -> torch.Tensor:
    recipe = load_recipe(RECIPE, [f"clip.model={towers}"])
    embed(recipe, [str(data)], work / "cache", 4096)
    train_from_cache(recipe, work / "cache", work / "head", {}, CLASSES)
    return load_file(work / "head" / "model.safetensors")["projection_head.weight"]


if __name__ == "__main__":
    run("training.mini", main)
