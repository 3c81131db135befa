"""The Space's doors one by one: what is small to send and dear to read or to keep is refused before that."""

from __future__ import annotations

import asyncio
import resource
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import av
import pytest
from gradio import routes

from space.page import inputs, request_limits, start, uploads
from space.page.ephemeral import EphemeralBlocks
from space.page.request_limits import MAX_BODY, RequestLimits

CALL = "/gradio_api/call/classify"


class Door:
    """A gate before an app that reads the whole body; the app keeps what it read, or None where the body broke off."""

    def __init__(self) -> None:
        self.page = EphemeralBlocks(kept=100, swept=100, streamed=100).queue()
        self.read: list[bytes | None] = []
        self.gate = RequestLimits(self._app, self.page)

    async def _app(self, scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.read.append(None)
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.read.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(self, path: str, body: bytes = b"", method: str = "POST", query: bytes = b"") -> int:
        """The status of the answer to a request that arrives in parts of 64 KB."""
        parts = [body[start : start + 2**16] for start in range(0, len(body), 2**16)] or [b""]
        statuses: list[int] = []

        async def receive() -> dict:
            if not parts:
                return {"type": "http.disconnect"}
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: dict) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "path": path, "method": method, "headers": headers, "query_string": query}
        asyncio.run(self.gate(scope, receive, send))
        [status] = statuses
        return status


@pytest.mark.parametrize("inside", [b"[],", b"{},", b"1,", b"["])
@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_bodies_of_many_values_are_not_read(inside, size):
    door = Door()
    assert door.ask(CALL, b'{"data":[[' + inside * (size // len(inside)) + b'1],"",""]}') == 413
    assert door.read == [None]


def test_the_last_part_is_withheld_too():
    door = Door()
    assert door.ask(CALL, b'{"data":["' + b" " * 2**17 + b'",' + b"[]," * 4_000 + b"1]}") == 413
    assert door.read == [None]


def test_one_long_picture_and_all_labels_are_read():
    door = Door()
    image = b"data:image/png;base64," + b"QUJD" * 6_000_000
    labels = b",".join(b"label %d" % number for number in range(100))
    body = b'{"data":[{"url":"' + image + b'"},"' + labels + b'","photo"]}'
    assert len(body) < MAX_BODY
    assert door.ask(CALL, body) == 200
    assert door.read == [body]


def test_only_a_running_stream_takes_pictures():
    door = Door()
    image = b'{"data":["' + b"a" * 2**21 + b'","","",null]}'
    for name in ("waits", "runs"):
        request = SimpleNamespace(scope={"expclip.received": 0}, _body=image, _json={})
        event = SimpleNamespace(_id=name, streaming=True, request=request, data=SimpleNamespace(request=request))
        door.page._queue.event_ids_to_events[name] = event
    door.page._queue.active_jobs = [None, [event]]
    assert door.ask("/gradio_api/stream/waits", image) == door.ask("/gradio_api/stream/gone", image) == 409
    assert door.read == []
    assert door.ask("/gradio_api/stream/runs", image) == 200 and door.read == [image]
    assert not {"_body", "_json"} & set(vars(request))


def test_a_streams_later_pictures_count_as_waiting():
    door = Door()
    image = b'{"data":["' + b"a" * 2**21 + b'","","",null]}'
    for number in range(8):
        first, later = (
            SimpleNamespace(request=SimpleNamespace(scope={"expclip.received": size})) for size in (100, MAX_BODY)
        )
        door.page._queue.event_ids_to_events[str(number)] = SimpleNamespace(request=first.request, data=later)
    assert door.ask(CALL, image) == 503
    for event in door.page._queue.event_ids_to_events.values():
        event.data.request = event.request
    assert door.ask(CALL, image) == 200


def test_a_first_look_at_a_video_has_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(16):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    limits = inputs.VIDEO_LIMITS
    monkeypatch.setattr(inputs, "VIDEO_LIMITS", replace(limits, frames=15))
    with pytest.raises(ValueError, match="^video: refused: the file has more than 15 frames; cut it first$"):
        inputs.video_of({"path": str(path)})
    monkeypatch.setattr(inputs, "VIDEO_LIMITS", replace(limits, work_seconds=0))
    with pytest.raises(ValueError, match="^video: refused: the file took more than 0 seconds to read"):
        inputs.video_of({"path": str(path)})
    monkeypatch.setattr(inputs, "VIDEO_LIMITS", replace(limits, frames=16))
    assert inputs.video_of({"path": str(path)})[1] == pytest.approx(15 / 8, abs=0.01)


def test_uploads_have_room_only_until_the_folder_is_full(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(request_limits, "MAX_UPLOADS", 3 * 2**20)
    door = Door()
    assert [door.ask("/gradio_api/upload", bytes(2**20)) for _ in range(4)] == [200, 200, 503, 503]
    assert door.ask(CALL, bytes(2**20)) == 200  # which leaves no file
    full = Door()
    (tmp_path / "file").write_bytes(bytes(2**21))
    assert full.ask("/gradio_api/upload", bytes(2**20)) == 503
    monkeypatch.setattr(uploads, "_MEASURED_SECONDS", 0)
    (tmp_path / "file").unlink()
    assert full.ask("/gradio_api/upload", bytes(2**20)) == 200


def test_names_of_uploads_are_swept(tmp_path):
    page, progress = EphemeralBlocks(kept=100, swept=0.05, streamed=100).queue(), routes.file_upload_statuses
    kept, gone = tmp_path / "kept.png", tmp_path / "anna.png"
    kept.write_bytes(b"")
    page.upload_file_set.update(map(str, (kept, gone)))

    async def live() -> None:
        progress.append("an upload", "anna.png", b"")
        async with page.lifespan(None):
            await asyncio.sleep(0.3)

    asyncio.run(live())
    assert page.upload_file_set == {str(kept)}
    assert "an upload" not in progress._statuses and "an upload" not in progress._signals


@pytest.mark.parametrize("name", ["upload", "upload_progress"])
def test_uploads_have_short_names(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    door, path = Door(), f"/gradio_api/{name}"
    method = "POST" if name == "upload" else "GET"
    assert door.ask(path, b"x", method, b"upload_id=" + b"a" * 60_000) == 414 and not door.read
    assert door.ask(path, b"x", method, b"upload_id=" + b"a" * 20) == 200


def test_doors_that_the_page_does_not_use_are_shut():
    door = Door()
    for path in ("/gradio_api/dev/reload", "/pwa_icon/100000", "/pwa_icon/-1"):
        assert door.ask(path, method="GET") == 404
    for path in ("/pwa_icon", "/favicon.ico", "/manifest.json"):
        assert door.ask(path, method="GET") == 200


def test_a_low_limit_of_connections_is_raised(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 256
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
        monkeypatch.setattr(start, "upload_folder", lambda: nullcontext())
        monkeypatch.setattr(start, "_free_at_once", lambda: None)
        monkeypatch.setattr("space.page.serve.serve", lambda *_: None)
        monkeypatch.setattr(start.signal, "signal", lambda *_: None)
        start.start()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1]) != (low, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
