"""`expclip publish`: a verified checkpoint goes to the Hub."""

from __future__ import annotations

import argparse
import sys

from ..system.terminal import one_line
from .exit_codes import MISMATCH, OK


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "publish",
        help="verify a checkpoint and put it on the Hub, with its card",
        description="Verify a checkpoint and put it on the Hub, with its card.",
    )
    command.add_argument("--model", required=True, metavar="DIR", help="checkpoint folder")
    command.add_argument("--repo", required=True, metavar="ID", help="model repository, OWNER/NAME; made if need be")
    command.add_argument("--private", action="store_true", help="only for you or your organisation")
    command.add_argument("--dry-run", action="store_true", help="check, say what would go, and contact nobody")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..checkpoint.golden import VerificationError
    from ..checkpoint.publish import plan, upload

    try:
        planned = plan(arguments.model, arguments.repo, arguments.private)
    except VerificationError as error:
        print(f"expclip publish: nothing was published: {one_line(error)}", file=sys.stderr)
        return MISMATCH
    print(planned)
    if arguments.dry_run:
        print("verified; a dry run, so nothing was sent")
    else:
        print(f"verified and published: {upload(planned)}")
    return OK
