"""What is pushed to the Hub: metadata, requirements, and a folder that needs nothing of this clone."""

from __future__ import annotations

import os
import re
import shutil
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
    from modeling_expclip.media import yunet

    [entry] = SpaceCard.load(SPACE / "README.md").data.to_dict()["preload_from_hub"]
    assert entry.split() == [yunet.REPO, yunet.FILE, yunet.REVISION]


def test_requirements_are_what_was_tested():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    tested = {requirement.name: str(requirement.specifier) for requirement in map(Requirement, lines)}
    assert {name: str(needed.specifier) for name, needed in requirements().items()} == {
        name: tested[name] for name in requirements()
    }


def test_requirements_hold_the_librarys():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"] + project["optional-dependencies"]["space"]):
        [version] = requirements()[needed.name].specifier
        assert needed.specifier.contains(version.version), needed.name
    assert {"av", "gradio", "matplotlib", "opencv-python-headless"} <= set(requirements())
    assert requirements()["gradio"].extras == {"mcp"}


def test_the_folder_stands_by_itself(tmp_path):
    output = tmp_path / "space"
    (output / ".git").mkdir(parents=True)
    build(output)
    (output / "page" / "old.py").write_text("")
    build(output)
    assert (output / ".git").is_dir() and not (output / "page" / "old.py").exists()
    for needed in ("app.py", "README.md", "requirements.txt", "examples/average-fear.png", "assets/how-it-works.svg"):
        assert (output / needed).is_file(), needed
    assert not list(output.rglob("__pycache__")) and not (output / "build.py").exists()
    # The Hub takes larger files only through its large-file storage, to which `hf upload` sends them.
    large = [path.name for path in output.rglob("*") if path.stat().st_size >= 10 * 2**20]
    assert large == ["model.safetensors"]
    script = (
        "import sys, modeling_expclip, page.recognition as r, pathlib;"
        "here = pathlib.Path.cwd();"
        "assert here in pathlib.Path(modeling_expclip.__file__).parents, modeling_expclip.__file__;"
        "assert here in pathlib.Path(r.__file__).parents and 'space' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=output, check=True, timeout=120)


@pytest.fixture
def clone(tmp_path) -> Path:
    """What a build reads, to be destroyed."""
    for name in ("space", "modeling_expclip"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "link").symlink_to("clone")
    (tmp_path / "outside").mkdir()
    return tmp_path / "clone"


def command(clone: Path, output: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "space.build", "--output", output]
    environment = os.environ | {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(arguments, cwd=clone, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("output", "source"),
    [
        *((".", "space"), ("..", "space"), ("space", "space"), ("space/page", "space"), ("space/new", "space")),
        *(("modeling_expclip", "modeling_expclip"), ("modeling_expclip/x/..", "modeling_expclip")),
        *(
            ("space/../.", "space"),
            ("../link", "space"),
            ("../link/space/new", "space"),
            ("../outside/../clone", "space"),
        ),
    ],
)
def test_sources_are_no_output(clone, output, source):
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    run = command(clone, output)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, run.stderr
    assert f"--output {Path(output)} is, contains or lies in {clone / source}" in run.stderr
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


def test_what_is_not_from_a_build_stays(tmp_path):
    for name in ("page/diary.txt", "README.md", "app.py", "modeling_expclip/x"):
        mine = tmp_path / name.replace("/", "-") / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(ValueError, match=r"not from an earlier build and would be replaced: \w+"):
            build(tmp_path / name.replace("/", "-"))
        assert mine.read_text() == "mine" and len(list(mine.parents[name.count("/")].iterdir())) == 1


def test_a_space_made_on_the_hub_is_filled(tmp_path):
    (tmp_path / "README.md").write_text("---\ntitle: My faces\nsdk: gradio\n---\n")
    (tmp_path / ".gitattributes").write_text("*.png filter=lfs")
    build(tmp_path)
    assert (tmp_path / "app.py").is_file() and (tmp_path / ".gitattributes").is_file()


@pytest.mark.parametrize("name", ["page", "app.py", "examples"])
def test_links_in_the_output_lead_nowhere(tmp_path, name):
    victim, output = tmp_path / "victim", tmp_path / "out"
    build(output)
    (shutil.rmtree if (output / name).is_dir() else os.unlink)(output / name)
    if name == "app.py":
        victim.write_text("keep")
    else:
        victim.mkdir()
        (victim / "keep").write_text("keep")
    (output / name).symlink_to(victim)
    with pytest.raises(ValueError, match=f"holds links, and nothing is written where they lead: {name}"):
        build(output)
    assert (victim if name == "app.py" else victim / "keep").read_text() == "keep"


def test_a_file_with_two_names_keeps_its_other_one(tmp_path):
    build(tmp_path / "out")
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / "out" / "app.py").unlink()
    os.link(victim, tmp_path / "out" / "app.py")
    build(tmp_path / "out")
    assert victim.read_text() == "keep" and "page" in (tmp_path / "out" / "app.py").read_text()


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
