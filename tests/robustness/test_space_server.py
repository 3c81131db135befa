"""The Space under attack, as a server: what was sent is measured before it is read, is answered, and then gone."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.space.conftest import EXAMPLES, Server, serving
from tests.space.visitor import Visitor, count_in_memory, data_url, memory, png

FACE = (EXAMPLES / "average-fear.png").read_bytes()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("attacked")) as served:
        yield served
    assert "Traceback" not in served.log.read_text(), served.log.read_text()


@pytest.fixture
def visitor(attacked) -> Visitor:
    return Visitor(attacked.url)


def test_no_function_of_the_page_opens_other_files(visitor):
    """With Gradio's mark of a file and without it, in each function, and in fields that are no files."""
    secret = str(EXAMPLES / "average-fear.png")
    photo, why = (visitor.function("photo-image", f"photo-{name}") for name in ("result", "why"))
    live = visitor.function("live-camera", "live-consent")
    video = visitor.function("video-file", "video-download")
    for path in (secret, "/no/such/file", "/dev/ptmx", f"{visitor.url}/config"):
        for mark in ({}, {"meta": {"_type": "gradio.FileData"}}):
            sent = {"path": path, **mark}
            kind, said = visitor.call([sent, "", ""])
            assert kind == "error" and said.startswith("image: there is no such upload"), said
            for function in (photo, why, video):
                bar = {"face": 0, "label": "fear"}
                right, said = visitor.ask(function, [sent, "", ""], "a", event_data=bar)
                assert not right and "there is no such upload" in said
            right, shown = visitor.ask(live, [sent, "", "", None], f"live{hash(path)}{len(mark)}")
            assert right and "there is no such upload" in shown[0] and "data:image" not in shown[0]
            assert visitor.call([None, sent, ""])[0] == "error"
    status, _ = visitor.post("/gradio_api/run/classify", {"data": [{"path": secret}, "", ""]})
    assert status == 404  # the queue, and its limits, cannot be passed by
    for path in (
        f"/gradio_api/file={visitor.url}/config",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/proxy=http://x.hf.space",
    ):
        assert visitor.get(path)[0] == 404


def test_only_bars_are_explained(visitor):
    why = visitor.function("photo-image", "photo-why")
    for bar in (None, [], {}, {"face": True, "label": "fear"}, {"face": "0", "label": "fear"}, {"face": 0, "label": 5}):
        right, said = visitor.ask(why, [None, "", ""], "b", event_data=bar)
        assert not right and "choose the bar" in said
    for bar in ({"face": -1, "label": "fear"}, {"face": 99, "label": "fear"}, {"face": 0, "label": "<b>"}):
        right, said = visitor.ask(why, [None, "", ""], "b", event_data=bar)
        assert not right and "press Compare" in said
    right, shown = visitor.ask(why, [None, "fear", ""], "b", event_data={"face": 0, "label": "fear"})
    assert right and "data:image/jpeg" in shown[0] and "fear" in shown[0]


def test_devices_hold_no_place(visitor):
    attackers = [threading.Thread(target=visitor.call, args=([{"path": "/dev/ptmx"}, "", ""],)) for _ in range(20)]
    for thread in attackers:
        thread.start()
    start = time.monotonic()
    assert visitor.call([{"url": data_url(FACE)}, "", ""])[0] == "complete"
    assert time.monotonic() - start < 20
    for thread in attackers:
        thread.join(60)
        assert not thread.is_alive()


def test_nonsense_of_every_kind_is_an_answer(visitor):
    example, agree = 2, visitor.function("live-consent", None)
    for number in (300, -1, None, "1", [1], 1.0):
        assert not visitor.ask(example, [], "b", event_data={"number": number})[0]
    assert not visitor.ask(example, [], "b", event_data=7)[0]
    assert visitor.ask(agree, ["x" * 10_000, None], "b")[0]
    assert visitor.call([])[0] == "refused" or visitor.call([])[0] == "error"
    status, said = visitor.post("/gradio_api/queue/join", {"data": [], "fn_index": 3, "session_hash": "c" * 10_000})
    assert status == 400 and b"session_hash" in said


