"""Assembles the page that needs no server: ``python -m space.browser.assemble --output dist/browser``.

A checkpoint, the face detector's weights and two npm packages come in; a folder of static files leaves, which any web server can
serve, or which can be pushed to the Hub as a static Space.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from modeling_expclip import MINI
from modeling_expclip.system.terminal import one_line, printable

from ..build import copy_parts
from .model import write_model
from .vendor import write_vendor

_PAGE = Path(__file__).parent
_SPACE = _PAGE.parent
_GROUP = _SPACE / "assets" / "average-faces.webp"  # what visitors see first
_CODE = ("faces", "load", "main", "pixels", "prompts", "recognition", "results", "start")
_PARTS = ["README.md", "index.html", "style.css", *(f"{name}.js" for name in _CODE)]


def assemble(output: Path, model: str = MINI, yunet: Path | None = None) -> dict[str, Any]:
    """Writes the page's folder, as `space.build` writes the other Space's.

    Args:
        output: of an earlier build only what the page consists of is replaced.
        model: Exp-CLIP or plain CLIP checkpoint, folder or Hub id, that squashes images bilinearly.
        yunet: the face detector's weights; by default the ones that the library uses. Without any, the page
            takes each picture for one face, and says so.

    Returns:
        what `model/about.json` says.

    Raises:
        ValueError: no such model, other weights than YuNet's, or an output that holds other things.
        OSError: a file is missing, npm is, or the packages cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        for name in _PARTS:
            shutil.copyfile(_PAGE / name, stage / name)
        shutil.copyfile(_SPACE / "assets" / "favicon.svg", stage / "favicon.svg")
        shutil.copytree(_SPACE / "examples", stage / "examples")
        shutil.copyfile(_GROUP, stage / "examples" / _GROUP.name)
        about = write_model(stage / "model", model, yunet)
        about["runtimes"] = write_vendor(stage / "vendor")
        about["examples"] = [_GROUP.name, *sorted(path.name for path in (_SPACE / "examples").iterdir())]
        for runtime in about["runtimes"].values():
            runtime |= _packed(stage / runtime["binary"])
        about["files"] = {
            str(path.relative_to(stage)): _described(path) for path in sorted((stage / "model").iterdir())
        }
        (stage / "model" / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        copy_parts([stage / name for name in (*_PARTS, "favicon.svg", "examples", "model", "vendor")], output)
    return about


def _packed(binary: Path) -> dict[str, Any]:
    """Compresses a runtime in place, to about a quarter: not every web server does."""
    binary.write_bytes(gzip.compress(binary.read_bytes(), mtime=0))
    return _described(binary)


def _described(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Assemble the page that needs no server as a folder of its own.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default=MINI, metavar="FOLDER_OR_HUB_ID", help="default: the embedded expclip-mini")
    parser.add_argument("--yunet", type=Path, metavar="FILE", help="the face detector's ONNX file; default: the Hub's")
    options = parser.parse_args()
    try:
        about = assemble(options.output, options.model, options.yunet)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"space.browser.assemble: {one_line(error)}\n")
    if not about["faces"]:
        print("no face detector was found, so the page takes each picture for one face; give one with --yunet FILE")
    size = sum(file["bytes"] for file in about["files"].values()) / 1e6
    shown = printable(str(options.output))
    print(f"wrote {shown}, with {size:.1f} MB of model; try it: python -m http.server --directory {shown}")


if __name__ == "__main__":
    main()
