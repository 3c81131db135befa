"""The Space's endpoints under attack, by place, by name and over MCP: uploads only, clear refusals, and nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from space.page.request_limits import MAX_BODY, MAX_UPLOAD
from tests.robustness.servers import serve
from tests.space.conftest import EXAMPLES, Server, files_below, serving
from tests.space.visitor import Visitor, data_url

FACE = (EXAMPLES / "average-fear.png").read_bytes()
SECRET = str(EXAMPLES / "average-fear.png")
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"
FIELDS = {"classify": "image", "video": "video"}
ENDPOINT = pytest.mark.parametrize("endpoint", FIELDS)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("attacked")) as served:
        yield served
    assert "Traceback" not in served.log.read_text(), served.log.read_text()
    assert not files_below(served.files)


@pytest.fixture
def visitor(attacked) -> Iterator[Visitor]:
    """After whatever a test did, others are answered."""
    visitor = Visitor(attacked.url)
    yield visitor
    assert visitor.call([{"url": data_url(FACE)}])[0] == "complete"


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server of this machine, and what it was asked."""
    asked: list[str] = []

    def answer(request) -> None:
        asked.append(request.path)
        request.send_response(200)
        request.end_headers()
        request.wfile.write(FACE)

    with serve(answer) as address:
        yield address, asked


@ENDPOINT
def test_no_endpoint_opens_files_or_addresses(visitor, endpoint, elsewhere):
    address, asked = elsewhere
    names = [SECRET, "/etc/passwd", "/no/such/file", "/dev/zero", "../../../etc/passwd", f"file://{SECRET}", ""]
    names += [f"{address}/a.png", f"{visitor.url}/gradio_api/file={SECRET}", f"concat:{SECRET}", f"subfile,,:{SECRET}"]
    said = set()
    for name in names:
        for sent in ({"path": name}, {"path": name, "meta": {"_type": "gradio.FileData"}}, {"path": name, "url": name}):
            for data in ([sent, "", ""], {FIELDS[endpoint]: sent}):
                kind, message = visitor.call(data, endpoint=endpoint)
                assert kind == "error", (name, message)
                said.add(message.partition(";")[0])
    assert {text.partition(": ")[0] for text in said} == {FIELDS[endpoint]} and len(
        said
    ) == 2  # none, and no such upload
    assert visitor.call([{"url": f"{address}/a.png"}], endpoint=endpoint)[0] == "error"
    assert not asked


@ENDPOINT
def test_values_of_wrong_kinds_are_named(visitor, endpoint):
    right, field = {"url": data_url(FACE)}, FIELDS[endpoint]
    for wrong in (7, True, "x", [], [right], {}, None, {"path": None}, {"path": ["x"]}, {"path": {"path": SECRET}}):
        for data in ([wrong], {field: wrong}):
            kind, said = visitor.call(data, endpoint=endpoint)
            assert kind == "error" and said.startswith(f"{field}: "), (wrong, said)
    for name, values in {
        "labels": (7, ["a"], {"a": 1}, True),
        "prompts": (7, ["photo"], {"path": SECRET}, "nope"),
    }.items():
        for wrong in values:
            kind, said = visitor.call({field: right, name: wrong}, endpoint=endpoint)
            assert kind == "error" and said.startswith(f"{name}: "), (wrong, said)


def test_details_are_true_or_false(visitor):
    for wrong in ("true", "", 1, 0, [], {"path": SECRET}):
        kind, said = visitor.call([{"url": data_url(FACE)}, "", "", wrong])
        assert (kind, said) == ("error", "details: true or false is expected"), wrong


