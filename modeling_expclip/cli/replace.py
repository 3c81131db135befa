"""An output folder that takes the place of an earlier one, once it is whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..system.files import check_apart

_MADE_BY_US = ("config.json", "golden.safetensors")


@contextmanager
def output_folder(output: Path, source: str | None, overwrite: bool) -> Iterator[Path]:
    """Gives the folder to write a checkpoint to, which becomes `output` at the end.

    Without `overwrite`, or where nothing is there, that is `output` itself: who writes it refuses what
    is there. An earlier checkpoint keeps its name until the new one is written and verified.

    Args:
        output: as given with `--output`.
        source: the checkpoint it is made from, if any.
        overwrite: as given with `--overwrite`.

    Raises:
        FileExistsError: for something that is there and is not to be replaced, or is no checkpoint.
        ValueError: where `output` is, holds or lies in `source`.
    """
    place = Path(os.path.realpath(output))
    if source is not None and Path(source).is_dir():
        check_apart(place, Path(source))
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        yield output
        return
    if not overwrite:
        raise FileExistsError(f"{output} is there already; add --overwrite to replace it, or choose another --output")
    if not all((place / name).is_file() for name in _MADE_BY_US):
        raise FileExistsError(
            f"{output} is no checkpoint that expclip wrote, so --overwrite does not replace it; choose another --output"
        )
    new, old = (place.with_name(f".{place.name}.{kind}-{uuid.uuid4().hex[:12]}") for kind in ("new", "old"))
    try:
        yield new
        place.rename(old)
        try:
            new.rename(place)
        except BaseException:
            old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
