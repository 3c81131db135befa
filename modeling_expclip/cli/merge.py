"""`expclip merge`: a checkpoint becomes a plain CLIP with the same predictions."""

from __future__ import annotations

import argparse

from ..system.terminal import printable
from .exit_codes import OK
from .options import add_model, add_output_folder
from .replace import output_folder


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "merge",
        help="fold the head into the backbone: a plain CLIPModel or MetaClip2Model, same predictions",
        description="Fold the head into the backbone: a plain CLIPModel or MetaClip2Model, same predictions.",
    )
    add_model(command)
    command.add_argument(
        "--onnx", action="store_true", help="also for transformers.js and ONNX Runtime: three graphs in onnx/"
    )
    command.add_argument("--open-clip", action="store_true", help="also for open_clip: its config and weights")
    add_output_folder(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..checkpoint.merge import merge

    with output_folder(arguments.output, (arguments.model,), arguments.overwrite) as output:
        merge(arguments.model, output, arguments.onnx, arguments.open_clip)
    print(f"wrote and verified {printable(str(arguments.output))}: a plain model, the head folded in")
    return OK
