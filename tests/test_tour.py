"""docs/tour.ipynb runs as it stands and prints what is stored in it; ``python -m tests.test_tour`` stores it anew."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import SHARED

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
YUNET = SHARED / "models" / "face_detection_yunet_2023mar.onnx"


def execute(notebook, folder: Path, detector: str) -> dict[str, str]:
    """Runs the notebook in a folder that looks like docs/ of a clone; by the cells' ids what they printed, without what was logged."""
    docs, path = folder / "docs", folder / "path"
    for made in (docs, path, folder / "tmp"):
        made.mkdir(exist_ok=True)
    for link, target in ((folder / "space", "space"), (path / "expclip_training", "training")):
        if not link.exists():
            link.symlink_to(ROOT / target)
    command = path / "expclip"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom modeling_expclip.cli.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(path), os.environ["PATH"]]),  # this clone, whatever is installed
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(path)]),
        "EXPCLIP_YUNET": detector,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
    }
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(docs)}}).execute(env=environment)
    return printed(notebook)


def printed(notebook) -> dict[str, str]:
    return {
        cell["id"]: "".join(output["text"] for output in cell["outputs"] if output.get("name") == "stdout")
        for cell in notebook.cells
        if cell["cell_type"] == "code"
    }


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    """Without the caches' digests, which follow the bytes that this Pillow writes."""
    text = re.sub(r"-[0-9a-f]{16}\b", "-DIGEST", text)
    number = r"\d+(?:\.\d+)?"
    return re.sub(number, "N", text), [float(found) for found in re.findall(number, text)]


def of_the_detector(notebook) -> str:
    """The id of the cell that wants the detector's weights."""
    (cell,) = (cell["id"] for cell in notebook.cells if "detector" in cell["metadata"].get("tags", []))
    return cell


def test_the_tour_prints_what_is_stored_in_it(tmp_path):
    notebook = nbformat.read(TOUR, as_version=4)
    stored = printed(notebook)
    found = execute(notebook, tmp_path, str(YUNET) if YUNET.is_file() else "")
    if not YUNET.is_file():  # MTCNN's boxes are a little different
        assert found.pop(of_the_detector(notebook)).count("pixels wide") == 5
        del stored[of_the_detector(notebook)]
    for cell, text in stored.items():
        words, numbers = words_and_numbers(found[cell])
        stored_words, stored_numbers = words_and_numbers(text)
        assert words == stored_words
        # A rounding that falls the other way, or one of the 21 faces: another processor adds up in another order.
        assert numbers == pytest.approx(stored_numbers, rel=0.1, abs=0.11)


def test_without_a_detector_the_tour_says_so_and_goes_on(tmp_path):
    notebook = nbformat.read(TOUR, as_version=4)
    detector = of_the_detector(notebook)
    first = next(cell["id"] for cell in notebook.cells if cell["cell_type"] == "code")
    notebook.cells = [cell for cell in notebook.cells if cell["id"] in (first, detector)]
    assert "EXPCLIP_YUNET" in execute(notebook, tmp_path, str(tmp_path / "nowhere.onnx"))[detector]


def test_what_is_stored_is_short_and_names_no_place_of_a_machine():
    notebook = nbformat.read(TOUR, as_version=4)
    stored = printed(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs and all(output.get("name") == "stdout" for output in outputs)
    assert sum(text.count("\n") for text in stored.values()) < 60
    assert not re.search(r"(?<![\w.])/\w+/\w+", "".join(stored.values()))


if __name__ == "__main__":
    if not YUNET.is_file():
        pytest.exit(f"the group photo needs the detector's weights at {YUNET}", returncode=2)
    tour = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        execute(tour, Path(temporary), str(YUNET))
    texts = printed(tour)
    for code in tour.cells:
        code["metadata"].pop("execution", None)  # the times
        if code["cell_type"] == "code":
            text = texts[code["id"]]
            code["outputs"] = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
    nbformat.write(tour, TOUR)
