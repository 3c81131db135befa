"""`expclip export`: a checkpoint's image tower for another runtime."""

from __future__ import annotations

import argparse

from ..system.terminal import printable
from .exit_codes import OK
from .options import add_model, add_output_folder
from .replace import output_folder


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "export",
        help="merge, and compile the image tower for OpenVINO or ONNX Runtime",
        description="Merge, and compile the image tower for OpenVINO or ONNX Runtime.",
    )
    add_model(command)
    command.add_argument("--backend", required=True, choices=("openvino", "onnx"), help="what is to run it")
    command.add_argument(
        "--precision", choices=("fp32", "bf16", "int8"), default="fp32", help="of its weights (default: %(default)s)"
    )
    command.add_argument(
        "--calibration", nargs="+", default=(), metavar="PATH", help="face images for int8: files, folders"
    )
    add_output_folder(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..exporters.export import export

    with output_folder(arguments.output, (arguments.model, *arguments.calibration), arguments.overwrite) as output:
        export(arguments.model, output, arguments.backend, arguments.precision, arguments.calibration)
    written = printable(str(arguments.output))
    print(f"wrote and verified {written}: image tower for {arguments.backend}, {arguments.precision}")
    return OK
