"""`expclip explain`: photos and labels in, for each face and label a PNG of where in the face it is seen."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from ..media.label_sets import Words
from ..media.storage import local_path
from ..system.files import distinct_names, file_id, whole_file
from ..system.terminal import printable
from .exit_codes import NOTHING_CLASSIFIED, OK
from .options import add_faces, add_model, check_faces
from .words import add_words, words_of

_LONGEST_PHOTO, _LONGEST_LABEL = 120, 80  # bytes of a name


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "explain",
        help="draw where in a face each label is seen",
        description="Draw where in a face each label is seen, against the other labels: a PNG for each face and label, of the photo in "
        "grey and what speaks for the label in colour, yellow where most does. One label alone is explained against the eight basic "
        "expressions, as all are with --multi-label.",
    )
    paths = command.add_argument(
        "paths",
        nargs="+",
        action="extend",
        metavar="IMAGE",
        help="images, folders of them, patterns such as 'faces/*.jpg'",
    )
    add_model(command)
    add_words(command, paths)
    command.add_argument(
        "--output",
        required=True,
        type=local_path,
        metavar="DIR",
        help="folder for the PNGs, called IMAGE.LABEL.png or, with --faces, IMAGE.face0.LABEL.png, each of which appears whole; "
        "folders above it are made",
    )
    command.add_argument("--overwrite", action="store_true", help="replace PNGs that are there")
    add_faces(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    words = Words.choose(**words_of(arguments))
    check_faces(arguments)

    from ..media.analyzer import FaceAnalyzer
    from ..media.classify import NO_FACE
    from ..media.crop_check import crops_warning
    from ..media.detectors import FaceDetector
    from ..media.explain import directions, draw_heat, face_maps
    from ..media.faces import DEFAULT_MARGIN
    from ..media.images import open_image
    from ..media.sources import find_sources, first_images, named

    sources = find_sources(arguments.paths)
    folder = arguments.output
    photos = distinct_names({source.path: Path(source.path).name for source in sources}, _LONGEST_PHOTO)
    # Without dots, so that no two of a run are called the same, whatever photos and labels are called.
    labels = distinct_names({label: re.sub(r"[^\w -]", "_", label) for label in words.labels}, _LONGEST_LABEL)
    wanted_names = {f"{photo}.{label}.png" for photo in photos.values() for label in labels.values()}
    _prepare(folder, wanted_names, arguments.overwrite, [*arguments.paths, *photos])
    detector = FaceDetector(arguments.detector or "auto") if arguments.faces else None
    if detector is not None:
        print(detector, file=sys.stderr)
    # torch, also for an exported checkpoint: other runtimes have no gradients.
    pipeline = FaceAnalyzer(arguments.model, faces=False, backend="torch").pipeline
    wanted = directions(pipeline, words)
    margin = DEFAULT_MARGIN if arguments.margin is None else arguments.margin
    if arguments.faces is None and (warning := crops_warning(first_images(sources, 1, None))) is not None:
        print(f"{warning}: add --faces to find faces first, or --no-faces if they are crops", file=sys.stderr)
    written = 0
    for source in sources:
        error = source.error
        if error is None and source.kind != "image":
            error = f"ValueError: this is no image but a {source.kind}, which is not explained"
        faces: list = []
        if error is None:
            try:
                photo = open_image(source.path)
                faces = [None] if detector is None else detector(photo)
                error = None if faces else NO_FACE
            except Exception as damage:  # decoders of damaged files raise whatever they please
                error = named(damage)
        try:
            for number, face in enumerate(faces):
                name = photos[source.path] + ("" if face is None else f".face{number}")
                for label, heat in zip(
                    labels.values(), face_maps(pipeline, photo, face, wanted, margin, arguments.align)
                ):
                    file = folder / f"{name}.{label}.png"
                    with whole_file(file) as part:
                        draw_heat(photo, heat).save(part, "PNG")
                    print(printable(str(file)))
                    written += 1
        except ValueError as refused:
            error = named(refused)
        if error is not None:
            print(f"{printable(source.path)}: {printable(error)}", file=sys.stderr)
    print(f"wrote {written} PNGs to {printable(str(folder))}")
    return OK if written else NOTHING_CLASSIFIED


def _prepare(folder: Path, wanted: set[str], overwrite: bool, inputs: list[str]) -> None:
    """Makes the folder. Raises FileExistsError where it is a file, or holds PNGs that would be replaced, and ValueError where
    these, or the whole folder, are among the ``inputs``."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(f"--output {folder} is a file; name a folder")
    # Some file systems do not tell A from a.
    alike = {name.casefold() for name in wanted}

    def would_be_written(name: str) -> bool:
        """A photo itself may be called as a face of another is."""
        name = name.casefold()
        return name in alike or re.sub(r"\.face\d+(?=\.[^.]*\.png$)", "", name) in alike

    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    there = [name for name in names if would_be_written(name)]
    read = {file_id(path) for path in inputs} - {None}
    mixed = [path for path in (folder, *(folder / name for name in there)) if file_id(path) in read]
    if mixed:
        raise ValueError(f"--output {folder}: {mixed[0]} is an input; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        return
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise FileExistsError(
            f"--output: {folder / there[0]}{more} would be replaced; add --overwrite, or choose another folder"
        )
