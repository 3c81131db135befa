"""Fixtures: the page as its visitors meet it (a server of its own, once a session), a browser, and faces to show it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "space" / "examples"
GROUP = ROOT / "space" / "assets" / "average-faces.webp"
YUNET = ROOT.parent / "shared" / "models" / "face_detection_yunet_2023mar.onnx"
_START_SECONDS = 240


@dataclass(frozen=True)
class Server:
    url: str
    files: Path  # where Gradio keeps what visitors upload
    log: Path
    process: int = 0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def yunet() -> Path:
    if not YUNET.is_file():
        pytest.skip(f"needs the face detector's weights at {YUNET}")
    return YUNET


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served
    assert not files_below(served.files), "the server left files of its visitors behind"
    assert "Traceback" not in served.log.read_text(), served.log.read_text()


def serving(folder: Path) -> AbstractContextManager[Server]:
    """``python -m space.app`` of this clone, started in another folder, as an installed one is."""
    return started([sys.executable, "-m", "space.app"], folder, folder, os.environ | {"PYTHONPATH": str(ROOT)})


@contextmanager
def started(command: list, place: Path, folder: Path, variables: dict[str, str]) -> Iterator[Server]:
    """A command that serves the page, run in ``place``; what the server writes goes into ``folder``.

    It gets a free port, as its last argument if that is ``--port``, and stays offline; where YuNet's weights are not at
    hand, MTCNN finds the faces.
    """
    port = free_port()
    call = [*command, str(port)] if command[-1] == "--port" else command
    served = Server(f"http://127.0.0.1:{port}/", folder / "files", folder / "log.txt")
    env = variables | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": "1" if call != command else str(port),
        "GRADIO_TEMP_DIR": str(served.files),
        "HF_HUB_OFFLINE": "1",
        "EXPCLIP_MODEL": "",
    }
    env.pop("EXPCLIP_YUNET", None)
    if YUNET.is_file():
        env["EXPCLIP_YUNET"] = str(YUNET)
    with served.log.open("w") as log:
        process = subprocess.Popen(call, cwd=place, env=env, stdout=log, stderr=log)
        try:
            _wait(served, process)
            yield replace(served, process=process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _wait(served: Server, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(served.url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None:
                break
            time.sleep(0.3)
    raise AssertionError(f"the server did not start:\n{served.log.read_text()}")


@pytest.fixture(scope="session")
def camera(tmp_path_factory) -> Path:
    """What the browser's camera sees: the average happy face, moving a little, in the raw format that chromium plays."""
    happy = Image.open(EXAMPLES / "average-happiness.png").resize((200, 200))
    path = tmp_path_factory.mktemp("camera") / "happy.y4m"
    with path.open("wb") as film:
        film.write(b"YUV4MPEG2 W320 H240 F10:1 Ip A1:1 C420jpeg\n")
        for number in range(10):
            frame = Image.new("L", (320, 240), 110)
            frame.paste(happy, (50 + 2 * number, 20))
            film.write(b"FRAME\n" + frame.tobytes() + b"\x80" * (2 * 160 * 120))  # without colour
    return path


@pytest.fixture(scope="module")  # as long as it lives, its event loop is in the way of others
def browser(camera) -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("browser tests need chromium")
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    fake.append(f"--use-file-for-fake-video-capture={camera}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", *fake])
        yield browser
        browser.close()


@pytest.fixture
def group_photo(tmp_path, shared, yunet) -> Path:
    """Three real faces, one large and two small, on one image; it lives as long as the test."""
    table = pq.read_table(shared / "data" / "facial_expressions" / "validation.parquet", columns=["image"])
    faces = []
    for row in table.column("image").to_pylist():
        face = Image.open(io.BytesIO(row["bytes"])).convert("RGB")
        if min(face.size) >= 120:
            faces.append(face)
        if len(faces) == 3:
            break
    photo = Image.new("RGB", (900, 500), "#6f7a70")
    photo.paste(faces[0].resize((380, 380)), (30, 60))
    photo.paste(faces[1].resize((190, 190)), (450, 60))
    photo.paste(faces[2].resize((190, 190)), (680, 260))
    path = tmp_path / "group.jpg"
    photo.save(path, quality=95)
    return path


@pytest.fixture(scope="session")
def short_video(tmp_path_factory) -> Path:
    """Two average faces for two seconds; the second changes halfway."""
    happy, angry, neutral = (
        Image.open(EXAMPLES / f"average-{name}.png").convert("RGB") for name in ("happiness", "anger", "neutral")
    )
    path = tmp_path_factory.mktemp("video") / "two-faces.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=8)
        stream.width, stream.height, stream.pix_fmt = 480, 240, "yuv420p"
        for number in range(16):
            frame = Image.new("RGB", (480, 240), "#777")
            frame.paste(happy, (24, 24))
            frame.paste(angry if number < 8 else neutral, (264, 24))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return path
