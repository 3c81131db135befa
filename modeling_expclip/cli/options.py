"""Options that several commands share, and mean the same in each."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import MINI
from ..media.storage import local_path


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=lambda name: MINI if name == "expclip-mini" and not Path(name).exists() else name,
        default=MINI,
        help="checkpoint folder or Hub id (default: expclip-mini, the embedded model)",
    )


def add_faces(command: argparse.ArgumentParser) -> None:
    """Adds `--faces`, `--margin`, `--align` and `--detector`."""
    add = command.add_argument_group("faces").add_argument
    add(
        "--faces",
        action=argparse.BooleanOptionalAction,
        help="find faces first, numbered from 0, the largest first (default: inputs are face crops, and you are told if "
        "they do not look it)",
    )
    add("--margin", type=float, help="room left around a face, as a share of its size (default: 0)")
    add("--align", action="store_true", help="turn faces so that the eyes are level")
    add(
        "--detector",
        metavar="auto|yunet|mtcnn|FILE",
        help="what finds the faces (default: auto, which is YuNet from $EXPCLIP_YUNET, or from the Hub if it answers within five "
        "seconds, else MTCNN, which needs no network); FILE: YuNet's weights",
    )


def check_faces(arguments: argparse.Namespace) -> None:
    """Raises ValueError for options of `add_faces` that would do nothing, or could only be refused late."""
    from ..media.faces import MAX_MARGIN

    for name in ("margin", "align", "detector"):
        if not arguments.faces and getattr(arguments, name) not in (None, False):
            raise ValueError(f"--{name} is about the faces in photos; add --faces")
    if arguments.margin is not None and not 0 <= arguments.margin <= MAX_MARGIN:
        raise ValueError(f"--margin {arguments.margin}: the margin around a face must lie between 0 and {MAX_MARGIN}")


def add_output_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output",
        type=local_path,
        required=True,
        metavar="DIR",
        help="folder to write, which appears whole; folders above it are made",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")
