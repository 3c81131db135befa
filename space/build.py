"""Assembles a folder that is a whole Space: ``python -m space.build --output dist/space``.

It holds the app, its examples and the library with the embedded model, needs nothing of this clone, and can be pushed to the
Hub as it is.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

_SPACE = Path(__file__).parent
_LIBRARY = _SPACE.parent / "modeling_expclip"
_STAYS_HERE = {"__init__.py", Path(__file__).name, "__pycache__"}


def build(output: Path) -> None:
    """Writes the folder. Of what is there already, only what the app consists of is replaced; a ``.git`` stays."""
    output.mkdir(parents=True, exist_ok=True)
    for source in [*_SPACE.iterdir(), _LIBRARY]:
        if source.name in _STAYS_HERE:
            continue
        target = output / source.name
        if target.is_dir():
            shutil.rmtree(target)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Assemble the Space as a folder of its own.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    output = parser.parse_args().output
    build(output)
    print(f"wrote {output}; try it: cd {output} && pip install -r requirements.txt && python app.py")


if __name__ == "__main__":
    main()
