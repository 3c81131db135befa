"""``python -m training.mini.ablation``: does the learned head add to the towers it stands on, and what of it does?

Unlabelled faces and the describer come in; heads are trained as ``training.train`` does, three seeds each; a Markdown table, a CSV file and a
paired bootstrap against CLIP alone leave. The towers are the embedded default's in every row.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from modeling_expclip.media.storage import local_path
from modeling_expclip.prompts import build_prompts

from ..alignment.closed_form import ridge_head
from ..alignment.run import initial_head, train_from_cache
from ..embeddings.fill import embed
from ..embeddings.pairs import load_pairs
from ..evaluation.zero_shot import ZeroShot, load_zero_shot, text_features
from ..models.clip import FrozenClip
from ..recipe import Recipe, TeacherRecipe, load_recipe
from ..support.command import run
from .describer import ACTIONS, PICTURE, Describer
from .images import load_faces as load_pixels
from .language_model import COLUMN, write_vectors
from .score import CLASSES, ENOUGH_FACES, UNSEEN, war_uar

SEEDS = (0, 1, 2)
RESAMPLES = 2000
RIDGE = 0.1
RECIPE = Path(__file__).parents[1] / "recipes" / "mini.yaml"
# What differs from mini.yaml, and the instruction.
VARIANTS: dict[str, tuple[str, dict]] = {
    "learned, facial actions (mini.yaml)": (ACTIONS, {}),
    "... wise_ft_alpha: 1": (ACTIONS, {"wise_ft_alpha": 1.0}),
    "... not centred": (ACTIONS, {"center_teacher": False}),
    "... CLIP's own temperature": (ACTIONS, {"logit_scale": None}),
    "... head_init: random, wise_ft_alpha: 1": (ACTIONS, {"head_init": "random", "wise_ft_alpha": 1.0}),
    "... the paper's settings (SGD, 5 epochs)": (
        ACTIONS,
        {
            "max_steps": None,
            "epochs": 5,
            "center_teacher": False,
            "head_init": "random",
            "wise_ft_alpha": 1.0,
            "logit_scale": None,
        }
        | {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "lr_scheduler_type": "constant"},
    ),
    "learned, generic captions": (PICTURE, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.mini.ablation", description=__doc__)
    parser.add_argument("--train", required=True, metavar="PATH", help="faces to train heads on; labels are not read")
    parser.add_argument("--validation", nargs="+", type=Path, required=True, help="labelled Parquet files")
    parser.add_argument(
        "--work", type=local_path, required=True, help="folder for the cache, the runs and ablation.csv"
    )
    parser.add_argument(
        "--language-model", type=Path, metavar="GGUF", help="a language model that reads the sentences in one more row"
    )
    arguments = parser.parse_args()

    recipe = load_recipe(RECIPE)
    both = dataclasses.replace(recipe, teacher=dataclasses.replace(recipe.teacher, instruction=[ACTIONS, PICTURE]))
    cache = arguments.work / "cache"
    embed(both, [arguments.train], cache, 4096)
    clip = FrozenClip(recipe.clip)
    sets = {path.parent.name: load_zero_shot(str(path), clip, CLASSES, recipe.faces) for path in arguments.validation}
    words = {
        name: text_features(clip, build_prompts(UNSEEN, name)) for name in ("class_name", "expression", "ensemble10")
    }
    unseen = {name: dataclasses.replace(faces, text=words) for name, faces in sets.items()}

    pairs = load_pairs(cache, recipe.clip, recipe.teacher)
    width, dim = pairs.widths
    image, teacher = map(torch.cat, zip(*pairs.blocks()))
    heads = {"CLIP alone": [torch.eye(width)]}
    heads["CLIP and a random head"] = [_seeded(seed, lambda: initial_head("random", dim, width)) for seed in SEEDS]
    heads[f"closed form: ridge, {RIDGE}"] = [ridge_head(image, teacher, RIDGE)]
    for name, (instruction, changes) in VARIANTS.items():
        runs = arguments.work / "runs" / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        heads[name] = [
            _train(recipe, instruction, {**changes, "seed": seed}, cache, runs.with_name(f"{runs.name}-{seed}"))
            for seed in SEEDS
        ]
    if arguments.language_model:
        read = arguments.work / "language_model.parquet"
        if not read.exists():
            write_vectors(arguments.train, arguments.language_model, read)
        its = dataclasses.replace(recipe, teacher=TeacherRecipe("vectors", column=COLUMN))
        embed(its, [str(read)], arguments.work / "cache-language-model", 4096)
        heads[f"learned, facial actions read by {arguments.language_model.stem}"] = [
            _train(
                its,
                "",
                {"seed": seed},
                arguments.work / "cache-language-model",
                arguments.work / "runs" / f"llm-{seed}",
            )
            for seed in SEEDS
        ]

    rows = [_describer(arguments.validation, sets)]
    for name, weights in heads.items():
        rows.append({"head": name, "seeds": len(weights), **_scores(weights, sets, unseen)})
        if name != "CLIP alone":
            rows[-1] |= _gain(weights, heads["CLIP alone"], sets)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (arguments.work / "ablation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |")


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _seeded(seed: int, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(seed)
    return make()


def _train(recipe: Recipe, instruction: str, changes: dict, cache: Path, output: Path) -> torch.Tensor:
    recipe = dataclasses.replace(
        recipe,
        teacher=dataclasses.replace(recipe.teacher, instruction=instruction),
        training=dataclasses.replace(recipe.training, **changes),
    )
    train_from_cache(recipe, cache, output, {}, CLASSES)
    return load_file(output / "model.safetensors")["projection_head.weight"]


def _describer(files: list[Path], sets: dict[str, ZeroShot]) -> dict[str, object]:
    """The raw describer: the expression it finds most probable. It has no prompts."""
    describer, row = Describer(), {"head": "the describer itself, supervised by FER+'s votes", "seeds": 1}
    for path, name in zip(files, sets):
        pixels, truth = load_pixels(path)
        guess = torch.cat([describer.probabilities(part)[0][:, : len(CLASSES)].argmax(1) for part in pixels.split(512)])
        row[f"{name} WAR"], row[f"{name} UAR"] = war_uar(guess, truth)
    return row


def _scores(weights: list[torch.Tensor], sets: dict[str, ZeroShot], unseen: dict[str, ZeroShot]) -> dict[str, float]:
    """WAR and UAR, the mean over seeds: over five prompt sets, of ensemble10, and of unseen words over three."""
    row = {}
    for title, key, scored in (
        ("", "mean", sets),
        (" ensemble10", "ensemble10", sets),
        (" unseen words", "mean", unseen),
    ):
        for name, faces in scored.items():
            scores = [faces.score(weight, ENOUGH_FACES) for weight in weights]
            for metric in ("war", "uar"):
                row[f"{name}{title} {metric.upper()}"] = sum(s[f"{key}_{metric}"] for s in scores) / len(scores)
    return row


def _gain(weights: list[torch.Tensor], baseline: list[torch.Tensor], sets: dict[str, ZeroShot]) -> dict[str, float]:
    """UAR over CLIP alone (five prompt sets and the validation sets averaged, seeds too), and its 95% interval: a paired bootstrap
    over faces, in which both heads answer for the same resampled faces."""
    generator = torch.Generator().manual_seed(0)
    measured, resampled = 0.0, torch.zeros(RESAMPLES)
    for faces in sets.values():
        ours, theirs = (
            torch.stack([faces.predict(w, p) == faces.references for w in group for p in faces.text])
            for group in (weights, baseline)
        )
        difference = ours.float().mean(0) - theirs.float().mean(0)  # (N,), its class means average to the gain in UAR
        classes = [c for c, count in enumerate(faces.references.bincount()) if count >= ENOUGH_FACES]
        for c in classes:
            own = difference[faces.references == c]
            drawn = own[torch.randint(len(own), (RESAMPLES, len(own)), generator=generator)].mean(1)
            measured += 100 * own.mean().item() / len(classes) / len(sets)
            resampled += 100 * drawn / len(classes) / len(sets)
    low, high = resampled.quantile(torch.tensor([0.025, 0.975])).tolist()
    return {"UAR gain": measured, "from": low, "to": high}


if __name__ == "__main__":
    run("training.mini.ablation", main)
