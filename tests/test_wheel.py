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
from dataclasses import dataclass
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


def test_it_holds_the_library_the_mini_and_the_demo_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modeling_expclip").rglob("*.py")}
    mini = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in Path(MINI).iterdir() if path.is_file()}
    weights, tokenizer, code = "model.safetensors", "tokenizer.json", "modeling_expclip.py"
    assert {weights, tokenizer, code, "golden.safetensors"} <= {Path(name).name for name in mini}
    assert {name: sizes.get(name) for name in mini} == mini
    own = [path.relative_to(ROOT / "space") for path in (ROOT / "space").rglob("*") if path.is_file()]
    own = [path for path in own if path.parts[0] != "browser" and path.suffix != ".pyc"]  # that page runs elsewhere
    demo = {f"expclip_demo/{path.as_posix()}" for path in own} - {"expclip_demo/assets/screenshot.png"}
    others = {name for name in sizes if ".dist-info/" not in name}
    assert others == library | demo | {*mini, "modeling_expclip/py.typed"}
    assert sum(sizes[name] for name in demo) < 300_000


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


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel only; this one lends it torch and the rest. Commands run away from the clone."""

    programs: Path
    packages: Path
    folder: Path
    variables: dict[str, str]

    def run(self, program: str, *arguments: str) -> str:
        command = [self.programs / program, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, wheel], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    return Installed(programs, packages, folder, variables)


def test_it_works_in_another_environment(installed):
    shutil.copyfile(FACE, installed.folder / "face.png")
    where = installed.run("python", "-c", "import modeling_expclip; print(modeling_expclip.__file__)")
    assert str(installed.packages) in where
    assert "classify" in installed.run("expclip", "--help")
    installed.run("expclip", "classify", "face.png", "--output", "rows.csv")
    with (installed.folder / "rows.csv").open(newline="") as rows:
        assert [row["label"] for row in csv.DictReader(rows)] == ["happiness"]


def test_the_demo_starts_in_another_environment(installed, tmp_path):
    pytest.importorskip("gradio", reason="needs pip install 'expclip[space]'")
    from tests.space.conftest import started
    from tests.space.visitor import Visitor, data_url

    command = [installed.programs / "expclip", "demo", "--host", "127.0.0.1", "--port"]
    with started(command, installed.folder, tmp_path, installed.variables) as server:
        kind, [face] = Visitor(server.url).call([{"url": data_url(FACE.read_bytes())}, "furious, joyful", "photo"])
        assert kind == "complete" and face["label"] == "joyful"
    assert not list(server.files.rglob("*")), "the server left files of its visitors behind"


def test_the_installed_demo_becomes_a_space(installed):
    wrote = installed.run("python", "-m", "expclip_demo.build", "--output", "my-space")
    assert "wrote my-space" in wrote and (installed.folder / "my-space" / "modeling_expclip" / "expclip_mini").is_dir()
    assert (
        "EXPCLIP_MODEL"
        in subprocess.run(
            [installed.programs / "python", "app.py", "--help"],
            cwd=installed.folder / "my-space",
            env=installed.variables,
            capture_output=True,
            text=True,
        ).stdout
    )


def test_without_gradio_the_demo_says_what_it_needs(installed):
    code = (
        "import sys; sys.modules['gradio'] = None; from modeling_expclip.cli.main import main; sys.exit(main(['demo']))"
    )
    command = [installed.programs / "python", "-c", code]
    done = subprocess.run(command, cwd=installed.folder, env=installed.variables, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("expclip demo: the demo needs more packages") and "'expclip[space]'" in done.stderr
