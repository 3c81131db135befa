"""Every command that the documents show is run as it stands, in a folder where the names in it exist.

What cannot be had here is stood in for: the Hub's weights by a small random CLIP in a folder called like it, the paper's teacher by a
function that notes what it was asked for. ``make`` and ``pip`` lines are checked against the Makefile and the extras; ``make test`` is
what runs this.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from modeling_expclip.cli import main
from tests.conftest import SHARED, picture, write_video
from tests.training.conftest import call

ROOT = Path(__file__).parents[1]
NEEDS = ("openvino", "cv2", "av")


def commands(name: str) -> list[str]:
    """The lines of the document's shell blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for raw in block.splitlines() if (line := re.sub(r"\s+#.*", "", raw).strip())]


@pytest.fixture(scope="module")
def place(tmp_path_factory, clip_folder, head_file, checkpoint) -> Path:
    """A working folder with everything that the commands name."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("space", "training"):
        (place / name).symlink_to(ROOT / name)
    shutil.copytree(clip_folder, place / "openai" / "clip-vit-base-patch32")
    shutil.copy(head_file, place / "head.pth")
    for name in ("my-exp-clip", "path/to/checkpoint"):
        shutil.copytree(checkpoint, place / name)
    faces = [picture(i, (48, 48)) for i in range(14)]
    examples = sorted((ROOT / "space" / "examples").glob("*.png"))
    for folder in ("photos", "path/to/faces"):
        (place / folder).mkdir(parents=True)
        for example in examples:
            shutil.copy(example, place / folder)
    for i, face in enumerate(faces):
        for folder in (f"path/to/RAF-DB/test/{1 + i % 7}", f"path/to/labelled-faces/{'anger' if i % 2 else 'fear'}"):
            (place / folder).mkdir(parents=True, exist_ok=True)
            face.save(place / folder / f"{i}.png")
    (place / "AFEW" / "clip").mkdir(parents=True)
    for i in range(3):
        faces[i].save(place / "AFEW" / "clip" / f"{i}.png")
    (place / "AFEW" / "test.txt").write_text("clip 3 0\n")
    return place


def run(words: list[str], monkeypatch) -> int:
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "expclip":
        return main(words[1:])
    assert words[:2] == ["python", "-m"] and words[2].startswith("training."), f"nobody checks {words}"
    return call(words[2].removeprefix("training."), *words[3:], monkeypatch=monkeypatch)


def without_the_hub(words: list[str], monkeypatch) -> list:
    """Replaces what would fetch the paper's weights; returns the list of calls that were made instead."""
    asked = []
    if "--released" in words:
        monkeypatch.setattr("modeling_expclip.convert.convert_released", lambda *given: asked.append(given))
    if any("recipes/paper" in word for word in words):
        import training.embedding
        import training.training_run

        monkeypatch.setattr(training.embedding, "embed", lambda *given, **more: asked.append(given))
        monkeypatch.setattr(training.training_run, "train_from_cache", lambda *given: asked.append(given))
    return asked


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_of_make_and_pip_exist(name):
    checked = 0
    for line in commands(name):
        words = shlex.split(line)
        if words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
            checked += 1
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\[(.+?)\]", words[-1])
            project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
            assert words[-1].startswith(".") and all(f"\n{extra} = [" in project for extra in extras), line
            checked += 1
    assert checked


def test_the_readmes_commands_run_in_their_order(place, monkeypatch, capsys):
    """In one go: later ones use what earlier ones wrote."""
    yunet = SHARED / "models" / "face_detection_yunet_2023mar.onnx"
    if not yunet.is_file():
        pytest.skip(f"needs the project's shared material at {SHARED}")
    for module in NEEDS:
        pytest.importorskip(module)
    monkeypatch.chdir(place)
    frame = Image.new("RGB", (320, 240), "gray")
    frame.paste(Image.open("space/examples/average-happiness.png").resize((180, 180)), (70, 30))
    write_video(place / "film.mp4", [frame] * 8, fps=8)
    monkeypatch.setenv("EXPCLIP_YUNET", str(yunet))
    ran = []
    for line in commands("README.md"):
        words = shlex.split(line)
        if words[0] in ("make", "pip"):
            continue
        if "--output" in words and words[words.index("--output") + 1] == "my-exp-clip":
            shutil.rmtree("my-exp-clip")  # the reader's own, which earlier sections use; here it is made
        with monkeypatch.context() as patch:
            asked = without_the_hub(words, patch)
            code = run(words, patch)
        output = capsys.readouterr()
        assert code == 0, f"{line}\n{output.out}{output.err}"
        assert bool(asked) == ("--released" in words or "recipes/paper" in line)
        ran.append(words)
    for written in (
        "faces.csv",
        "film.csv",
        "film.mp4.png",
        "my-fast-clip",
        "my-plain-clip",
        "work/my-exp-clip",
        "work/results/report.html",
    ):
        assert (place / written).exists(), written
    assert {words[1] for words in ran if words[0] == "expclip"} == {
        "classify", "export", "convert", "verify", "merge", "publish",
    }  # fmt: skip
    assert {words[words.index("-m") + 1] for words in ran if "-m" in words} == {
        "training.embed", "training.train", "training.benchmark",
    }  # fmt: skip
