"""The live tab: a camera's frames, and bars that follow them smoothly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from . import drawing
from .controls import words
from .inputs import labels_of, picture_of, prompts_of
from .recognition import FaceReading, Recogniser

LIVE_SECONDS = 60
VISITORS = 4  # cameras that are read at the same time; more wait
_GRACE = 5  # seconds in which a camera that was told to stop may still send frames
_EVERY = 0.25  # seconds between frames
_PAUSE = 3  # seconds without a frame after which a camera counts as started anew
_SMOOTHING = 0.8  # seconds after which a change is shown by two thirds
_PREVIEW = 480  # pixels

_CONSENT = f"""
**Before the camera starts.** While it runs, some pictures a second are sent to this server. Each is read in memory and
replaced by the next; none is written to disk or logged. The camera stops after {LIVE_SECONDS} seconds so that others get a turn.
Only show people who agree. The bars rate apparent expressions, not feelings.
"""

_OVER = f"The {LIVE_SECONDS} seconds are over. Agree again to go on."


@dataclass(frozen=True)
class Smoothed:
    """What is remembered of one visitor's camera: when it started, when it was last seen, and the averages of the probabilities."""

    started: float
    time: float
    asked: tuple = ()
    scores: dict[str, float] = field(default_factory=dict)
    clip_scores: dict[str, float] | None = None


def smooth(before: Smoothed, face: FaceReading, asked: tuple, now: float) -> Smoothed:
    """The exponential averages after one more frame; they begin anew when other labels or prompts are asked for."""
    if before.asked != asked:
        return Smoothed(before.started, now, asked, face.scores, face.clip_scores)
    kept = math.exp((before.time - now) / _SMOOTHING)

    def mixed(old: dict[str, float] | None, new: dict[str, float] | None) -> dict[str, float] | None:
        return None if new is None else {label: kept * old[label] + (1 - kept) * new[label] for label in new}

    scores, clip_scores = mixed(before.scores, face.scores), mixed(before.clip_scores, face.clip_scores)
    return Smoothed(before.started, now, asked, scores, clip_scores)


def live_tab(recogniser: Recogniser) -> None:
    """Builds the tab inside the current ``gr.Tab``."""

    def watch(sent: dict[str, Any] | None, labels: str, prompts: str, before: Smoothed | None):
        now = time.monotonic()
        if before is None or now - before.time > _PAUSE:
            before = Smoothed(now, now)
        if now - before.started > LIVE_SECONDS + _GRACE:
            raise gr.Error(f"camera: the {LIVE_SECONDS} seconds are over", print_exception=False)
        if now - before.started > LIVE_SECONDS:  # without consent the camera closes
            return drawing.empty(_OVER), replace(before, time=now), False
        try:
            asked = labels_of(labels), prompts_of(prompts)
            wanted = recogniser.words(*asked)
            with recogniser.place():
                picture = picture_of(sent)
                faces = recogniser.read(picture, wanted)
                if not faces:
                    return _unseen(picture), replace(before, time=now), gr.skip()
                after = smooth(before, faces[0], asked, now)
                shown = FaceReading(faces[0].box, after.scores, after.clip_scores)
                return _drawn(recogniser, picture, shown, len(faces)), after, gr.skip()
        except ValueError as error:  # in the frame: a message for each camera frame would cover the page
            return drawing.empty(str(error)), replace(before, time=now), gr.skip()

    def agree(agreed: Any, seen: Smoothed | None):
        agreed = agreed is True
        return gr.Image(visible=agreed), gr.HTML(visible=not agreed), None if agreed else seen

    waiting = drawing.empty("The bars appear here once the camera runs.")
    seen = gr.State()
    with gr.Row(elem_classes="xc-areas"):
        with gr.Column():
            with gr.Column(elem_classes="xc-consent"):
                gr.Markdown(_CONSENT)
                consent = gr.Checkbox(label="I agree. Show the camera.", container=False, elem_id="live-consent")
            closed = gr.HTML(
                drawing.empty("The camera appears here."),
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
            bars = gr.HTML(waiting, js_on_load=None, apply_default_css=False, elem_id="live-reading")
        with gr.Column():
            chosen = words("live")

    hidden = {"show_progress": "hidden", "api_visibility": "private"}
    consent.change(agree, [consent, seen], [camera, closed, seen], **hidden)
    camera.stream(
        watch,
        [camera, chosen.labels, chosen.prompts, seen],
        [bars, seen, consent],
        stream_every=_EVERY,
        time_limit=LIVE_SECONDS,
        concurrency_limit=VISITORS,
        concurrency_id="live",
        show_progress="minimal",  # tells who has to wait
        show_progress_on=bars,
        api_visibility="private",
    )


def _drawn(recogniser: Recogniser, picture: Any, face: FaceReading, count: int) -> str:
    note = f"{count} faces in view: the largest is read." if count > 1 else recogniser.no_detector
    frame = drawing.draw_photo(picture.size, drawing.data_url(picture, _PREVIEW), [face])
    bars = drawing.draw_bars(face.scores, face.clip_scores, ordered=False)
    return f'<section class="xc-reading">{frame}{bars}<p class="xc-note">{note}</p></section>'


def _unseen(picture: Any) -> str:
    frame = drawing.draw_photo(picture.size, drawing.data_url(picture, _PREVIEW), [])
    return f'<section class="xc-reading">{frame}<p class="xc-note">No face in view.</p></section>'
