"""A model and its processor become a checkpoint folder, whole or not at all.

The folder is built beside its destination, verified there, and only then given its name: a failure leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, ProcessorMixin

from ..system.files import check_apart
from . import golden
from .processors import save_processor
from .verify import verify_outputs


def save_checkpoint(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    output: str | Path,
    card: str,
    reference: PreTrainedModel | None = None,
) -> None:
    """Writes a checkpoint folder, loads it again and verifies what it answers.

    Args:
        model: an Exp-CLIP, whose code is written too, or a plain CLIP.
        processor: its processor.
        output: folder to write; nothing, or an empty folder, may be there.
        card: text of README.md.
        reference: model whose logits the folder must reproduce, by default `model` itself.

    Raises:
        ValueError, OSError: as `check_output`; VerificationError where the written folder answers
            otherwise than `reference`. Nothing is left at `output` then.
    """
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        save_processor(processor, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        golden.write(reference or model, processor, folder)
        verify_outputs(folder)


@contextmanager
def whole_folder(output: str | Path) -> Iterator[Path]:
    """Gives a temporary folder beside `output` that takes its name at the end, or disappears on any error."""
    check_output(output)
    output = Path(os.path.realpath(output))  # not a link, whose name a folder cannot take
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp and safetensors make what only their owner can read
        for file in part.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        if output.exists():
            output.rmdir()
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_output(output: str | Path, source: str | Path | None = None) -> None:
    """Checks, before any work, that a checkpoint made from `source` can become the folder `output`.

    Links and `..` are followed first. Nothing is written.

    Raises:
        ValueError: `output` is, contains or lies in the folder `source`.
        OSError: something is there already, or nothing can be written there.
    """
    place = Path(os.path.realpath(output))
    if source is not None and Path(source).is_dir():
        check_apart(place, Path(source))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"{output} exists and is not an empty folder; choose another --output or remove it first")
    if place == Path.cwd():
        raise FileExistsError(f"--output {output} is the folder this runs in, which cannot be replaced; name a new one")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"--output {output}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"--output {output}: nothing can be written to {above}")


def name_of(source: str | Path) -> str:
    """What a checkpoint (folder or Hub id) is called, also where it was given as `.` or `..`."""
    return Path(os.path.realpath(source) if Path(source).is_dir() else source).name
