"""The Space: whatever a visitor's file is said to be, nothing but this run's uploads is opened, and nobody can make it wait for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from space.page.inputs import image_of, video_of
from tests.space.conftest import EXAMPLES

READERS = pytest.mark.parametrize("read", [image_of, video_of], ids=["image", "video"])


@pytest.fixture
def uploads(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def refusal(read: Callable, sent: object) -> str:
    """What is said; it must be said at once, whatever the file would make a reader wait for."""
    said: list[str] = []

    def ask() -> None:
        try:
            read(sent)
            said.append("it was read")
        except ValueError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    assert said, "it waits for ever"
    return said[0]


@READERS
def test_other_files_are_neither_opened_nor_shown_to_exist(read, uploads, tmp_path):
    image = EXAMPLES / "average-fear.png"
    (tmp_path / "uploads-of-others").mkdir()
    (tmp_path / "uploads-of-others" / "a.png").write_bytes(image.read_bytes())
    (uploads / "link.png").symlink_to(image)
    (uploads / "loop.png").symlink_to(uploads / "loop.png")
    (uploads / "way").symlink_to(image.parent)
    (uploads / "folder.png").mkdir()
    os.mkfifo(uploads / "pipe.png")
    names = [
        image,
        "/no/such/file.png",
        "/etc/passwd",
        "/dev/ptmx",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/",
    ]
    names += [uploads, uploads / "..", uploads / ".." / "uploads-of-others" / "a.png"]
    names += [
        uploads / name
        for name in ("link.png", "loop.png", "way/average-fear.png", "folder.png", "pipe.png", "gone.png")
    ]
    names += [f"http://127.0.0.1:1/gradio_api/file={image}", "http://127.0.0.1:1/a.png", f"file://{image}"]
    names += [
        "a\0b",
        f"{uploads}/a\0b",
        f"{uploads}/\ud800",
        f"{uploads}/" + "x" * 100_000,
        7,
        ["x"],
        {"path": str(image)},
        True,
    ]
    said = {refusal(read, {"path": str(name) if isinstance(name, Path) else name}) for name in names}
    assert len(said) == 1, said
    assert "there is no such upload" in said.pop()


@READERS
def test_what_is_no_file_at_all(read, uploads):
    for sent in (
        [],
        [{"path": "x"}],
        "x",
        7,
        True,
        {},
        {"url": "http://127.0.0.1:1/"},
        {"path": None, "url": ["data:"]},
        None,
    ):
        said = refusal(read, sent)
        assert "there is none yet" in said or "one file is expected" in said


def test_an_upload_is_read_by_its_path_and_by_its_address(uploads):
    (uploads / "a b%.png").write_bytes((EXAMPLES / "average-fear.png").read_bytes())
    for name in (f"{uploads}/a b%.png", f"https://somewhere.example/gradio_api/file={uploads}/a%20b%25.png"):
        assert image_of({"path": name}).size == (192, 192)


def test_without_a_run_there_are_no_uploads(monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    assert "there is no such upload" in refusal(image_of, {"path": str(EXAMPLES / "average-fear.png")})
