"""The ``expclip`` command. Only argparse is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import MINI
from .prompts import LABEL_SETS, PROMPT_SETS, check_labels, label_set

OK, WRONG_CALL, INTERRUPTED = 0, 2, 130
NOTHING_CLASSIFIED = MISMATCH = 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="expclip", description="Zero-shot recognition of apparent facial expressions with Exp-CLIP."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("classify", help="label images of faces")
    command.add_argument("paths", nargs="+", metavar="PATH", help="image files, or folders of them")
    command.add_argument(
        "--model", default=MINI, help="checkpoint folder or Hub id (default: the embedded expclip-mini)"
    )
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument("--labels", metavar="A,B,C", help="own labels, separated by commas")
    chosen.add_argument("--label-set", choices=LABEL_SETS, help="or a benchmark's (default: rafdb)")
    command.add_argument(
        "--prompts", choices=PROMPT_SETS, default="ensemble10", help="prompt set (default: %(default)s)"
    )
    command.add_argument("--no-faces", action="store_true", help="the images are face crops already (the default)")
    command.add_argument("--output", type=Path, metavar="FILE", help="write all rows to a .csv, .json or .parquet file")
    command.set_defaults(run=_classify)

    command = commands.add_parser("convert", help="turn a CLIP and a released head into a checkpoint")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--clip", help="folder or Hub id of a CLIP; needs --head")
    source.add_argument("--released", choices=("b32", "b16", "l14"), help="download one of the paper's models")
    command.add_argument("--head", type=Path, metavar="FILE.pth", help="projection head, a state dict with mlp.weight")
    command.add_argument("--output", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=_convert)

    command = commands.add_parser("merge", help="fold the head into CLIP: a plain CLIPModel, same predictions")
    command.add_argument("--model", required=True, help="Exp-CLIP checkpoint folder or Hub id")
    command.add_argument("--output", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=_merge)

    command = commands.add_parser("verify", help="recompute a checkpoint's golden outputs")
    command.add_argument(
        "--model", default=MINI, help="checkpoint folder or Hub id (default: the embedded expclip-mini)"
    )
    command.set_defaults(run=_verify)

    arguments = parser.parse_args(argv)
    try:
        from transformers.utils import logging

        logging.disable_progress_bar()  # loading a checkpoint is not the work people wait for here
        return arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"expclip {arguments.command}: {error}", file=sys.stderr)
        return WRONG_CALL
    except KeyboardInterrupt:
        print(f"expclip {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _classify(arguments: argparse.Namespace) -> int:
    if arguments.labels is not None:
        labels = tuple(check_labels(label.strip() for label in arguments.labels.split(",")))
    else:
        labels = label_set(arguments.label_set or "rafdb")

    from . import tables

    reserved = sorted(set(labels) & set(tables.FIXED_COLUMNS))
    if reserved:
        raise ValueError(f"a label cannot be called like a column of the output: {', '.join(reserved)}")
    output = arguments.output
    if output is not None:
        tables.check_output(output)

    from .classify import classify, find_images

    rows = []
    try:
        for row in classify(find_images(arguments.paths), arguments.model, labels, arguments.prompts):
            rows.append(row)
    finally:  # an interrupted run keeps what it has
        if rows:
            print(tables.text_table(rows, labels))
        if rows and output is not None:
            tables.write(rows, labels, output)
            print(f"wrote {len(rows)} rows to {output}")
    failed = sum(row.error is not None for row in rows)
    if failed:
        print(f"{failed} of {len(rows)} images could not be classified", file=sys.stderr)
    return NOTHING_CLASSIFIED if failed == len(rows) else OK


def _convert(arguments: argparse.Namespace) -> int:
    if arguments.clip is not None and arguments.head is None:
        raise ValueError("--clip needs --head FILE.pth")
    if arguments.released is not None and arguments.head is not None:
        raise ValueError("--released brings its own head; leave --head out")

    from .convert import convert, convert_released

    if arguments.released is not None:
        convert_released(arguments.released, arguments.output)
    else:
        convert(arguments.clip, arguments.head, arguments.output)
    print(f"wrote and verified {arguments.output}")
    return OK


def _merge(arguments: argparse.Namespace) -> int:
    from .merge import merge

    merge(arguments.model, arguments.output)
    print(f"wrote and verified {arguments.output}: a plain CLIPModel")
    return OK


def _verify(arguments: argparse.Namespace) -> int:
    from .checkpoint import load_checkpoint, model_type_of
    from .golden import verify

    model_type_of(arguments.model)  # a checkpoint that is not there is a wrong call, a damaged one a mismatch
    try:
        model, processor = load_checkpoint(arguments.model)
        differences = verify(model, processor, arguments.model)
    except (ValueError, OSError) as error:
        print(f"expclip verify: {error}", file=sys.stderr)
        return MISMATCH
    for name, difference in differences.items():
        print(f"{name}: largest difference {difference:.2e}")
    print(f"{arguments.model} is what it was when it was written")
    return OK


if __name__ == "__main__":
    sys.exit(main())
