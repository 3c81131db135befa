"""Nothing of a visitor is kept: neither files nor what the server remembers of a visit."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import gradio_client
import pytest

from space.page.blocks import build_page
from space.page.recognition import FaceScores
from space.page.request_limits import app_kwargs
from space.page.uploads import KEPT_MINUTES, upload_folder

from .conftest import EXAMPLES, files_below, free_port
from .visitor import Visitor, data_url


class Guesser:
    """Stands in for the Recogniser, so that this page starts at once."""

    name, is_mini, detector, no_detector, no_head = "guesser", False, None, "", ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uploads: list[Path] = []
        self.frames = 0
        self.stopped = threading.Event()

    def prototypes(self, labels, prompts, multi_label=False):
        return labels

    def slot(self):
        return nullcontext()

    def classify(self, image, labels):
        self.uploads = files_below(self.folder)
        return [FaceScores(None, {label: 1 / len(labels) for label in labels}, None)]

    def video(self, file, labels, limits) -> Iterator[dict]:
        try:
            while True:  # a video that takes long
                time.sleep(0.05)
                self.frames += 1
                yield {
                    "time": 0.0,
                    "face": 0,
                    "box": None,
                    "detection_score": None,
                    "label": labels[0],
                    "scores": {labels[0]: 1.0},
                }
        finally:
            self.stopped.set()


@pytest.fixture
def guesser(tmp_path) -> Guesser:
    return Guesser(tmp_path)


@pytest.fixture
def page(monkeypatch, guesser) -> Iterator:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(guesser.folder))
    page = build_page(guesser)
    frequency, age = page.delete_cache
    assert frequency + age <= 60 * KEPT_MINUTES
    page.delete_cache = (1, 10)  # seconds; a slow machine needs some between upload and answer
    page.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=app_kwargs(page)
    )
    yield page
    page.close()


def soon(true: Callable[[], bool], seconds: float = 45) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


def test_the_folder_of_a_run_is_swept_and_goes_with_it(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    with upload_folder(kept=0.5, swept=0.1) as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder) and folder.parent == tmp_path / "files"
        (folder / "inner").mkdir()
        (folder / "inner" / "old.png").write_text("")
        assert soon(lambda: not (folder / "inner" / "old.png").exists())
        (folder / "new.png").write_text("")
        time.sleep(0.2)
        assert (folder / "new.png").exists()
    assert not folder.exists()


def test_uploads_and_visits_are_forgotten(page, guesser):
    client = gradio_client.Client(page.local_url, verbose=False)
    image = gradio_client.handle_file(str(EXAMPLES / "average-fear.png"))
    [face] = client.predict(image, "calm, tense", "photo", api_name="/classify")
    assert face == {"box": None, "detector": None, "label": "calm", "scores": {"calm": 0.5, "tense": 0.5}}
    assert "average-fear.png" in [path.name for path in guesser.uploads]
    assert soon(lambda: not any(path.exists() for path in guesser.uploads)), "the upload is still there"
    assert client.session_hash in page.state_holder.session_data
    client.close()  # Gradio looks every 15 seconds who is still there
    assert soon(lambda: client.session_hash not in page.state_holder.session_data), "the visit is still remembered"


def test_a_video_is_read_no_further_when_its_visitor_left(page, guesser, short_video):
    visitor = Visitor(page.local_url)
    sent = {"path": visitor.upload(short_video.read_bytes(), "video.webm")}
    function = visitor.function("video-file", "video-download")
    body = {"data": [sent, "calm", "photo"], "fn_index": function, "session_hash": "leaves"}
    status, answer = visitor.post("/gradio_api/queue/join", body)
    assert status == 200 and json.loads(answer)["event_id"]
    with urllib.request.urlopen(f"{visitor.url}/gradio_api/queue/data?session_hash=leaves", timeout=60):
        assert soon(lambda: guesser.frames > 2) and not guesser.stopped.is_set()
    assert guesser.stopped.wait(30), "the video is read on for nobody"


def test_a_programs_video_is_read_no_further_either_and_delays_no_image(page, guesser, short_video):
    visitor = Visitor(page.local_url)
    sent = {"path": visitor.upload(short_video.read_bytes(), "video.webm")}
    status, answer = visitor.post("/gradio_api/call/video", {"data": [sent, "calm"]})
    assert status == 200
    with urllib.request.urlopen(f"{visitor.url}/gradio_api/call/video/{json.loads(answer)['event_id']}", timeout=60):
        assert soon(lambda: guesser.frames > 2)
        assert visitor.call([{"url": data_url((EXAMPLES / "average-fear.png").read_bytes())}])[0] == "complete"
        assert not guesser.stopped.is_set()
    assert guesser.stopped.wait(30), "the video is read on for nobody"


def test_an_answer_has_an_end_and_its_video_is_deleted(page, guesser, short_video, monkeypatch):
    monkeypatch.setattr("space.page.api._MAX_ANSWER", 2**10)
    visitor = Visitor(page.local_url)
    upload = Path(visitor.upload(short_video.read_bytes(), "video.webm"))
    kind, (*entries, last) = visitor.call([{"path": str(upload)}, "calm"], endpoint="video")
    assert kind == "complete" and guesser.stopped.is_set()
    assert entries and sum(len(json.dumps(entry)) for entry in entries) <= 2**10
    assert last["error"].startswith("refused: the answer is longer than") and last["label"] is None
    assert soon(lambda: not upload.exists()), "the upload is still there"
