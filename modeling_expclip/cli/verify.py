"""`expclip verify`: does a checkpoint still answer as it did when it was written?"""

from __future__ import annotations

import argparse
import sys

from ..system.terminal import one_line, printable
from .exit_codes import MISMATCH, OK
from .options import add_model


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "verify",
        help="check that a checkpoint answers as it did when it was written",
        description="Check that a checkpoint answers as it did when it was written, from the outputs stored in it.",
    )
    add_model(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..checkpoint.backbones import PLAIN
    from ..checkpoint.golden import VerificationError
    from ..checkpoint.load import model_type_of
    from ..checkpoint.verify import verify
    from ..exporters.agreement import not_installed
    from ..exporters.runtimes import exported_backend

    try:
        differences = verify(arguments.model)  # a checkpoint that is not there is a wrong call: an OSError
    except VerificationError as error:
        print(f"expclip verify: {one_line(error)}", file=sys.stderr)
        return MISMATCH
    for name, difference in differences.items():
        print(f"{printable(name)}: largest difference {difference:.2e}")
    model_type = model_type_of(arguments.model)
    if model_type in PLAIN and (absent := not_installed(arguments.model, model_type)):
        print(f"not asked, for not installed or too old: {', '.join(absent)}")
    if backend := exported_backend(arguments.model):
        print(f"image tower for {backend}: the one that was exported, and it loads")
    print(f"{printable(arguments.model)} is what it was when it was written")
    return OK
