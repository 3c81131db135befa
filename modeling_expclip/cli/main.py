"""The ``expclip`` command. Only argparse is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import MINI
from ..prompts import LABEL_SETS, PROMPT_SETS, check_labels, label_set
from ..system.terminal import lasting_output, one_line, printable
from . import demo, training

OK, WRONG_CALL, INTERRUPTED = 0, 2, 130
NOTHING_CLASSIFIED = MISMATCH = 1


def main(argv: list[str] | None = None) -> int:
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_classify(commands)

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

    command = commands.add_parser("export", help="merge, and compile the image tower for OpenVINO or ONNX Runtime")
    command.add_argument(
        "--model", default=MINI, help="checkpoint folder or Hub id (default: the embedded expclip-mini)"
    )
    command.add_argument("--backend", required=True, choices=("openvino", "onnx"))
    command.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    command.add_argument(
        "--calibration", nargs="+", default=(), metavar="PATH", help="face images for int8: files, folders"
    )
    command.add_argument("--output", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=_export)

    command = commands.add_parser("verify", help="recompute a checkpoint's golden outputs")
    command.add_argument(
        "--model", default=MINI, help="checkpoint folder or Hub id (default: the embedded expclip-mini)"
    )
    command.set_defaults(run=_verify)

    command = commands.add_parser("publish", help="verify a checkpoint and put it on the Hub, with its card")
    command.add_argument("--model", required=True, metavar="DIR", help="checkpoint folder")
    command.add_argument("--repo", required=True, metavar="ID", help="model repository, OWNER/NAME; made if need be")
    command.add_argument("--private", action="store_true", help="only for you or your organisation")
    command.add_argument("--dry-run", action="store_true", help="check, say what would go, and contact nobody")
    command.set_defaults(run=_publish)

    training.add(commands)
    demo.add(commands)
    return parser


def _add_classify(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("classify", help="label faces in pictures, photos, folders and videos")
    add = command.add_argument
    add("paths", nargs="+", metavar="PATH", help="images, videos, or folders of them")
    add("--model", default=MINI, help="checkpoint folder or Hub id (default: the embedded expclip-mini)")
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument("--labels", metavar="A,B,C", help="own labels, separated by commas")
    chosen.add_argument("--label-set", choices=LABEL_SETS, help="or a benchmark's (default: rafdb)")
    add("--prompts", choices=PROMPT_SETS, default="ensemble10", help="prompt set (default: %(default)s)")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="write all rows to a .csv, .json or .parquet file; a stopped run goes on",
    )
    add("--overwrite", action="store_true", help="replace the file of --output and pictures of --plot that are there")

    faces = command.add_argument_group("faces")
    add = faces.add_argument
    add(
        "--faces",
        action=argparse.BooleanOptionalAction,
        help="find faces first (default: inputs are face crops, and you are told if they do not look it)",
    )
    add("--margin", type=float, help="around a face, as a share of its size (default: 0)")
    add("--align", action="store_true", help="turn faces so that the eyes are level")
    add("--detector", metavar="FILE", help="YuNet's weights (default: $EXPCLIP_YUNET, else from the Hub)")

    video = command.add_argument_group("video")
    add = video.add_argument
    add("--fps", type=float, help="frames looked at for each second (default: 4)")
    add(
        "--window", type=float, metavar="S", help="one row for each face and S seconds, from the mean of its embeddings"
    )
    add(
        "--clip",
        choices=("uniform", "paper"),
        help="one row for a whole video, from 16 frames; paper: of clips of 16 frames or fewer only the first, as its code does",
    )
    add("--frames-fps", type=float, metavar="N", help="each folder is one video of frames, N for each second")
    add("--plot", type=Path, metavar="DIR", help="a PNG timeline of each video, in this folder")

    speed = command.add_argument_group("speed")
    add = speed.add_argument
    add("--batch-size", type=int, default=16, metavar="N", help="faces a forward pass (default: %(default)s)")
    add("--workers", type=int, default=2, metavar="N", help="threads that read and crop (default: %(default)s)")
    add(
        "--backend",
        choices=("torch", "openvino", "onnx"),
        help="of an exported model (default: what it was exported for)",
    )
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="of torch (default: %(default)s)")
    add("--compile", action="store_true", help="torch.compile the image tower")
    command.set_defaults(run=_classify)


def _classify(arguments: argparse.Namespace) -> int:
    if arguments.labels is not None:
        labels = tuple(check_labels(label.strip() for label in arguments.labels.split(",")))
    else:
        labels = label_set(arguments.label_set or "rafdb")
    from .classify import run_classify

    return NOTHING_CLASSIFIED if run_classify(arguments, labels) == 0 else OK


def _convert(arguments: argparse.Namespace) -> int:
    if arguments.clip is not None and arguments.head is None:
        raise ValueError("--clip needs --head FILE.pth")
    if arguments.released is not None and arguments.head is not None:
        raise ValueError("--released brings its own head; leave --head out")

    from ..checkpoint.convert import convert, convert_released

    if arguments.released is not None:
        convert_released(arguments.released, arguments.output)
    else:
        convert(arguments.clip, arguments.head, arguments.output)
    print(f"wrote and verified {printable(str(arguments.output))}")
    return OK


def _merge(arguments: argparse.Namespace) -> int:
    from ..checkpoint.merge import merge

    merge(arguments.model, arguments.output)
    print(f"wrote and verified {printable(str(arguments.output))}: a plain CLIPModel")
    return OK


def _export(arguments: argparse.Namespace) -> int:
    from ..exporters.export import export

    export(arguments.model, arguments.output, arguments.backend, arguments.precision, arguments.calibration)
    output = printable(str(arguments.output))
    print(f"wrote and verified {output}: image tower for {arguments.backend}, {arguments.precision}")
    return OK


def _verify(arguments: argparse.Namespace) -> int:
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


def _publish(arguments: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
