"""The examples of docs/api.md, as they stand there, ask a demo that runs; only its port is put in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from modeling_expclip import FaceAnalyzer
from space.page.inputs import BASIC_LABELS
from tests.conftest import write_video
from tests.robustness.servers import serve

from .conftest import EXAMPLES, GROUP, ROOT, Server

_CLIENT = "@gradio/client@2.7.0"
_SECONDS = 120
OWN = ("bored", "excited")


@pytest.fixture
def place(tmp_path, yunet) -> Path:
    """A working folder with the files that the examples name."""
    Image.open(GROUP).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    frame = Image.new("RGB", (240, 240), "#777")
    frame.paste(Image.open(EXAMPLES / "average-happiness.png"), (24, 24))
    write_video(tmp_path / "film.mp4", [frame] * 8, fps=8)
    return tmp_path


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory) -> Path:
    """Gradio's JavaScript client, as npm installs it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs Node and npm")
    folder = tmp_path_factory.mktemp("node")
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", folder, _CLIENT]
    done = subprocess.run(install, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {_CLIENT}: {done.stderr[-300:]}")
    return folder / "node_modules"


def examples(language: str, server: Server) -> list[str]:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert blocks and all("http://127.0.0.1:7860" in block for block in blocks)
    return [block.replace("http://127.0.0.1:7860", server.url.rstrip("/")) for block in blocks]


def printed(command: list, place: Path) -> list[str]:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def check_photo(faces: list[dict], labels: tuple[str, ...], place: Path, yunet: Path) -> None:
    expected = FaceAnalyzer(detector=yunet).photo(place / "photo.jpg", labels)
    assert len(faces) == len(expected) == 5
    for face, truth in zip(faces, expected):
        assert face["box"] == list(truth["box"])
        assert face["scores"] == pytest.approx(truth["scores"], abs=1e-6)


def check_film(entries: list[dict], labels: tuple[str, ...]) -> None:
    assert [entry["time"] for entry in entries] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert all(tuple(entry["scores"]) == labels and entry["error"] is None for entry in entries)


def test_curl(server, place, yunet):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    photo, film = ((printed(["sh", "-c", block], place)) for block in examples("sh", server))
    for lines in (photo, film):
        assert lines[0] == "event: complete" and lines[1].startswith("data: ")
    [faces], [entries] = (json.loads(lines[1].removeprefix("data: ")) for lines in (photo, film))
    check_photo(faces, BASIC_LABELS, place, yunet)
    check_film(entries, OWN)


def test_javascript(server, place, yunet, node_modules):
    [block] = examples("js", server)
    (place / "node_modules").symlink_to(node_modules)
    (place / "ask.mjs").write_text(block)
    faces, entries = map(json.loads, printed(["node", "--no-warnings", "ask.mjs"], place))
    check_photo(faces, OWN, place, yunet)
    assert all(set(face["scores_without_head"]) == set(OWN) for face in faces)
    check_film(entries, BASIC_LABELS)


def test_python_and_an_mcp_client(server, place, yunet):
    client, agent = (printed([sys.executable, "-c", block], place) for block in examples("py", server))
    check_photo(json.loads(client[0]), OWN, place, yunet)
    check_film(json.loads(client[1]), BASIC_LABELS)
    check_photo(json.loads(agent[0]), OWN, place, yunet)


def test_the_agents_address_is_the_servers(server):
    [block] = examples("json", server)
    [entry] = json.loads(block)["mcpServers"].values()
    assert entry["url"] == f"{server.url}gradio_api/mcp/"


@pytest.fixture
def host(server) -> Iterator[str]:
    """A page of somebody else, with the demo in a frame."""
    [frame] = examples("html", server)

    def answer(request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.end_headers()
        request.wfile.write(f"<!doctype html><title>Host</title>{frame}".encode())

    with serve(answer) as address:
        yield address


def test_the_page_in_a_frame_of_another(browser, host):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    page = context.new_page()
    page.goto(host)
    demo = page.frame_locator("iframe")
    demo.locator("#photo-result .xc-bars tbody tr").first.wait_for()
    demo.get_by_role("tab", name="Live").click()
    demo.get_by_label("I agree").check()
    demo.get_by_text("Click to Access Webcam").click()
    demo.get_by_label("capture photo").click()
    demo.locator("#live-result .xc-bars").wait_for()
    context.close()
