"""The npm packages that the page runs on: fetched with npm by the lock file's hashes, only what the page loads kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

_PAGE = Path(__file__).parent
_ORT = "onnxruntime-web"
_TOKENIZERS = "@huggingface/tokenizers"
# For each device the module that the page imports, and the runtime that this module loads
_RUNTIMES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"),
}


def write_vendor(folder: Path) -> dict[str, dict[str, str]]:
    """Writes the packages' files to ``folder`` and says for each device which ones it needs, with the folder's name.

    Raises OSError where npm is missing or fails.
    """
    folder.mkdir()
    runtimes = {}
    with tempfile.TemporaryDirectory() as temporary:
        modules = npm_packages(_PAGE, Path(temporary))
        shutil.copyfile(modules / _TOKENIZERS / "dist" / "tokenizers.min.mjs", folder / "tokenizers.mjs")
        for device, (module, runtime) in _RUNTIMES.items():
            names = {"module": module, "glue": f"{runtime}.mjs", "binary": f"{runtime}.wasm"}
            for name in names.values():
                shutil.copyfile(modules / _ORT / "dist" / name, folder / name)
            runtimes[device] = {key: f"{folder.name}/{name}" for key, name in names.items()}
            # Some servers would unpack a file that ends in .gz on the way
            packed = f"{device}.packed"
            (folder / names["binary"]).rename(folder / packed)
            runtimes[device]["binary"] = f"{folder.name}/{packed}"
        (folder / "LICENSES.txt").write_text(_licences(modules), encoding="utf-8")
    return runtimes


def npm_packages(lock: Path, place: Path) -> Path:
    """Installs what ``lock``, a folder with package.json and package-lock.json, lists into ``place``; returns ``node_modules``.

    None of the packages' scripts runs. Raises OSError where npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("the page's packages come from npm, which is not installed; install Node.js")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(lock / name, place / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)  # noqa: S603, fixed words
    if done.returncode:
        raise OSError(f"npm could not fetch the page's packages: {' '.join(done.stderr.split())[:300]}")
    return place / "node_modules"


def _licences(modules: Path) -> str:
    parts = []
    for package in (_ORT, _TOKENIZERS):
        about = json.loads((modules / package / "package.json").read_text(encoding="utf-8"))
        text = modules / package / "LICENSE"
        parts.append(f"{package} {about['version']}, {about['license']}\n")
        parts.append(text.read_text(encoding="utf-8") if text.is_file() else "")
    return "\n".join(parts)
