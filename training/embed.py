"""``expclip embed``; from a clone also ``python -m training.embed``."""

from __future__ import annotations

import argparse

from modeling_expclip.media.storage import local_path

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
    parser.add_argument("--output", type=local_path, required=True, metavar="CACHE", help="the embedding cache")
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
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: tasks of a Ray cluster ($RAY_ADDRESS, else of this machine) share the shards out; it needs the extra ray "
        "(default: %(default)s, which torchrun may start many of)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="tasks of --engine ray (default: one for each GPU, else each processor)",
    )
    arguments = parser.parse_args(argv)

    if arguments.engine == "local" and arguments.processes is not None:
        raise ValueError("--processes is for a cluster; add --engine ray, or start torchrun --nproc_per_node N")

    from .recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.override)
    options = {"sources": arguments.data, "shard_size": arguments.shard_size, "streaming": arguments.streaming}
    if arguments.engine == "ray":
        from .embeddings.on_ray import embed_on_ray

        embed_on_ray(recipe, arguments.processes, arguments.output, **options)
    else:
        from .embeddings.fill import embed

        embed(recipe, output=arguments.output, **options)
    return 0


if __name__ == "__main__":
    run(__spec__.name, main)
