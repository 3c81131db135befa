"""``python -m training.mini``: trains expclip-mini from FER+'s training part. Stages resume where they stopped.

1. text     the text tower imitates a sentence encoder (no pictures)
2. image    the image tower learns from captions, votes and the teacher's feature map
3. head     the projection head learns from the describer's sentences (recipes/mini.yaml), without labels
The checkpoint is assembled in ``--output``. ``--teacher`` is what ``python -m training.mini.teacher`` wrote.
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
from .captions import CATEGORIES, FACTORS, Caption, agreement, caption_pool
from .export import export_towers, export_with_head
from .images import draw_factors, load_faces, load_votes, plain_views, views
from .loop import fit
from .score import CLASSES, war_uar
from .teacher import TeacherNet, load_teacher, sampling_weights
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
    parser.add_argument("--data", type=Path, required=True, help="FER+'s training part: Parquet with image and votes")
    parser.add_argument("--teacher", type=Path, required=True, help="safetensors file of the teacher")
    parser.add_argument(
        "--validation", type=Path, nargs="*", default=[], help="labelled Parquet files to print accuracy on"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the stages' state")
    parser.add_argument("--output", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, nargs=2, default=[8000, 24000], help="of text and image")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    pool = caption_pool(CAPTIONS, SEED)
    text = train_text(pool, arguments.work, arguments.steps[0])
    faces = load_votes(arguments.data)
    checks = [(path, *load_faces(path)) for path in arguments.validation]
    teacher = load_teacher(arguments.teacher)
    image = train_image(pool, text, teacher, faces, checks, arguments.work, arguments.steps[1])
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


def train_image(
    pool: list[Caption],
    text: tuple[TextTower, CLIPTokenizer],
    teacher: TeacherNet,
    faces: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    checks: list[tuple[Path, torch.Tensor, torch.Tensor]],
    work: Path,
    steps: int,
) -> ImageTower:
    """``faces`` are pixels, vote shares and certainty, as ``load_votes`` gives them."""
    encoder, tokenizer = text
    pixels, shares, certainty = faces
    sentences = encoder.encode(tokenizer, [caption.text for caption in pool]).clone()
    speaks = torch.tensor([caption.expression is not None for caption in pool])
    nothing = (0.0,) * len(CATEGORIES)
    spoken = torch.tensor([caption.expression or nothing for caption in pool])
    mentions = torch.tensor([caption.factors for caption in pool])
    telling, plain = speaks.nonzero().flatten(), (~speaks).nonzero().flatten()
    weights = sampling_weights(shares, certainty)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        rows = torch.multinomial(weights, IMAGE_BATCH, replacement=True, generator=generator)
        # Of the captions that speak of an expression, those that are true of the face come far more often.
        fitting = agreement(spoken[telling], shares[rows]) ** 6
        chosen = telling[torch.multinomial(fitting + 1e-6, 1, generator=generator).flatten()]
        about = torch.rand(IMAGE_BATCH, generator=generator) < FACE_SHARE
        other = plain[torch.randint(len(plain), (IMAGE_BATCH,), generator=generator)]
        chosen = torch.where(about, chosen, other)
        factors = draw_factors(mentions[chosen], generator)
        x = views(pixels[rows], factors, generator)
        return x, shares[rows], factors, spoken[chosen], speaks[chosen], mentions[chosen], sentences[chosen]

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
    shared_feature = mean_feature(teacher, views(pixels[sample], factors, generator))
    loss = alignment_loss(tower, teacher, shared_feature, batch)
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
