"""``expclip train``; from a clone also ``python -m training.train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from modeling_expclip.media.storage import local_path
from modeling_expclip.prompts import LABEL_SETS

from .support.command import run


def main(argv: list[str] | None = None, prog: str = f"python -m {__spec__.name}") -> int:
    """Runs a command line, by default the process's own, and returns its exit code. Errors are raised."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Trains a projection head from an embedding cache: the output is a complete Exp-CLIP checkpoint.",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a YAML file, or the name of one that comes along: mini, recommended, paper-b32 ...",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--embeddings", type=Path, metavar="CACHE", help="the cache that embed filled")
    source.add_argument(
        "--data",
        action="append",
        metavar="[LAYOUT=]PATH",
        help="or faces, to run CLIP and teacher again in every epoch as the paper does",
    )
    parser.add_argument(
        "--output-dir",
        type=local_path,
        required=True,
        metavar="DIR",
        help="folder of the run and of the checkpoint it ends in",
    )
    parser.add_argument(
        "--evaluate",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="labelled faces to score zero-shot along training; may be repeated",
    )
    parser.add_argument("--label-set", choices=LABEL_SETS, default="rafdb", help="classes of --evaluate")
    parser.add_argument(
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="recipe fields to change, such as training.max_steps=100",
    )
    arguments = parser.parse_args(argv)
    wrong = [pair for pair in arguments.evaluate if not all(pair.partition("="))]
    if wrong:
        parser.error(f"--evaluate {wrong[0]}: expected NAME=PATH")
    evaluate = {name: path for name, _, path in (pair.partition("=") for pair in arguments.evaluate)}

    from .alignment.run import train_from_cache, train_from_images
    from .recipe import load_recipe

    recipe, classes = load_recipe(arguments.recipe, arguments.override), LABEL_SETS[arguments.label_set]
    if arguments.embeddings is not None:
        train_from_cache(recipe, arguments.embeddings, arguments.output_dir, evaluate, classes)
    else:
        train_from_images(recipe, arguments.data, arguments.output_dir, evaluate, classes)
    return 0


if __name__ == "__main__":
    run(__spec__.name, main)
