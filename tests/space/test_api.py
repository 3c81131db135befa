"""Programs and agents: the endpoint, its errors, many at once."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import gradio_client
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from modeling_expclip import FaceAnalyzer
from space.page.inputs import BASIC_LABELS
from tests.conftest import write_video

from .conftest import EXAMPLES, GROUP
from .visitor import Visitor, data_url, png


@pytest.fixture(scope="module")
def client(server) -> gradio_client.Client:
    return gradio_client.Client(server.url, verbose=False)


@pytest.fixture(scope="module")
def analyzer(yunet) -> FaceAnalyzer:
    return FaceAnalyzer(detector=yunet)


def classify(client, image, labels="", prompts="ensemble10"):
    image = None if image is None else gradio_client.handle_file(str(image))
    return client.predict(image, labels, prompts, api_name="/classify")


def test_values_are_the_analyzers(client, analyzer):
    answer = classify(client, GROUP, "bored\nover the moon, angry", "photo")
    labels = ["bored", "over the moon", "angry"]
    expected = analyzer.photo(GROUP, labels, prompts="photo")
    assert len(answer) == 5
    for face, truth in zip(answer, expected, strict=True):
        assert list(face) == ["box", "detector", "label", "scores"] and face["detector"] == "yunet"
        assert face["box"] == list(truth["box"]) and face["label"] == truth["label"]
        assert face["scores"] == pytest.approx(truth["scores"], abs=1e-6)


def test_labels_by_themselves(client, analyzer):
    answer = client.predict(
        gradio_client.handle_file(str(GROUP)), "tractor, joyful", "photo", False, True, api_name="/classify"
    )
    expected = analyzer.photo(GROUP, ["tractor", "joyful"], prompts="photo", multi_label=True)
    assert [face["label"] for face in answer] == [face["label"] for face in expected]
    assert {face["label"] for face in answer} == {"joyful", None}
    for face, truth in zip(answer, expected, strict=True):
        assert face["scores"] == pytest.approx(truth["scores"], abs=1e-6)


def test_no_face_gives_an_empty_list(client, tmp_path, yunet):
    Image.new("RGB", (640, 480), "#7ab").save(tmp_path / "sky.png")
    assert classify(client, tmp_path / "sky.png", "", "") == []
    [face] = classify(client, EXAMPLES / "average-anger.png", "", "")
    assert list(face["scores"]) == list(BASIC_LABELS)


def test_a_real_photo(client, group_photo):
    answer = classify(client, group_photo, "glad, <i>sad</i>", "photo")
    assert len(answer) == 3
    assert all(set(face["scores"]) == {"glad", "<i>sad</i>"} for face in answer)


@pytest.mark.parametrize(
    ("labels", "prompts", "begins"),
    [
        (",".join(map(str, range(101))), "photo", "labels: 101"),
        ("a" * 201, "photo", "labels: label 1"),
        ("sad,sad", "photo", "labels: labels 1 and 2"),
        ("", "nope", "prompts: there is no such prompt set"),
    ],
)
def test_errors_name_the_field(client, labels, prompts, begins):
    with pytest.raises(Exception, match=f"^{begins}") as caught:
        classify(client, EXAMPLES / "average-fear.png", labels, prompts)
    assert "Traceback" not in str(caught.value)


def test_errors_of_images(client, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    Image.new("L", (5001, 5000)).save(tmp_path / "bomb.png")
    for image, begins in (
        (None, "image: there is none yet"),
        (tmp_path / "text.png", "image: this is not an image"),
        (tmp_path / "bomb.png", "image: refused"),
    ):
        with pytest.raises(Exception, match=f"^{begins}"):
            classify(client, image)


def test_only_this_endpoint_is_offered(client):
    offered = client.view_api(return_format="dict")
    assert list(offered["named_endpoints"]) == ["/classify", "/video"] and not offered["unnamed_endpoints"]
    image, video = (
        {parameter["parameter_name"]: parameter["parameter_default"] for parameter in endpoint["parameters"]}
        for endpoint in offered["named_endpoints"].values()
    )
    assert image == {"image": None, "labels": "", "prompts": "ensemble10", "details": False, "multi_label": False}
    assert video == {"video": None, "labels": "", "prompts": "ensemble10", "multi_label": False}


def test_missing_inputs_take_their_defaults(server, client, analyzer):
    """In order, by name and with the client: the picture alone is enough."""
    visitor = Visitor(server.url)
    sent = {"path": visitor.upload(GROUP.read_bytes(), "group.webp")}
    expected = analyzer.photo(GROUP)
    for kind, answer in (
        visitor.call([sent]),
        visitor.call([sent, None, None, None]),
        visitor.call({"image": sent}),
        ("complete", client.predict(gradio_client.handle_file(str(GROUP)), api_name="/classify")),
    ):
        assert kind == "complete"
        assert [face["scores"] for face in answer] == [pytest.approx(face["scores"], abs=1e-6) for face in expected]


def test_details_on_request(server, analyzer):
    visitor = Visitor(server.url)
    sent = {"path": visitor.upload(GROUP.read_bytes(), "group.webp")}
    kind, answer = visitor.call({"image": sent, "labels": "glad, sad", "details": True})
    expected = analyzer.photo(GROUP, ["glad", "sad"])
    assert kind == "complete" and len(answer) == 5
    for face, truth in zip(answer, expected, strict=True):
        assert list(face) == ["box", "detector", "label", "scores", "detection_score", "scores_without_head"]
        assert face["detection_score"] == pytest.approx(truth["detection_score"], abs=1e-6)
        assert sum(face["scores_without_head"].values()) == pytest.approx(1)
        assert face["scores_without_head"] != pytest.approx(face["scores"], abs=1e-3)


def test_a_video_is_the_analyzers(client, analyzer, short_video):
    answer = client.predict(gradio_client.handle_file(str(short_video)), "glad, furious", "photo", api_name="/video")
    expected = list(analyzer.video(short_video, ["glad", "furious"], prompts="photo"))
    assert len(answer) == len(expected) > 8
    assert {entry["face"] for entry in answer} == {0, 1}
    for entry, truth in zip(answer, expected, strict=True):
        assert entry.pop("error") is None and entry.pop("box") == list(truth.pop("box"))
        scores = truth.pop("scores")
        assert entry.pop("scores") == pytest.approx(scores, abs=1e-6)
        assert entry == pytest.approx(truth)


def test_a_damaged_video_is_told_after_what_could_be_read(client, tmp_path, yunet):
    frame = Image.open(EXAMPLES / "average-anger.png").convert("RGB")
    write_video(tmp_path / "whole.mkv", [frame] * 60, g="1")
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(content[: len(content) // 2])
    *entries, last = client.predict(gradio_client.handle_file(str(tmp_path / "half.mkv")), api_name="/video")
    assert entries and all(entry["error"] is None for entry in entries)
    assert last["error"].startswith("The video is") and "/" not in last["error"] and last["scores"] == {}


def test_a_video_without_faces_gives_an_empty_list(client, tmp_path, yunet):
    write_video(tmp_path / "sky.mp4", [Image.new("RGB", (320, 240), "#7ab")] * 8)
    assert client.predict(gradio_client.handle_file(str(tmp_path / "sky.mp4")), api_name="/video") == []


def test_fifty_at_once_are_all_answered_and_none_mixed_up(server, analyzer, tmp_path):
    """Each asks with an image and labels of its own, and gets the values of just those."""
    examples = sorted(EXAMPLES.glob("*.png"))
    asked = []
    for number in range(50):
        face = Image.open(examples[number % len(examples)])
        image = face.resize((face.width, face.height + number))
        path = tmp_path / f"{number}.png"
        image.save(path)
        asked.append((path, f"word {number}, glad, angry"))
    clients = [gradio_client.Client(server.url, verbose=False) for _ in range(5)]

    def ask(number: int) -> list[dict]:
        return classify(clients[number % 5], *asked[number], "class_name")

    start = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    print(f"50 simultaneous requests: {time.monotonic() - start:.1f} s")
    for (path, labels), answer in zip(asked, answers, strict=True):
        truth = analyzer.photo(path, labels.split(", "), prompts="class_name")
        assert len(answer) == len(truth) > 0
        assert answer[0]["scores"] == pytest.approx(truth[0]["scores"], abs=1e-6)


def test_agents_find_described_tools_that_answer_json(server, short_video, yunet):
    content = base64.b64encode((EXAMPLES / "average-happiness.png").read_bytes()).decode()
    image = f"data:image/png;base64,{content}"
    sky = data_url(png(Image.new("RGB", (320, 240), "#7ab")))
    film = f"data:video/webm;base64,{base64.b64encode(short_video.read_bytes()).decode()}"

    async def visit():
        async with (
            streamable_http_client(f"{server.url}gradio_api/mcp/") as (reads, writes, _),
            ClientSession(reads, writes) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            right = await session.call_tool("classify", {"image": image, "labels": "furious, joyful"})
            none = await session.call_tool("classify", {"image": sky})
            wrong = await session.call_tool("classify", {"image": image, "labels": "a,a"})
            moving = await session.call_tool("video", {"video": film})
            return tools, right, none, wrong, moving

    tools, right, none, wrong, moving = asyncio.run(visit())
    tool = next(tool for tool in tools if tool.name == "classify")
    assert "not what a person feels" in tool.description
    fields = tool.inputSchema["properties"]
    assert list(fields) == ["image", "labels", "prompts", "details", "multi_label"] and tool.inputSchema[
        "required"
    ] == ["image"]
    assert "format" not in fields["image"]  # Gradio's says that any address is read
    assert "seven basic expressions" in fields["labels"]["description"]
    # Gradio passes on the first line of each.
    assert all(field["description"].endswith(".") for field in fields.values()), fields
    # The client has compared each structured content with the tool's schema.
    assert all(tool.outputSchema["required"] == ["result"] for tool in tools) and len(tools) == 2
    [face] = right.structuredContent["result"]
    assert not right.isError and face["label"] == "joyful" and json.loads(right.content[0].text) == [face]
    assert not none.isError and none.structuredContent == {"result": []} and none.content[0].text == "[]"
    assert {entry["face"] for entry in moving.structuredContent["result"]} == {0, 1}
    assert wrong.isError and wrong.content[0].text.startswith("labels: labels 1 and 2")


def test_what_comes_with_a_click_is_numbers_and_words(server):
    visitor = Visitor(server.url)
    function = visitor.function("photo-image", "photo-why")
    sent = {"face": 0, "label": "calm", "x": {"path": "no file", "meta": {"_type": "gradio.FileData"}}}
    worked, answer = visitor.ask(function, [None, "calm, tense", "photo", False], "clicks", event_data=sent)
    assert worked and "What speaks for" in answer[0], answer
    assert "no file" not in server.log.read_text()
