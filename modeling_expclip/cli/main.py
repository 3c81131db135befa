"""The `expclip` command: its subcommands, and errors of theirs as one line.

Only argparse is imported until a subcommand runs, so that help and wrong calls do not wait for torch.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

from ..system.terminal import lasting_output, one_line
from . import classify, convert, demo, explain, export, merge, publish, training, verify
from .exit_codes import INTERRUPTED, WRONG_CALL

COMMANDS = (  # modules with `add`, in the order of the help
    classify,
    explain,
    convert,
    merge,
    export,
    verify,
    publish,
    training,
    demo,
)


def main(argv: list[str] | None = None) -> int:
    """Runs a command line, by default the process's own, and returns its exit code."""
    with lasting_output() as check_output:
        arguments = _parser().parse_args(argv)
        try:
            from transformers.utils import logging

            logging.disable_progress_bar()  # loading a checkpoint is not the work people wait for here
            logging.set_verbosity_error()  # what transformers warns of when it loads one is an error here, and said in a line
            code = arguments.run(arguments)
            check_output()
            return code
        except (ValueError, OSError, ImportError) as error:
            print(f"expclip {arguments.command}: {one_line(error)}", file=sys.stderr)
            return WRONG_CALL
        except KeyboardInterrupt:
            print(f"expclip {arguments.command}: interrupted", file=sys.stderr)
            return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="expclip", description="Zero-shot recognition of apparent facial expressions with Exp-CLIP."
    )
    parser.add_argument(
        "--version", action="version", version=_versions(), help="show the versions of expclip and of what it runs on"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def _versions() -> str:
    """Read from the packages' metadata, which imports none of them."""
    found = {}
    for package in ("expclip", "transformers", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a clone that is not installed
            found[package] = "(not installed)"
    return ", ".join(f"{package} {number}" for package, number in found.items())


if __name__ == "__main__":
    sys.exit(main())
