"""The endpoints for programs and agents: ``/classify`` and ``/video``, also offered as tools over MCP."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from .controls import IMAGE_QUEUE, VIDEO_QUEUE, report_errors
from .inputs import DEFAULT_PROMPTS, choice_of, image_of, labels_of, prompts_of
from .recognition import Recogniser
from .video import read_video

_MAX_ANSWER = 8 * 2**20  # bytes of a video's entries, each of which names all labels
_PROGRESS = gr.Progress()

_FACE = {
    "box": {"type": ["array", "null"], "items": {"type": "integer"}, "description": "x0, y0, x1, y1 in pixels"},
    "label": {"type": ["string", "null"], "description": "the most probable, null if none fits"},
    "scores": {"type": "object", "additionalProperties": {"type": "number"}, "description": "label: probability"},
}
_DETECTOR = {"detector": {"type": ["string", "null"], "description": "what found the face: yunet or mtcnn"}}
_DETECTION = {"detection_score": {"type": ["number", "null"], "description": "the face detector's, 0 to 1"}}
_WITHOUT_HEAD = {"scores_without_head": {**_FACE["scores"], "type": ["object", "null"]}}
_MOMENT = {
    "time": {"type": ["number", "null"], "description": "seconds from the start"},
    "face": {"type": ["integer", "null"], "description": "the person's number, from 0"},
    "error": {"type": ["string", "null"], "description": "why the reading ended early; only in the last entry"},
}


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


# JSON schemas of an entry of each endpoint's list.
SCHEMAS = {
    "/classify": _object({**_FACE, **_DETECTOR}, {**_DETECTION, **_WITHOUT_HEAD}),
    "/video": _object({**_MOMENT, **_FACE, **_DETECTION}, {}),
}


def endpoints(recogniser: Recogniser, left: Callable[[str | None], bool]) -> None:
    """Adds the endpoints to the current ``gr.Blocks``; ``left`` says whether the visitor of a session has gone."""

    def classify(image: Any, labels: str, prompts: str, details: bool, multi_label: bool) -> list[dict[str, Any]]:
        """Find the faces in an image and score each apparent facial expression against any labels.

        It rates what an expression looks like, not what a person feels. Returns a list with one
        entry for each face, the largest first, and an empty list where no face is found: {"box":
        [x0, y0, x1, y1] in pixels, "detector": what found it, yunet or mtcnn, "label": the most
        probable label, "scores": {label: probability}}. A server without a face detector reads the
        whole image as one face; its box and detector are null.

        Args:
            image: A data URL, or what was uploaded to this server before; other addresses are not fetched.
            labels: At most 100, separated by commas or line breaks. Empty for the seven basic expressions.
            prompts: class_name, expression, photo, ensemble5 or ensemble10. Empty for ensemble10.
            details: True adds the face detector's score and the probabilities without the projection head.
            multi_label: True scores each label by itself, 0 to 1; "label" is then null where none fits.
        """
        with report_errors():
            detailed, alone = choice_of("details", details), choice_of("multi_label", multi_label)
            wanted = recogniser.prototypes(labels_of(labels), prompts_of(prompts), alone)
            with recogniser.slot():
                faces = recogniser.classify(image_of(image), wanted)
        answer = []
        for face in faces:
            entry = {
                "box": list(face.box) if face.box else None,
                "detector": recogniser.detector,
                "label": face.label,
                "scores": face.scores,
            }
            if detailed:
                entry |= {"detection_score": face.detection_score, "scores_without_head": face.clip_scores}
            answer.append(entry)
        return answer

    def video(
        video: Any,
        labels: str,
        prompts: str,
        multi_label: bool,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> list[dict[str, Any]]:
        """Follow the faces in a short video and score each apparent facial expression against any labels.

        It rates what an expression looks like, not what a person feels. Four frames a second are
        read. Returns a list with one entry for each face in each of them, in the order of time, and
        an empty list where no face is found: {"time": seconds, "face": the person's number, "box":
        [x0, y0, x1, y1] in pixels, "detection_score": the face detector's, "label": the most
        probable label, "scores": {label: probability}, "error": null}. If the video cannot be read
        to its end, the last entry has an "error" and nothing else.

        Args:
            video: What was uploaded to this server before; other addresses are not fetched.
            labels: At most 100, separated by commas or line breaks. Empty for the seven basic expressions.
            prompts: class_name, expression, photo, ensemble5 or ensemble10. Empty for ensemble10.
            multi_label: True scores each label by itself, 0 to 1; "label" is then null where none fits.
        """
        answer: list[dict[str, Any]] = []
        size = 0

        def keep(found: dict[str, Any]) -> None:
            nonlocal size
            entry = {**found, "box": list(found["box"]) if found["box"] else None, "error": None}
            size += len(json.dumps(entry))
            if size > _MAX_ANSWER:
                raise ValueError(
                    f"refused: the answer is longer than {_MAX_ANSWER // 2**20} MB; "
                    "ask with fewer or shorter labels, or cut the video"
                )
            answer.append(entry)

        with report_errors():
            problem = read_video(
                recogniser,
                video,
                (labels_of(labels), prompts_of(prompts), choice_of("multi_label", multi_label)),
                keep,
                progress,
                partial(left, request.session_hash),
            )
            if problem and not answer:
                raise ValueError(f"video: {problem}")
        if problem:
            nothing = dict.fromkeys(("time", "face", "box", "detection_score", "label"))
            answer.append({**nothing, "scores": {}, "error": problem})
        return answer

    # An endpoint takes its types from components; nobody sees these.
    with gr.Group(visible=False):
        image, film = gr.Image(label="image", type="filepath", image_mode=None), gr.Video(label="video")
        labels = gr.Textbox("", label="labels")
        prompts = gr.Textbox(DEFAULT_PROMPTS, label="prompts")
        details, multi_label = gr.Checkbox(False, label="details"), gr.Checkbox(False, label="multi_label")
        faces, moments = gr.JSON(label="faces"), gr.JSON(label="faces")
        asked = [image, labels, prompts, details, multi_label]
        gr.Button().click(classify, asked, faces, api_name="classify", **IMAGE_QUEUE)
        gr.Button().click(video, [film, labels, prompts, multi_label], moments, api_name="video", **VIDEO_QUEUE)
