"""``python -m training.mini.own_words``: do own words pick the right faces?

In: a checkpoint and faces with votes. Out: Markdown tables. Of the faces on which at least eight of ten taggers agree, each list of
candidate words is scored on those that its words stand for: the share of a word's faces where that word wins. Once with words that captions
have, once with words that none has (``lexicon.HELD_OUT``). Then hubness: the words of the lexicon that win most often on faces they do
not describe, against rivals one of which does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import torch
from datasets import Dataset
from PIL.Image import Image

from modeling_expclip import MINI, PROMPT_SETS, FacialExpressionPipeline
from modeling_expclip.checkpoint.load import load_checkpoint

from ..support.command import run
from .captions import agreement
from .images import pictures
from .lexicon import CATEGORIES, LEXICON
from .score import ENOUGH_FACES, embed

AGREED = 8  # of ten taggers
# Lists of candidates, and the category that each word stands for.
LISTS: tuple[dict[str, str], ...] = (
    {"over the moon": "happiness", "grumpy": "anger", "taken aback": "surprise", "bored": "neutral"},
    {"excited": "happiness", "poker-faced": "neutral"},
    {"delighted": "happiness", "down in the dumps": "sadness", "fed up": "anger", "shocked": "surprise"},
    {"cheerful": "happiness", "gloomy": "sadness", "calm": "neutral"},
    {"grinning": "happiness", "crying": "sadness", "glaring": "anger"},
    {"amused": "happiness", "indifferent": "neutral", "stunned": "surprise"},
)
HELD_OUT_LISTS: tuple[dict[str, str], ...] = (
    {"on cloud nine": "happiness", "infuriated": "anger", "gobsmacked": "surprise", "deadpan": "neutral"},
    {"jubilant": "happiness", "unfazed": "neutral"},
    {"tickled pink": "happiness", "feeling blue": "sadness", "livid": "anger", "flabbergasted": "surprise"},
    {"jolly": "happiness", "glum": "sadness", "stoic": "neutral"},
    {"ecstatic": "happiness", "heartbroken": "sadness", "seething": "anger"},
    {"chuffed": "happiness", "straight-faced": "neutral", "thunderstruck": "surprise"},
)
RIVALS = 3
DRAWS = 200
SEED = 0


def recalls(scores: torch.Tensor, categories: Sequence[str], truth: torch.Tensor) -> list[tuple[int, float]]:
    """For each candidate of one list, its category's faces and the percentage of them where it wins.

    ``scores`` (N, candidates); ``categories`` what each stands for; ``truth`` (N,) indices into CATEGORIES. Faces of other categories
    are left out. nan where a candidate has no face.
    """
    winners = scores.argmax(1)
    rows = []
    for index, category in enumerate(categories):
        won = winners[truth == CATEGORIES.index(category)] == index
        rows.append((len(won), 100 * won.float().mean().item()))
    return rows


def hubness(
    scores: torch.Tensor, expressions: torch.Tensor, shares: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """How often each word wins where it should not: the percentage (W,) over faces that it does not describe.

    ``scores`` (N, W), ``expressions`` (W, 8), ``shares`` (N, 8). On a face that a word does not describe (agreement below 0.2), it stands
    against RIVALS random words, the first of which describes the face (agreement of 0.8 or more). Chance is 100 / (1 + RIVALS), a good
    word's percentage is near 0. nan for a word that describes every face.
    """
    table = agreement(expressions, shares)  # (N, W)
    describes = (table >= 0.8).float()
    answerable = describes.sum(1) > 0
    rates = torch.full((len(expressions),), float("nan"))
    for word in range(len(expressions)):
        faces = (answerable & (table[:, word] < 0.2)).nonzero().flatten()
        if not len(faces):
            continue
        faces = faces[torch.randint(len(faces), (DRAWS,), generator=generator)]
        right = torch.multinomial(describes[faces], 1, generator=generator)
        others = torch.randint(len(expressions), (DRAWS, RIVALS - 1), generator=generator)
        best = scores[faces[:, None], torch.cat([right, others], 1)].amax(1)
        rates[word] = 100 * (scores[faces, word] > best).float().mean()
    return rates


def load_agreed(path: Path) -> tuple[list[Image], torch.Tensor]:
    """The faces of a Parquet file with ``image`` and ``votes`` on which AGREED of ten taggers agree on one of CATEGORIES, and the vote
    shares (N, 8)."""
    faces = Dataset.from_parquet(str(path))
    if "votes" not in faces.column_names:
        raise ValueError(f"{path} has no column 'votes': expected ten taggers' votes, as in ferplus/validation.parquet")
    shares = torch.tensor(faces["votes"]).float()[:, : len(CATEGORIES)] / 10
    agreed = shares.amax(1) > (AGREED - 0.5) / 10
    return list(compress(pictures(path), agreed.tolist())), shares[agreed]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.mini.own_words", description=__doc__)
    parser.add_argument("--model", default=MINI)
    parser.add_argument("--data", type=Path, required=True, help="Parquet file with image and votes")
    parser.add_argument("--prompts", nargs="+", default=["ensemble10", "class_name"], choices=tuple(PROMPT_SETS))
    arguments = parser.parse_args()
    faces, shares = load_agreed(arguments.data)
    model, processor = load_checkpoint(arguments.model)
    pipeline = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    embeds, truth = embed(pipeline, faces, "faces"), shares.argmax(1)

    for title, lists in (("words of the lexicon", LISTS), ("held-out words", HELD_OUT_LISTS)):
        print(f"\n| {title} | against | faces | " + " | ".join(arguments.prompts) + " |")
        print("| --- | --- | ---: |" + " ---: |" * len(arguments.prompts))
        counted: dict[str, list[float]] = {prompts: [] for prompts in arguments.prompts}
        for candidates in lists:
            words, categories = tuple(candidates), tuple(candidates.values())
            columns = [
                recalls(embeds @ pipeline.class_prototypes(words, prompts).T, categories, truth)
                for prompts in arguments.prompts
            ]
            for index, word in enumerate(words):
                cells = [column[index] for column in columns]
                others = ", ".join(other for other in words if other != word)
                print(f"| {word} | {others} | {cells[0][0]} | " + " | ".join(f"{cell[1]:.1f}" for cell in cells) + " |")
                for prompts, (count, recall) in zip(arguments.prompts, cells):
                    if count >= ENOUGH_FACES:
                        counted[prompts].append(recall)
        for name, summary in (("mean", lambda values: sum(values) / len(values)), ("least", min)):
            cells = [f"{summary(values):.1f}" for values in counted.values()]
            print(f"| **{name}** of {len(counted[arguments.prompts[0]])} | | | " + " | ".join(cells) + " |")

    expressions = torch.tensor([phrase.expression for phrase in LEXICON])
    print(f"\n| hubness, {len(LEXICON)} words | mean | words above chance | worst |\n| --- | ---: | ---: | --- |")
    for prompts in arguments.prompts:
        scores = embeds @ pipeline.class_prototypes([phrase.text for phrase in LEXICON], prompts).T
        rates = hubness(scores, expressions, shares, torch.Generator().manual_seed(SEED)).nan_to_num(0)
        worst = ", ".join(f"{LEXICON[i].text} {rates[i]:.0f}" for i in rates.topk(10).indices.tolist())
        above = 100 * (rates > 100 / (1 + RIVALS)).float().mean()
        print(f"| {prompts} | {rates.mean():.1f} % | {above:.1f} % | {worst} |")


if __name__ == "__main__":
    run("training.mini.own_words", main)
