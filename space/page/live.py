"""The live tab: a camera's frames, and bars that follow them smoothly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from . import render
from .controls import label_fields
from .inputs import choice_of, image_of, labels_of, prompts_of
from .recognition import FaceScores, Recogniser

LIVE_SECONDS = 60
VISITORS = 4  # cameras that are read at the same time; more wait
_GRACE = 5  # seconds in which a camera may still send frames after it should have stopped
_EVERY = 0.25  # seconds between frames
_PAUSE = 3  # seconds without a frame after which a camera counts as started anew
_SMOOTHING = 0.8  # seconds after which a change is shown by two thirds
_PREVIEW = 480  # pixels

_CONSENT = f"""
**Before the camera starts.** While it runs, some frames a second are sent to this server. Each is
read in memory and replaced by the next; none is written to disk or logged. The camera stops after
{LIVE_SECONDS} seconds so that others get a turn. Only show people who agree. The bars rate apparent
expressions, not feelings.
"""

_OVER = f"The {LIVE_SECONDS} seconds are over. Agree again to go on."


@dataclass(frozen=True)
class Smoothed:
    """What is remembered of one visitor's camera.

    When it started and was last seen (seconds), the labels and prompt set, and the averages of the
    probabilities.
    """

    started: float
    time: float
    params: tuple = ()
    scores: dict[str, float] = field(default_factory=dict)
    clip_scores: dict[str, float] | None = None


def smooth(before: Smoothed, face: FaceScores, params: tuple, now: float) -> Smoothed:
    """The exponential averages after one more frame; other labels or prompts begin anew."""
    if before.params != params:
        return Smoothed(before.started, now, params, face.scores, face.clip_scores)
    kept = math.exp((before.time - now) / _SMOOTHING)

    def mixed(old: dict[str, float] | None, new: dict[str, float] | None) -> dict[str, float] | None:
        return None if new is None else {label: kept * old[label] + (1 - kept) * new[label] for label in new}

    scores, clip_scores = mixed(before.scores, face.scores), mixed(before.clip_scores, face.clip_scores)
    return Smoothed(before.started, now, params, scores, clip_scores)


def live_tab(recogniser: Recogniser) -> None:
    """Builds the tab inside the current ``gr.Tab``."""

    def watch(sent: dict[str, Any] | None, labels: str, prompts: str, multi_label: bool, before: Smoothed | None):
        now = time.monotonic()
        if before is None or now - before.time > _PAUSE:
            before = Smoothed(now, now)
        if now - before.started > LIVE_SECONDS + _GRACE:
            raise gr.Error(f"camera: the {LIVE_SECONDS} seconds are over", print_exception=False)
        if now - before.started > LIVE_SECONDS:  # without consent the camera closes
            return render.placeholder(_OVER), replace(before, time=now), False
        try:
            params = labels_of(labels), prompts_of(prompts), choice_of("multi_label", multi_label)
            wanted = recogniser.prototypes(*params)
            with recogniser.slot():
                image = image_of(sent)
                faces = recogniser.classify(image, wanted)
                if not faces:
                    return _unseen(image), replace(before, time=now), gr.skip()
                after = smooth(before, faces[0], params, now)
                shown = FaceScores(faces[0].box, after.scores, after.clip_scores)
                return _drawn(recogniser, image, shown, len(faces)), after, gr.skip()
        except ValueError as error:  # in the frame: a message for each camera frame would cover the page
            return render.placeholder(str(error)), replace(before, time=now), gr.skip()

    def agree(agreed: Any, seen: Smoothed | None):
        agreed = agreed is True
        return gr.Image(visible=agreed), gr.HTML(visible=not agreed), None if agreed else seen

    waiting = render.placeholder("The bars appear here once the camera runs.")
    seen = gr.State()
    with gr.Row(elem_classes="xc-areas"):
        with gr.Column():
            with gr.Column(elem_classes="xc-consent"):
                gr.Markdown(_CONSENT)
                consent = gr.Checkbox(label="I agree. Show the camera.", container=False, elem_id="live-consent")
            closed = gr.HTML(
                render.placeholder("The camera appears here."),
                js_on_load=None,
                apply_default_css=False,
                elem_classes="xc-closed",
            )
            camera = gr.Image(
                label="Camera",
                sources=["webcam"],
                streaming=True,
                type="filepath",
                height=280,
                visible=False,
                webcam_options=gr.WebcamOptions(constraints={"video": {"width": 640, "height": 480}}),
                elem_id="live-camera",
            )
        with gr.Column():
            bars = gr.HTML(waiting, js_on_load=None, apply_default_css=False, elem_id="live-result")
        with gr.Column():
            chosen = label_fields("live")

    hidden = {"show_progress": "hidden", "api_visibility": "private"}
    consent.change(agree, [consent, seen], [camera, closed, seen], **hidden)
    camera.stream(
        watch,
        [camera, *chosen.all, seen],
        [bars, seen, consent],
        stream_every=_EVERY,
        time_limit=LIVE_SECONDS,
        concurrency_limit=VISITORS,
        concurrency_id="live",
        show_progress="minimal",  # tells who has to wait
        show_progress_on=bars,
        api_visibility="private",
    )


def _drawn(recogniser: Recogniser, image: Any, face: FaceScores, count: int) -> str:
    note = f"{count} faces in view: the largest is read." if count > 1 else recogniser.no_detector
    frame = render.render_photo(image.size, render.data_url(image, _PREVIEW), [face])
    bars = render.render_bars(face.scores, face.clip_scores, ordered=False)
    return f'<section class="xc-result">{frame}{bars}<p class="xc-note">{note}</p></section>'


def _unseen(image: Any) -> str:
    frame = render.render_photo(image.size, render.data_url(image, _PREVIEW), [])
    return f'<section class="xc-result">{frame}<p class="xc-note">No face in view.</p></section>'
