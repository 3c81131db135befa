"""Every command that the documents show is run as it stands, in a folder where the names in it exist.

What cannot be had here is stood in for: the Hub's weights by a small random CLIP in a folder called like it, teachers by a function
that notes what it was asked for. ``make`` and ``pip`` lines are checked against the Makefile and the extras; ``make test`` is
what runs this.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from modeling_expclip.cli.main import main
from modeling_expclip.cli.training import COMMANDS, PACKAGE
from tests.conftest import SHARED, picture, write_video
from tests.test_docs import PAGES, ROOT
from tests.training.conftest import call, write_faces

FETCHED = ("paper-", "laptop-")  # recipes whose teacher is on the Hub
# What the commands of a page leave behind.
WRITTEN = {
    "README.md": (),
    "docs/labels-and-prompts.md": (),
    "docs/photos-and-video.md": ("faces.csv", "film.csv", "film.mp4.png", "scores.parquet"),
    "docs/faster.md": ("my-fast-clip", "fast.csv"),
    "docs/convert-and-merge.md": (
        "my-exp-clip/golden.safetensors",
        "my-plain-clip",
        "my-clip-everywhere/onnx/model.onnx",
    ),
    "docs/train.md": ("work/my-exp-clip",),
    "docs/scale.md": ("scores",),
    "docs/evaluate.md": ("work/results/report.html",),
    "docs/demo.md": (),
}


def commands(name: str) -> list[str]:
    """The lines of the document's shell blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for raw in block.splitlines() if (line := re.sub(r"\s+#.*", "", raw).strip())]


@pytest.fixture
def place(tmp_path, clip_folder, head_file, checkpoint) -> Path:
    """A working folder with everything that the commands name."""
    place = tmp_path / "reader"
    place.mkdir()
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
    (place / "labels.txt").write_text("joyful\nfurious\ntaken aback\n")
    write_faces(place / "faces.parquet", 3)
    (place / "AFEW" / "clip").mkdir(parents=True)
    for i in range(3):
        faces[i].save(place / "AFEW" / "clip" / f"{i}.png")
    (place / "AFEW" / "test.txt").write_text("clip 3 0\n")
    return place


def run(words: list[str], monkeypatch) -> int:
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[:2] == ["python", "-m"]:
        package, _, command = words[2].partition(".")
        assert package in (PACKAGE, "training"), f"nobody checks {words}"
        words = ["expclip", command, *words[3:]]
    assert words[0] == "expclip", f"nobody checks {words}"
    if words[1] in COMMANDS:  # of the clone; that the installed package is the same is tests/test_wheel.py's affair
        return call(words[1], *words[2:], monkeypatch=monkeypatch)
    return main(words[1:])


def without_the_hub(words: list[str], monkeypatch) -> list:
    """Replaces what would fetch the paper's weights, or serve; returns the list of calls that were made instead."""
    asked = []
    if "--released" in words:
        monkeypatch.setattr("modeling_expclip.checkpoint.convert.convert_released", lambda *given: asked.append(given))
    if any(word.startswith(FETCHED) for word in words):
        import training.alignment.run
        import training.embeddings.fill
        import training.embeddings.on_ray

        monkeypatch.setattr(training.embeddings.fill, "embed", lambda *given, **more: asked.append(given))
        monkeypatch.setattr(training.embeddings.on_ray, "embed_on_ray", lambda *given, **more: asked.append(given))
        monkeypatch.setattr(training.alignment.run, "train_from_cache", lambda *given: asked.append(given))
    if words[:2] == ["expclip", "demo"]:  # it would serve until Ctrl-C; tests/test_wheel.py starts it
        import space.page.start

        monkeypatch.setitem(sys.modules, "expclip_demo.page.start", space.page.start)
        monkeypatch.setattr(space.page.start, "start", lambda model, host, port: asked.append((model, host, port)))
    return asked


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/demo.md", "docs/train.md"])
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
            assert words[-1].startswith((".", "expclip[")) and all(f"\n{extra} = [" in project for extra in extras), (
                line
            )
            checked += 1
    assert checked


@pytest.mark.parametrize("name", WRITTEN)
def test_a_pages_commands_run_in_their_order(name, place, monkeypatch, capsys):
    """Each page by itself; in one go, for later commands use what earlier ones wrote."""
    yunet = SHARED / "models" / "face_detection_yunet_2023mar.onnx"
    if "photos" in name and not yunet.is_file():
        pytest.skip(f"needs the project's shared material at {SHARED}")
    for module in {
        "docs/photos-and-video.md": ("cv2", "av"),
        "docs/faster.md": ("openvino",),
        "docs/convert-and-merge.md": ("onnxscript",),
        "docs/demo.md": ("gradio",),
        "docs/scale.md": ("ray",),
    }.get(name, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(place)
    if "film.mp4" in " ".join(commands(name)):
        frame = Image.new("RGB", (320, 240), "gray")
        frame.paste(Image.open("space/examples/average-happiness.png").resize((180, 180)), (70, 30))
        write_video(place / "film.mp4", [frame] * 8, fps=8)
    monkeypatch.setenv("EXPCLIP_YUNET", str(yunet))
    ran = 0
    for line in commands(name):
        words = shlex.split(line)
        if words[0] in ("make", "pip"):
            continue
        if words[1:2] == ["convert"] and words[-1] == "my-exp-clip":
            shutil.rmtree("my-exp-clip")  # the reader's own, for other pages; here it is made
        with monkeypatch.context() as patch:
            asked = without_the_hub(words, patch)
            code = run(words, patch)
        output = capsys.readouterr()
        assert code == 0, f"{line}\n{output.out}{output.err}"
        recipes = any(word.startswith(FETCHED) for word in words)
        assert bool(asked) == ("--released" in words or recipes or "demo" in words)
        ran += 1
    assert ran
    for written in WRITTEN[name]:
        assert (place / written).exists(), written


def test_every_page_with_commands_is_run():
    ours = {name for name in PAGES if any(line.split()[0] not in ("make", "pip") for line in commands(name))}
    assert ours == set(WRITTEN)
    text = "\n".join(line for name in WRITTEN for line in commands(name))
    assert set(re.findall(r"^expclip (\w+)", text, re.MULTILINE)) == {
        "classify", "explain", "export", "convert", "verify", "merge", "publish", "demo", *COMMANDS,
    }  # fmt: skip
    assert set(re.findall(r"-m ([\w.]+)", text)) == {f"{PACKAGE}.embed"}