def test_bodies_are_measured_before_they_are_held(visitor, attacked):
    before = memory(attacked.process)
    asked = [
        ("/gradio_api/queue/join", 150, "application/json"),
        ("/gradio_api/call/classify", 150, "application/json"),
        ("/gradio_api/mcp/", 150, "application/json"),
        ("/gradio_api/upload", 150, "multipart/form-data; boundary=x"),
    ]
    statuses: list[int] = []

    def pour(path: str, megabytes: int, kind: str, chunked: bool) -> None:
        statuses.append(visitor.pour(path, megabytes, chunked, kind))

    threads = [threading.Thread(target=pour, args=(*one, chunked)) for one in asked for chunked in (False, True)] * 1
    threads.append(threading.Thread(target=pour, args=("/gradio_api/component_server", 1, "application/json", False)))
    for thread in threads:
        thread.start()
    peak = 0.0
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory(attacked.process))
        time.sleep(0.05)
    print(f"eight bodies of 150 MB: {sorted(statuses)}, memory {before:.0f} MB, at most {peak:.0f} MB")
    assert set(statuses) <= {0, 400, 404, 413} and statuses.count(413) >= 6 and statuses.count(404) == 1
    assert peak - before < 400
    assert visitor.call([{"url": data_url(FACE)}, "", ""])[0] == "complete"


def test_small_pictures_that_become_large_ones(visitor, attacked):
    def grey(side: int) -> bytes:
        return png(Image.fromarray(np.full((side, side), 1000, np.uint16)))

    assert len(grey(9400)) < 300_000
    kind, said = visitor.call([{"url": data_url(grey(9400))}, "", ""])
    assert kind == "error" and said.startswith("image: refused: 9400 x 9400")
    before, peak, content = memory(attacked.process), 0.0, data_url(grey(4990))
    threads = [threading.Thread(target=visitor.call, args=([{"url": content}, "", ""],)) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory(attacked.process))
        time.sleep(0.05)
    print(f"six 16-bit greys of {len(content)} bytes: memory {before:.0f} MB, at most {peak:.0f} MB")
    assert peak - before < 2500


def test_nothing_of_a_request_is_left_in_memory(visitor, attacked):
    """Forty images by all doors, a quarter of the answers never collected: their bytes, written in base64 or as pixels, are gone."""
    tile = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    row = tile[30, 10:30]
    rgb, bgr = row.tobytes(), row[:, ::-1].tobytes()  # as pixels, and as a BMP has them
    marks = [rgb, bgr, *(base64.b64encode(bgr[k:])[:48] for k in range(3))]
    photo = visitor.function("photo-image", "photo-result")
    live = visitor.function("live-camera", "live-consent")
    face = Image.open(io.BytesIO(FACE)).convert("RGB")
    for number in range(40):
        image = face.resize((256 + 40 * (number % 5),) * 2)
        image.paste(Image.fromarray(tile), (0, 0))
        file = io.BytesIO()
        image.save(file, "BMP")
        sent = {"url": data_url(file.getvalue())}
        assert bgr in file.getvalue() and any(mark in sent["url"].encode() for mark in marks)
        visitor.call([sent, "glad, sad", "photo"], collect=number % 4 != 0)
        if number % 8 == 0:
            visitor.ask(photo, [sent, "glad, sad", "photo"], f"kept{number}")
            visitor.ask(live, [sent, "glad, sad", "photo", None], f"seen{number}")
    deadline = time.monotonic() + 30  # the last requests end, and their streams
    while (left := count_in_memory(attacked.process, marks)) and time.monotonic() < deadline:
        time.sleep(1)
    print(f"of 50 images, {left} places in memory still hold bytes")
    assert left == 0
