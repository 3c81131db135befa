"""What is pushed to the Hub: metadata, requirements, and a folder that needs nothing of this clone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement

from space.build import build

from .conftest import ROOT

SPACE = ROOT / "space"


def requirements() -> dict[str, Requirement]:
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_metadata():
    card = SpaceCard.load(SPACE / "README.md")
    data = card.data
    assert (data.title, data.sdk, data.app_file, data.license) == ("Exp-CLIP", "gradio", "app.py", "mit")
    assert (SPACE / data.app_file).is_file()
    assert len(data.short_description) <= 60
    assert re.fullmatch(r"\d+\.\d+\.\d+", data.sdk_version) and data.sdk_version in requirements()["gradio"].specifier
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data.to_dict()["colorFrom"], data.to_dict()["colorTo"]} <= colours
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", model) for model in data.models)
    assert all(isinstance(tag, str) for tag in data.tags)


def test_the_detector_that_is_fetched_beforehand_is_the_one_in_use():
    from modeling_expclip import faces

    [entry] = SpaceCard.load(SPACE / "README.md").data.to_dict()["preload_from_hub"]
    assert entry.split() == [faces._REPO, faces._FILE, faces._REVISION]


def test_requirements_are_what_was_tested():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    tested = {requirement.name: str(requirement.specifier) for requirement in map(Requirement, lines)}
    assert {name: str(needed.specifier) for name, needed in requirements().items()} == {
        name: tested[name] for name in requirements()
    }


def test_requirements_hold_the_librarys():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"]):
        [version] = requirements()[needed.name].specifier
        assert needed.specifier.contains(version.version), needed.name
    assert {"av", "gradio", "matplotlib", "opencv-python-headless"} <= set(requirements())
    assert requirements()["gradio"].extras == {"mcp"}


def test_the_folder_stands_by_itself(tmp_path):
    output = tmp_path / "space"
    (output / ".git").mkdir(parents=True)
    (output / "page").mkdir()
    (output / "page" / "old.py").write_text("")
    build(output)
    assert (output / ".git").is_dir() and not (output / "page" / "old.py").exists()
    for needed in ("app.py", "README.md", "requirements.txt", "examples/average-fear.png", "assets/how-it-works.svg"):
        assert (output / needed).is_file(), needed
    assert not list(output.rglob("__pycache__")) and not (output / "build.py").exists()
    # The Hub takes larger files only through its large-file storage.
    assert all(path.stat().st_size < 10 * 2**20 for path in output.rglob("*"))
    script = (
        "import sys, modeling_expclip, page.recognition as r, pathlib;"
        "here = pathlib.Path.cwd();"
        "assert here in pathlib.Path(modeling_expclip.__file__).parents, modeling_expclip.__file__;"
        "assert here in pathlib.Path(r.__file__).parents and 'space' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=output, check=True, timeout=120)


def test_help():
    for command, folder in (([sys.executable, "-m", "space.app"], ROOT), ([sys.executable, "app.py"], SPACE)):
        done = subprocess.run([*command, "--help"], cwd=folder, capture_output=True, text=True, timeout=120, check=True)
        assert "EXPCLIP_MODEL" in done.stdout and "GRADIO_SERVER_PORT" in done.stdout


def test_no_file_of_the_space_names_a_machine_or_a_cdn():
    own = [path for path in SPACE.rglob("*") if path.suffix in (".py", ".css", ".txt", ".md", ".svg")]
    assert len(own) > 15
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|/(work|home)/", text), path
    assert Path(SPACE / "page" / "style.css").read_text().count("@import") == 0
