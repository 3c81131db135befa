"""`expclip verify`: does a checkpoint still answer as it did when it was written?"""

from __future__ import annotations

import argparse
import sys

from ..system.terminal import one_line, printable
from .exit_codes import MISMATCH, OK
from .options import add_model


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("verify", help="recompute a checkpoint's golden outputs")
    add_model(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..checkpoint.folder import load_checkpoint, model_type_of
    from ..checkpoint.golden import verify
    from ..exporters.runtimes import exported_backend, load_image_tower

    model_type_of(arguments.model)  # a checkpoint that is not there is a wrong call, a damaged one a mismatch
    try:
        model, processor = load_checkpoint(arguments.model)
        differences = verify(model, processor, arguments.model)
        backend = exported_backend(arguments.model)
        if backend is not None:
            load_image_tower(arguments.model, backend)  # which compares its files with their sha256
    except (ValueError, OSError) as error:
        print(f"expclip verify: {one_line(error)}", file=sys.stderr)
        return MISMATCH
    for name, difference in differences.items():
        print(f"{printable(name)}: largest difference {difference:.2e}")
    if backend is not None:
        print(f"image tower for {backend}: the one that was exported, and it loads")
    print(f"{printable(arguments.model)} is what it was when it was written")
    return OK
