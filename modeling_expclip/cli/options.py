"""Options that several commands share, and mean the same in each."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import MINI


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=lambda name: MINI if name == "expclip-mini" and not Path(name).exists() else name,
        default=MINI,
        help="checkpoint folder or Hub id (default: expclip-mini, the embedded model)",
    )


def add_output_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write, which appears whole; folders above it are made",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")
