"""``python -m training.mini``: trains expclip-mini from FER+'s training part. Stages resume where they stopped.

1. text     the text tower imitates a sentence encoder (no pictures)
2. image    the image tower learns from votes and the teacher's feature maps (no texts)
3. both     the image tower learns to stand near the captions that are true of a face
4. words    the captions' projection learns on from many more captions, while the image tower stays as it is
5. head     the projection head learns from the describer's sentences (recipes/mini.yaml), without labels
The checkpoint is assembled in ``--output``. ``--teacher`` is what ``python -m training.mini.teacher`` wrote; ours comes with the repository.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from modeling_expclip.media.storage import local_path
from modeling_expclip.prompts import build_prompts

from ..alignment.run import train_from_cache
from ..embeddings.fill import embed
from ..recipe import load_recipe
from ..support.command import run
from .captions import CATEGORIES, FACTORS, NOT_MENTIONED, Caption, agreement, caption_pool
from .export import export_towers, export_with_head
from .images import draw_factors, load_faces, load_votes, plain_views, views
from .loop import fit
from .score import CLASSES, war_uar
from .teacher import TeacherNet, load_teacher, sampling_weights
from .text import (
    WIDTH,
    SentenceEncoder,
    TextTower,
    corpus,
    imitation_loss,
    load_text_tower,
    train_tokenizer,
)
from .towers import PROJECTION_DIM, ImageTower, contrastive_loss, distillation_loss, mean_features, truth_table

SEED = 0
CAPTIONS = 24_000
BATCH = 256
IMAGE_BATCH = 128  # many small steps: with 256 faces a step the ViT learns far less from the same faces
CARD = Path(__file__).parents[2] / "model_card.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "mini.yaml"
TEACHER = Path(__file__).parent / "teacher.safetensors"
FACE_SHARE = 0.6  # of the captions drawn for a face speak of its expression
WORDS_STEPS, WORDS_BATCH = 400, 512
WORDS_KEPT = (
    0.85  # of the projection that the image tower learned beside: less, and slight smiles are called neutral more often
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.mini", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="FER+'s training part: Parquet with image and votes")
    parser.add_argument("--teacher", type=Path, default=TEACHER, help="safetensors file of the teacher")
    parser.add_argument(
        "--validation", type=Path, nargs="*", default=[], help="labelled Parquet files to print accuracy on"
    )
    parser.add_argument("--work", type=local_path, required=True, help="folder for the stages' state")
    parser.add_argument("--output", type=local_path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, nargs=3, default=[3500, 1500, 1200], help="of text, image and both")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    pool = caption_pool(CAPTIONS, SEED)
    text = train_text(pool, arguments.work, arguments.steps[0])
    faces = Faces(arguments.data)
    checks = [(path, *load_faces(path)) for path in arguments.validation]
    teacher = load_teacher(arguments.teacher)
    image = train_image(teacher, faces, checks, arguments.work, arguments.steps[1])
    train_both(pool, text, image, teacher, faces, checks, arguments.work, arguments.steps[2])
    train_words(pool, text, image, faces, arguments.work)
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


class Faces:
    """FER+'s faces as ``load_votes`` gives them, drawn by the rarity of their votes."""

    def __init__(self, path: Path) -> None:
        self.pixels, self.shares, certainty = load_votes(path)
        self.weights = sampling_weights(self.shares, certainty)

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (count, 48, 48) uint8 and vote shares (count, 8)."""
        rows = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return self.pixels[rows], self.shares[rows]


def free_factors(count: int) -> torch.Tensor:
    return torch.full((count, len(FACTORS)), -1)


def shared_by_all(teacher: TeacherNet, faces: Faces) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    pixels, _ = faces.draw(1024, generator)
    return mean_features(teacher, views(pixels, draw_factors(free_factors(1024), generator), generator))


def train_image(
    teacher: TeacherNet,
    faces: Faces,
    checks: list[tuple[Path, torch.Tensor, torch.Tensor]],
    work: Path,
    steps: int,
) -> ImageTower:
    shared = shared_by_all(teacher, faces)

    def loss(generator: torch.Generator) -> torch.Tensor:
        pixels, shares = faces.draw(IMAGE_BATCH, generator)
        x = views(pixels, draw_factors(free_factors(IMAGE_BATCH), generator), generator)
        return distillation_loss(tower, teacher, shared, x, shares)[0]

    torch.manual_seed(SEED)
    tower = ImageTower(WIDTH)
    fit(
        "image",
        tower,
        loss,
        steps=steps,
        learning_rate=2e-3,
        weight_decay=0.05,
        hidden=tower.hidden(),
        state=work / "image.pt",
        seed=SEED,
        after_save=lambda: accuracy(checks, lambda x: tower.vote_head(tower(x)[1])),
    )
    return tower


def train_both(
    pool: list[Caption],
    text: tuple[TextTower, CLIPTokenizer],
    tower: ImageTower,
    teacher: TeacherNet,
    faces: Faces,
    checks: list[tuple[Path, torch.Tensor, torch.Tensor]],
    work: Path,
    steps: int,
) -> None:
    """Changes ``tower``; the text tower stays as it is, but for its projection."""
    encoder, tokenizer = text
    sentences = encoder.encode(tokenizer, [caption.text for caption in pool]).clone()
    speaks = torch.tensor([caption.expression is not None for caption in pool])
    nothing = (0.0,) * len(CATEGORIES)
    spoken = torch.tensor([caption.expression or nothing for caption in pool])
    mentions = torch.tensor([caption.factors for caption in pool])
    telling, plain = speaks.nonzero().flatten(), (~speaks).nonzero().flatten()
    shared = shared_by_all(teacher, faces)

    def loss(generator: torch.Generator) -> torch.Tensor:
        pixels, shares = faces.draw(IMAGE_BATCH, generator)
        # Of the captions that speak of an expression, those that are true of the face come far more often.
        fitting = agreement(spoken[telling], shares) ** 6
        chosen = telling[torch.multinomial(fitting + 1e-6, 1, generator=generator).flatten()]
        about = torch.rand(IMAGE_BATCH, generator=generator) < FACE_SHARE
        other = plain[torch.randint(len(plain), (IMAGE_BATCH,), generator=generator)]
        chosen = torch.where(about, chosen, other)
        factors = draw_factors(mentions[chosen], generator)
        distilled, pooled, belief = distillation_loss(tower, teacher, shared, views(pixels, factors, generator), shares)
        table = truth_table(spoken[chosen], speaks[chosen], mentions[chosen], belief, factors)
        return distilled + contrastive_loss(tower, pooled, sentences[chosen], table)

    texts = encoder.encode(tokenizer, [prompt for group in build_prompts(CLASSES, "ensemble10") for prompt in group])

    def by_words(x: torch.Tensor) -> torch.Tensor:
        prototypes = F.normalize(tower.caption_projection(texts), dim=-1).unflatten(0, (len(CLASSES), -1)).mean(1)
        return tower.visual_projection(tower(x)[1]) @ prototypes.T

    fit(
        "both",
        tower,
        loss,
        steps=steps,
        learning_rate=1e-3,
        weight_decay=0.05,
        hidden=tower.hidden(),
        state=work / "both.pt",
        seed=SEED + 1,
        after_save=lambda: accuracy(checks, by_words),
    )


def train_words(
    pool: list[Caption], text: tuple[TextTower, CLIPTokenizer], tower: ImageTower, faces: Faces, work: Path
) -> None:
    """Changes the captions' projection of ``tower``. With the faces' embeddings ready, a step can see four times the captions."""
    encoder, tokenizer = text
    pool = [caption for caption in pool if caption.expression and set(caption.factors) == {NOT_MENTIONED}]
    sentences = encoder.encode(tokenizer, [caption.text for caption in pool]).clone()
    spoken = torch.tensor([caption.expression for caption in pool])
    generator = torch.Generator().manual_seed(SEED)
    makers = (plain_views, lambda part: views(part, draw_factors(free_factors(len(part)), generator), generator))
    with torch.no_grad():
        pooled = [torch.cat([tower(make(part))[1] for part in faces.pixels.split(512)]) for make in makers]
    embedded = torch.stack(pooled)  # (2, N, 192)

    def loss(generator: torch.Generator) -> torch.Tensor:
        rows = torch.multinomial(faces.weights, WORDS_BATCH, replacement=True, generator=generator)
        shares = faces.shares[rows]
        fitting = agreement(spoken, shares[: WORDS_BATCH // 2]) ** 6
        chosen = torch.cat(
            [
                torch.multinomial(fitting + 1e-6, 1, generator=generator).flatten(),
                torch.randint(len(pool), (WORDS_BATCH // 2,), generator=generator),
            ]
        )
        view = torch.randint(2, (WORDS_BATCH,), generator=generator)
        return contrastive_loss(tower, embedded[view, rows], sentences[chosen], agreement(spoken[chosen], shares))

    weight = tower.requires_grad_(False).caption_projection.requires_grad_(True).weight
    start = weight.detach().clone()
    fit(
        "words",
        tower.caption_projection,
        loss,
        steps=WORDS_STEPS,
        learning_rate=5e-4,
        weight_decay=0.0,
        state=work / "words.pt",
        seed=SEED,
    )
    with torch.no_grad():
        weight.lerp_(start, WORDS_KEPT)


@torch.inference_mode()
def accuracy(
    checks: list[tuple[Path, torch.Tensor, torch.Tensor]], score: Callable[[torch.Tensor], torch.Tensor]
) -> str:
    """``score`` gives views (B, 1, 48, 48) a score for each of CLASSES, and may give more."""
    lines = []
    for path, images, truth in checks:
        scores = torch.cat([score(plain_views(part))[:, : len(CLASSES)] for part in images.split(512)])
        war, uar = war_uar(scores.argmax(1), truth)
        lines.append(f"{path.parent.name} WAR {war:.1f} UAR {uar:.1f}")
    return "; ".join(lines)


def train_head(towers: Path, data: Path, work: Path) -> torch.Tensor:
    recipe = load_recipe(RECIPE, [f"clip.model={towers}"])
    embed(recipe, [str(data)], work / "cache", 4096)
    train_from_cache(recipe, work / "cache", work / "head", {}, CLASSES)
    return load_file(work / "head" / "model.safetensors")["projection_head.weight"]


if __name__ == "__main__":
    run("training.mini", main)
