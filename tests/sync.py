"""`make sync`: the embedded model gets copies of the remote code and of the model card.

The files at the root of the library but `__init__.py` are remote code. The embedded model, a CLIP, gets those that every checkpoint
carries, and not those of other backbones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from modeling_expclip import MINI

LIBRARY = Path(__file__).parents[1] / "modeling_expclip"
BACKBONES = {
    "metaclip2_expclip.py",
    "siglip_expclip.py",
}  # each is carried by checkpoints of one other backbone than CLIP
CODE = {file.name for file in LIBRARY.glob("*.py")} - {"__init__.py"} - BACKBONES


def originals() -> dict[str, Path]:
    """By the name that it has in the embedded model, each file that is copied there."""
    return {"README.md": LIBRARY.parent / "model_card.md"} | {name: LIBRARY / name for name in sorted(CODE)}


def leftovers() -> list[Path]:
    """Code in the embedded model that is not at the root of the library any more."""
    return [file for file in sorted(Path(MINI).glob("*.py")) if file.name not in CODE]


if __name__ == "__main__":
    for name, original in originals().items():
        shutil.copyfile(original, Path(MINI, name))
    for file in leftovers():
        file.unlink()
