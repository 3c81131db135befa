"""transformers.js in Node, as its users have it: from npm, into a folder that git ignores, once for all tests."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGE, VERSION = "@huggingface/transformers", "4.3.2"


def transformers_js(place: Path) -> Path:
    """The folder with `node_modules`, in `place`. Skips the test, and says why, without Node or npm's packages."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("transformers.js needs Node and npm, which are not installed")
    folder = place / f"transformers.js-{VERSION}"
    with FileLock(place / f"{folder.name}.lock"):
        if not (folder / "installed").exists():
            folder.mkdir(exist_ok=True)
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
            try:
                run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not give {PACKAGE} {VERSION} within five minutes")
            if run.returncode:
                pytest.skip(f"npm cannot install {PACKAGE} {VERSION}: {run.stderr.strip()[-200:]}")
            (folder / "installed").touch()
    return folder


def run_module(folder: Path, code: str, *arguments: object) -> str:
    """Runs the text of an ES module beside `node_modules`; what it printed."""
    module = folder / f"{uuid.uuid4().hex}.mjs"
    module.write_text(code)
    try:
        run = subprocess.run(["node", module, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    finally:
        module.unlink()
    assert run.returncode == 0, run.stderr
    return run.stdout
