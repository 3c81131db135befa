"""An output folder that takes the place of an earlier one, once it is whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..system.files import check_apart


@contextmanager
def output_folder(output: Path, sources: Sequence[str | Path | None], overwrite: bool) -> Iterator[Path]:
    """Gives the folder to write a checkpoint to, which becomes `output` at the end.

    Without `overwrite`, or where nothing is there, that is `output` itself: who writes it refuses what
    is there. An earlier checkpoint keeps its name until the new one is written and verified.

    Args:
        output: as given with `--output`.
        sources: the folders, files and Hub ids it is made from.
        overwrite: as given with `--overwrite`.

    Raises:
        FileExistsError: for something that is there and is not to be replaced: without `overwrite`, and
            where it is no checkpoint, holds more than one, or is where the command runs.
        ValueError: where `output` is, holds or lies in one of `sources`.
    """
    place = Path(os.path.realpath(output))
    check_apart(place, *(Path(source) for source in sources if source is not None and Path(source).exists()))
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        yield output
        return
    if not overwrite:
        raise FileExistsError(f"{output} is there already; add --overwrite to replace it, or choose another --output")
    _check_ours(place, output)
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


def _check_ours(place: Path, output: Path) -> None:
    """Raises FileExistsError where `place` may hold what nobody could write again."""
    from ..checkpoint.golden import files_of

    if place == Path.cwd() or place in Path.cwd().parents:
        raise FileExistsError(f"{output} is, or holds, the folder this runs in, so --overwrite does not replace it")
    try:
        ours = files_of(place)
    except (ValueError, OSError) as error:  # VerificationError among them
        raise FileExistsError(
            f"{output} is no checkpoint that expclip wrote, so --overwrite does not replace it; choose another --output"
        ) from error
    if others := sorted(path.name for path in place.iterdir() if path.name not in ours):
        raise FileExistsError(
            f"{output} holds more than a checkpoint ({', '.join(others[:5])}), so --overwrite does not replace it; "
            "move that away, or choose another --output"
        )
