"""The wheel: what is in it, and that it works where nothing of this clone is."""

from __future__ import annotations

import csv
import email
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from modeling_expclip import MINI

ROOT = Path(__file__).parents[1]
FACE = ROOT / "space" / "examples" / "average-happiness.png"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the files that belong to the repository."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout, which knows the files that belong to it")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder / "source"], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_library_and_the_mini_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modeling_expclip").rglob("*.py")}
    mini = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in Path(MINI).iterdir() if path.is_file()}
    weights, tokenizer, code = "model.safetensors", "tokenizer.json", "modeling_expclip.py"
    assert {weights, tokenizer, code, "golden.safetensors"} <= {Path(name).name for name in mini}
    assert {name: sizes.get(name) for name in mini} == mini
    others = {name for name in sizes if ".dist-info/" not in name}
    assert others == library | {*mini, "modeling_expclip/py.typed"}


def test_its_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert (
            "expclip = modeling_expclip.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode().splitlines()
        )
    assert (metadata["Name"], metadata["License-Expression"]) == ("expclip", "MIT")
    assert metadata["Requires-Python"] == ">=3.10" and metadata.get_payload().startswith("# Exp-CLIP")
    assert {"training", "faces", "video", "export", "space"} <= set(metadata.get_all("Provides-Extra"))
    needed = {Requirement(line).name for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert "torch" in needed and "gradio" not in needed


def test_it_works_in_another_environment(wheel, tmp_path):
    """The environment has the wheel only; this one lends it torch and the rest."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    shutil.copyfile(FACE, tmp_path / "face.png")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def run(program: str, *arguments: str) -> str:
        command = [python.with_name(program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert str(packages) in run("python", "-c", "import modeling_expclip; print(modeling_expclip.__file__)")
    assert "classify" in run("expclip", "--help")
    run("expclip", "classify", "face.png", "--output", "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as rows:
        assert [row["label"] for row in csv.DictReader(rows)] == ["happiness"]
