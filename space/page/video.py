"""The video tab: a short video becomes a timeline, as a plot and as a table."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from modeling_expclip.media.label_sets import Words
from modeling_expclip.media.plot import draw_timeline
from modeling_expclip.media.table import FIXED_COLUMNS, Row, write

from . import render
from .controls import VIDEO_QUEUE, label_fields, report_errors
from .inputs import MAX_VIDEO_BYTES, MAX_VIDEO_SECONDS, VIDEO_LIMITS, choice_of, labels_of, prompts_of, video_of
from .recognition import Recogniser

_NAME = "expressions"
_LIMITS = (
    f"At most {MAX_VIDEO_SECONDS // 60} minutes and {MAX_VIDEO_BYTES // 2**20} MB; four frames a second are read. "
    "The file is deleted within ten minutes. Only show people who agree."
)


def read_video(
    recogniser: Recogniser,
    sent: Any,
    words: tuple[tuple[str, ...], str, bool],
    keep: Callable[[dict[str, Any]], None],
    progress: gr.Progress,
    gone: Callable[[], bool],
) -> str:
    """Calls ``keep`` with each entry of ``FaceAnalyzer.video``, until the visitor has ``gone``.

    Returns why the video was not read to its end, as it is damaged or beyond a limit, also one that
    ``keep`` raises: what came before counts. Empty where it was. ValueError where it is no video.
    """
    wanted = recogniser.prototypes(*words)
    file, seconds = video_of(sent)
    try:
        for entry in recogniser.video(file, wanted, VIDEO_LIMITS):
            if gone():
                break
            keep(entry)
            progress(min(entry["time"] / max(seconds, 0.1), 1.0), desc=f"{entry['time']:.0f} of {seconds:.0f} s")
    except ValueError as error:
        return str(error).replace(str(file), "The video")
    return ""


def video_tab(recogniser: Recogniser, left: Callable[[str | None], bool]) -> None:
    """Builds the tab inside the current ``gr.Tab``; ``left`` says whether the visitor of a session has gone."""

    def read(
        sent: dict[str, Any] | None,
        labels: str,
        prompts: str,
        multi_label: bool,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> Iterator:
        with report_errors():
            names, prompts = labels_of(labels), prompts_of(prompts)
            words = Words(names, prompts, choice_of("multi_label", multi_label))
            taken = sorted(set(names) & set(FIXED_COLUMNS))
            if taken:
                raise ValueError(f"labels: {', '.join(taken)} is a column of the table; call the label something else")
            rows: list[Row] = []

            def keep(entry: dict[str, Any]) -> None:
                rows.append(Row(_NAME, **entry))

            gone = partial(left, request.session_hash)
            problem = read_video(recogniser, sent, (names, prompts, words.multi_label), keep, progress, gone)
            if gone():
                return
            if not rows:
                raise ValueError(f"video: {problem}" if problem else "video: no face was found in it")
        # What follows the yield runs after Gradio took its copy, which it deletes by the clock.
        with tempfile.TemporaryDirectory() as folder:
            table, plot = Path(folder) / f"{_NAME}.csv", Path(folder) / f"{_NAME}.png"
            write(rows, names, table, moving=True)
            draw_timeline(rows, words, plot)
            drawn = _drawn(rows, plot.read_bytes(), problem, recogniser.no_detector)
            yield drawn, gr.DownloadButton(value=str(table), interactive=True)

    with gr.Row(elem_classes="xc-areas"):
        with gr.Column():
            video = gr.Video(label="Your video", sources=["upload"], height=240, elem_id="video-file")
            gr.HTML(f'<p class="xc-fine">{_LIMITS}</p>', js_on_load=None)
        with gr.Column():
            waiting = render.placeholder("The timeline appears here: for each person, how the labels fit over time.")
            timeline = gr.HTML(waiting, js_on_load=None, apply_default_css=False, elem_id="video-timeline")
            download = gr.DownloadButton("Download the table (CSV)", interactive=False, elem_id="video-download")
        with gr.Column():
            chosen = label_fields("video")
            button = gr.Button("Read the video", variant="primary", elem_id="video-read")

    gr.on(
        [video.upload, button.click],
        read,
        [video, *chosen.all],
        [timeline, download],
        show_progress_on=timeline,
        api_visibility="private",
        **VIDEO_QUEUE,
    )


_PROGRESS = gr.Progress()


def _drawn(rows: list[Row], plot: bytes, problem: str, no_detector: str) -> str:
    people: dict[int, list[Row]] = {}
    for row in rows:
        people.setdefault(row.face, []).append(row)
    items = "".join(f"<li>{_summary(number, seen, len(people))}</li>" for number, seen in sorted(people.items())[:6])
    notes = "".join(f'<p class="xc-note">{escape(note)}</p>' for note in (problem, no_detector) if note)
    return (
        '<section class="xc-result"><div class="xc-plot" tabindex="0" role="region" aria-label="Timeline">'
        f'<img src="data:image/png;base64,{base64.b64encode(plot).decode()}" '
        'alt="For each person, the probability of each label over time"></div>'
        f"<ul>{items}</ul>{notes}</section>"
    )


def _summary(number: int, seen: list[Row], people: int) -> str:
    label, often = Counter(row.label for row in seen).most_common(1)[0]
    who = f"Face {number}" if people > 1 else "The face"
    return (
        f"{who}, {seen[0].time:.1f} to {seen[-1].time:.1f} s: apparent expression "
        f"<em>{escape(label or render.NONE_FITS)}</em> in {often / len(seen):.0%} of {len(seen)} frames"
    )
