"""``python -m tests.benchmarks.toolkits --data NAME=PARQUET... --node-modules DIR --fer-python PYTHON``: expclip-mini beside
face-api.js' expression net and the package ``fer``, on the same crops.

Labelled faces come in, as ``expclip benchmark`` takes them; a Markdown table leaves, with WAR, and UAR of the classes with at least 30
faces. The two others have seven fixed labels, so a face of an eighth class (contempt) is one that they miss. What is not installed is
named, with how to install it, and left out.

    npm install --ignore-scripts --prefix DIR @vladmandic/face-api@1.7.15 @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    python3 -m venv VENV && VENV/bin/pip install tensorflow-cpu "opencv-python-headless<5" "setuptools<80" requests pillow
    VENV/bin/pip install --no-deps fer==25.10
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI
from modeling_expclip.prompts import canonical_label
from training.evaluation.adapters import load_zero_shot_model, weights_of
from training.evaluation.metrics.recall import war_uar
from training.evaluation.samples import load_samples

ENOUGH_FACES = 30
HERE = Path(__file__).parent
PROMPTS = "ensemble10"


def faces_of(source: str, classes: tuple[str, ...]) -> tuple[list[Image.Image], np.ndarray]:
    """Faces that have a class of ``classes``, and its index."""
    samples = load_samples("mine", source, classes)["all"]
    kept = [row for row, label in enumerate(samples.labels) if label in classes]
    return [samples.frames(row)[0] for row in kept], np.array([classes.index(samples.labels[row]) for row in kept])


def by_mini(faces: list[Image.Image], classes: tuple[str, ...]) -> np.ndarray:
    model = load_zero_shot_model(str(MINI))
    features = torch.cat([model.image_features(faces[i : i + 64]) for i in range(0, len(faces), 64)])
    return model.logits(features, classes, PROMPTS).argmax(1).numpy()


def by_another(command: list[str], where: Path, faces: list[Image.Image], classes: tuple[str, ...]) -> np.ndarray:
    """What a command writes of the faces in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sizes.json").write_text(json.dumps([face.size for face in faces]))
        (Path(folder) / "crops.rgb").write_bytes(b"".join(face.tobytes() for face in faces))
        subprocess.run([*command, folder], cwd=where, check=True, stdout=subprocess.DEVNULL)
        answers = json.loads((Path(folder) / "answers.json").read_text())
    return np.array([classes.index(canonical_label(max(answer, key=answer.get))) for answer in answers])


def missing_face_api(modules: Path | None) -> str | None:
    if not shutil.which("node"):
        return "there is no node on the PATH"
    wanted = ["@vladmandic/face-api", "@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm"]
    lacking = [
        name for name in wanted if modules is None or not (modules / "node_modules" / name / "package.json").is_file()
    ]
    return f"--node-modules {modules} has no node_modules with {', '.join(lacking)}" if lacking else None


def missing_fer(python: Path | None) -> str | None:
    if python is None:
        return "--fer-python names no interpreter that has it"
    try:
        tried = subprocess.run([python, "-c", "import fer.fer"], capture_output=True, text=True)
    except OSError as error:
        return f"--fer-python {python} does not run: {error}"
    return f"{python}: {tried.stderr.strip().splitlines()[-1]}" if tried.returncode else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.toolkits", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="NAME=PARQUET",
        help="the name is a label set, or another: seven labels",
    )
    parser.add_argument("--node-modules", type=Path, metavar="DIR", help="the folder in which npm install was called")
    parser.add_argument("--fer-python", type=Path, metavar="PYTHON", help="an interpreter with the package fer")
    arguments = parser.parse_args()
    ours = f"expclip-mini {version('expclip')} ({weights_of(str(MINI))[:15]}), {PROMPTS}"
    node, fer = arguments.node_modules, arguments.fer_python
    others = {
        "face-api.js": (missing_face_api(node), lambda: (["node", str(HERE / "face_api.cjs")], node)),
        "fer": (missing_fer(fer), lambda: ([str(fer.absolute()), str(HERE / "fer_package.py")], HERE)),
    }
    for name, (missing, _) in others.items():
        if missing:
            print(f"{name} is left out: {missing}; how to install it: tests/benchmarks/toolkits.py")
    toolkits = {ours: by_mini} | {
        name: lambda faces, classes, call=call: by_another(*call(), faces, classes)
        for name, (missing, call) in others.items()
        if not missing
    }
    rows: dict[str, list[str]] = {name: [] for name in toolkits}
    header = []
    for name, _, source in (given.partition("=") for given in arguments.data):
        classes = LABEL_SETS.get(name, LABEL_SETS["rafdb"])
        faces, truth = faces_of(source, classes)
        header.append(f"{name}, {len(faces)} faces, {len(classes)} labels: WAR / UAR")
        for toolkit, answer in toolkits.items():
            war, uar = war_uar(answer(faces, classes), truth, ENOUGH_FACES)
            rows[toolkit].append(f"{war:.1f} / {uar:.1f}")
    print(f"| | {' | '.join(header)} |\n| --- |{' ---: |' * len(header)}")
    for toolkit, cells in rows.items():
        print(f"| {toolkit} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
