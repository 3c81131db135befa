"""Assembles a folder that is a whole Space: ``python -m space.build --output dist/space``.

It holds the app, its examples and the library with the embedded model, needs nothing of this clone,
and can be pushed to the Hub as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import modeling_expclip
from modeling_expclip.system.files import check_apart
from modeling_expclip.system.plain_yaml import read_front_matter
from modeling_expclip.system.terminal import one_line, printable

_SPACE = Path(__file__).parent
_LIBRARY = Path(modeling_expclip.__file__).parent
# The card first: it says of a build that was stopped that the rest is one's own.
_CARD = "README.md"
_PARTS = [_SPACE / name for name in (_CARD, "app.py", "assets", "examples", "page", "requirements.txt")] + [_LIBRARY]


def build(output: Path) -> None:
    """Writes the folder. Raises as `copy_parts` does."""
    copy_parts(_PARTS, output)


def copy_parts(parts: list[Path], output: Path) -> None:
    """Writes a Space's folder from files and folders, the card ``README.md`` first.

    Of an earlier build only what the app consists of is replaced; a ``.git`` and what else is there stays.

    Raises ValueError or OSError, before anything is written or deleted, for a folder that is not
    apart from the sources or in which something else has the name of a part of the app.
    """
    check_apart(output, _SPACE, _LIBRARY)
    place = Path(os.path.realpath(output))
    _check_what_is_there(output, [place / part.name for part in parts], parts[0])
    place.mkdir(parents=True, exist_ok=True)
    for part in parts:
        target = place / part.name
        if target.is_dir():
            shutil.rmtree(target)
        # A file is not written into either: it may be the same as one elsewhere, by a hard link.
        target.unlink(missing_ok=True)
        if part.is_dir():
            shutil.copytree(part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(part, target)


def _check_what_is_there(output: Path, targets: list[Path], card: Path) -> None:
    """Raises ValueError where what would be replaced is not from an earlier build, or leads elsewhere.

    Its card shows what is from one.
    """
    there = [target for target in targets if os.path.lexists(target)]
    links = [target.name for target in there if target.is_symlink()]
    if links:
        raise ValueError(
            f"{output} holds links, and nothing is written where they lead: {', '.join(links)}; remove them"
        )
    found, own = (_metadata(path) for path in (targets[0], card))
    # A Space that was made on the Hub has a card, of another title, and nothing of an app yet.
    known = found.get("title") == own["title"] or [target.name for target in there] == [_CARD]
    if there and not (known and found.get("sdk") == own["sdk"]):
        names = ", ".join(target.name for target in there)
        raise ValueError(
            f"{output} holds what is not from an earlier build and would be replaced: {names}; choose another --output"
        )


def _metadata(card: Path) -> dict[str, Any]:
    return read_front_matter(card.read_text(encoding="utf-8")) if card.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description="Assemble the Space as a folder of its own.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    output = parser.parse_args().output
    try:
        build(output)
    except (ValueError, OSError) as error:
        parser.exit(2, f"space.build: {one_line(error)}\n")
    shown = printable(str(output))
    print(f"wrote {shown}; try it: cd {shown} && pip install -r requirements.txt && python app.py")


if __name__ == "__main__":
    main()
