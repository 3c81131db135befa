"""`expclip convert`: a CLIP and a head become a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..system.terminal import printable
from .exit_codes import OK
from .options import add_output_folder
from .replace import output_folder


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "convert",
        help="turn a CLIP and a released head into a checkpoint",
        description="Turn a CLIP and a released head into a checkpoint.",
    )
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--clip", help="folder or Hub id of a CLIP, MetaCLIP 2 or SigLIP; needs --head")
    source.add_argument("--released", choices=("b32", "b16", "l14"), help="download one of the paper's models")
    command.add_argument("--head", type=Path, metavar="FILE.pth", help="projection head, a state dict with mlp.weight")
    add_output_folder(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.clip is not None and arguments.head is None:
        raise ValueError("--clip needs --head FILE.pth")
    if arguments.released is not None and arguments.head is not None:
        raise ValueError("--released brings its own head; leave --head out")

    from ..checkpoint.convert import convert, convert_released

    with output_folder(arguments.output, (arguments.clip, arguments.head), arguments.overwrite) as output:
        if arguments.released is not None:
            convert_released(arguments.released, output)
        else:
            convert(arguments.clip, arguments.head, output)
    print(f"wrote and verified {printable(str(arguments.output))}")
    return OK