@ENDPOINT
def test_missing_and_unknown_inputs(visitor, endpoint):
    field = FIELDS[endpoint]
    kind, said = visitor.call([], endpoint=endpoint)
    assert kind == "error" and said.startswith(f"{field}: there is none yet")
    kind, said = visitor.call([None] * 9, endpoint=endpoint)
    assert kind == "error" and "values are expected, 9 came" in said
    kind, said = visitor.call({}, endpoint=endpoint)
    assert kind == "refused" and f"required argument: {field}" in said
    kind, said = visitor.call({field: None, "x" * 3000: 1}, endpoint=endpoint)
    assert (kind == "refused" and "not a valid" in said) or len(said) < 500
    for path in ("call/nope", "call/v2/nope", "call/v2/classify/../nope"):
        status, said = visitor.post(f"/gradio_api/{path}", {"data": [], "image": None})
        assert status in (404, 405), path
    for body in (b"", b"{", b"[]", b"7", b"null", b'{"data": 7}', b'{"data": {"image": 1}}', b"\xff\xfe"):
        for path in (f"call/{endpoint}", f"call/v2/{endpoint}"):
            assert visitor.post(f"/gradio_api/{path}", body)[0] in (400, 422), (path, body)


@ENDPOINT
def test_huge_requests_are_refused_before_they_are_held(visitor, endpoint):
    for path in (f"call/{endpoint}", f"call/v2/{endpoint}"):
        assert visitor.pour(f"/gradio_api/{path}", MAX_BODY // 2**20 + 2, chunked=True) in (0, 413)
        assert visitor.post(f"/gradio_api/{path}", b'{"data":[' + b"[]," * 10_000 + b"1]}")[0] == 413
    kind = "multipart/form-data; boundary=x"
    assert visitor.pour("/gradio_api/upload", MAX_UPLOAD // 2**20 + 2, chunked=False, kind=kind) in (0, 413)
    kind, said = visitor.call([{"url": data_url(b"")}, "a," * 2000, ""], endpoint=endpoint)
    assert kind == "error" and said.startswith("labels: ")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        *((b"", "a.mp4"), (b"hello", "a.mp4"), (FACE, "a.mp4"), (FACE, "a.png"), (b"\0" * 100_000, "a.mkv")),
        *((PLAYLIST, "a.m3u8"), (PLAYLIST, "a.mp4"), (CONCAT, "a.ffconcat"), (CONCAT, "a.avi")),
        (b"\x1aE\xdf\xa3" + b"\xff" * 5000, "a.webm"),
        (b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 500, "a.avi"),
    ],
)
def test_videos_that_are_no_videos(visitor, attacked, content, name):
    sent = {"path": visitor.upload(content, name)}
    kind, said = visitor.call({"video": sent}, endpoint="video")
    assert kind == "error" and said.startswith("video: "), said
    assert str(attacked.files) not in said and "passwd" not in said


def test_a_data_url_is_no_video(visitor):
    kind, said = visitor.call([{"url": "data:video/mp4;base64,aGVsbG8="}], endpoint="video")
    assert kind == "error" and said.startswith("video: data URLs are read for images only; upload the file first")


@ENDPOINT
def test_a_tool_opens_no_other_files_either(visitor, endpoint, elsewhere):
    address, asked = elsewhere
    field = FIELDS[endpoint]
    right = data_url(FACE)
    wrong = [SECRET, f"file://{SECRET}", "/dev/zero", f"{address}/a.png", f"{visitor.url}/gradio_api/file={SECRET}"]
    wrong += [{"path": SECRET, "meta": {"_type": "gradio.FileData"}}, {"path": SECRET}, [right], 7, None, "", "data:,"]
    wrong += ["data:image/png;base64,%%%", "data:video/mp4;base64,aGVsbG8="]
    calls = [{field: value} for value in wrong]
    calls += [{}, {field: right, "nope": 1}, {field: right, "labels": {"path": SECRET}}, {field: right, "prompts": "x"}]

    async def ask() -> list:
        async with (
            streamable_http_client(f"{visitor.url}/gradio_api/mcp/") as (reads, writes, _),
            ClientSession(reads, writes) as session,
        ):
            await session.initialize()
            return [await session.call_tool(endpoint, arguments) for arguments in calls]

    for arguments, answer in zip(calls, asyncio.run(ask()), strict=True):
        assert answer.isError and answer.structuredContent is None, arguments
        assert "Traceback" not in answer.content[0].text
    assert not asked
