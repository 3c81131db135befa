"""``expclip embed``; from a clone also ``python -m training.embed``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .support.command import run


def main(argv: list[str] | None = None, prog: str = f"python -m {__spec__.name}") -> int:
    """Runs a command line, by default the process's own, and returns its exit code. Errors are raised."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Passes every face through CLIP and a teacher, once, into an embedding cache."
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a YAML file, or the name of one that comes along: mini, recommended, paper-b32 ...",
    )
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
    parser.add_argument(
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="recipe fields to change, such as training.max_steps=100",
    )
    arguments = parser.parse_args(argv)

    from .embeddings.fill import embed
    from .recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.override)
    embed(recipe, arguments.data, arguments.output, arguments.shard_size, streaming=arguments.streaming)
    return 0


if __name__ == "__main__":
    run(__spec__.name, main)
