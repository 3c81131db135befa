"""`expclip embed`, `expclip train`, `expclip benchmark`: commands of the training package, which is imported when one of them runs."""

from __future__ import annotations

import argparse
import importlib

PACKAGE = "expclip_training"  # the repository's folder training/, under the name it is installed by
COMMANDS = {
    "embed": "pass faces through CLIP and a teacher, once, into an embedding cache",
    "train": "train a projection head from an embedding cache",
    "benchmark": "evaluate models zero-shot on labelled faces",
}


def add(commands: argparse._SubParsersAction) -> None:
    for name, summary in COMMANDS.items():
        # No argument holds a NUL, so all of them, --help too, are left to the command itself.
        command = commands.add_parser(name, help=summary, add_help=False, prefix_chars="\0")
        command.add_argument("arguments", nargs=argparse.REMAINDER, help="see --help of the command")
        command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    name = arguments.command
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
        return module.main(arguments.arguments, prog=f"expclip {name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(f"{PACKAGE}."):  # ours, and so a broken installation and no missing extra
            raise
        clone = f"; in a clone, `python -m training.{name}` is the same" if error.name == PACKAGE else ""
        raise ImportError(f"{error.name} is not installed: pip install 'expclip[training]'{clone}") from error
