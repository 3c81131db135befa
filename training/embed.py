"""``python -m training.embed``: every face through CLIP and a teacher, once, into the embedding cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from .support.command import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.embed", description=__doc__)
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="[LAYOUT=]PATH",
        help="folder of images, Parquet, annotation list or Hub id of faces; may be repeated",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="CACHE", help="the embedding cache")
    parser.add_argument("--shard-size", type=int, default=4096, help="rows a shard (default: %(default)s)")
    parser.add_argument("--streaming", action="store_true", help="read Parquet or a Hub data set without converting it")
    parser.add_argument("--override", nargs="+", action="extend", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()

    from .embeddings.fill import embed
    from .recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.override)
    embed(recipe, arguments.data, arguments.output, arguments.shard_size, streaming=arguments.streaming)


if __name__ == "__main__":
    run("training.embed", main)
