"""Who looks how, and when: a video becomes one entry for each face and moment. Travels inside every checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .faces import FaceDetector
from .tracking import FaceTracker
from .video import NO_LIMITS, VideoLimits, read_frames, sample_clip

FPS = 4.0  # frames looked at in a second; expressions last from half a second on
RESOLUTION = 1280  # where faces are looked for in video frames, which are many


def timeline(
    pipeline: Any,
    video: str | Path,
    asked: dict[str, Any],
    faces: bool | FaceDetector = False,
    fps: float = FPS,
    window: float | None = None,
    clip: str | None = None,
    frames_fps: float | None = None,
    limits: VideoLimits = NO_LIMITS,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """
    Args:
        pipeline: a ``FacialExpressionPipeline``.
        video: a file, or a folder of frames, of which ``frames_fps`` make a second.
        asked: labels and prompts, for ``pipeline.scores``.
        faces: find faces in the frames and follow them; False takes each frame for one face.
        fps: frames looked at for each second.
        window: seconds; answers then come from the mean embedding of a person's faces in each window, as the paper reads clips.
        clip: one answer for the whole video from 16 frames, as the paper does: ``uniform`` or ``paper`` (see ``sample_clip``). With
            ``faces``, from the largest face of each.
        limits: what reading the video may cost; beyond, ValueError is raised after what came before.
        options: for ``pipeline.embed``.

    Yields ``{"time", "face", "box", "detection_score", "label", "scores"}``: seconds from the start (of the window), the person's
    number, where they were (in a window, where they were seen best). What was read of a damaged video comes before the error.
    """
    if window is not None and not window > 0:
        raise ValueError(f"a window must be longer than 0 seconds, got {window}")
    if window is not None and clip is not None:
        raise ValueError("ask for windows or for one answer for the clip, not both")
    detector = FaceDetector(resolution=RESOLUTION) if faces is True else faces
    if clip is not None:
        yield from _clip(pipeline, video, asked, detector, clip, frames_fps, limits, options)
        return
    frames = ((frame.time, frame.image) for frame in read_frames(video, fps, frames_fps, limits))
    tracker, start = FaceTracker(), 0.0
    seen: dict[int, list] = {}
    try:
        for time, picture in pipeline.embed(frames, detector, asked if window is None else None, **options):
            if picture.error is not None:
                raise picture.error
            if window is not None and time >= start + window:
                yield from _window(pipeline, start, seen, asked)
                seen, start = {}, time - time % window
            if picture.embeds is None:
                tracker(time, [])
                continue
            places = picture.places
            numbers = [0] if picture.faces is None else tracker(time, [face.box for face in picture.faces])
            if window is not None:
                for number, place, embed in zip(numbers, places, picture.embeds):
                    seen.setdefault(number, []).append((place, embed))
                continue
            for number, (box, score), scores in zip(numbers, places, picture.scores):
                yield _entry(time, number, box, score, scores)
    except Exception:
        yield from _window(pipeline, start, seen, asked)
        raise
    yield from _window(pipeline, start, seen, asked)


def _window(pipeline: Any, start: float, seen: dict[int, list], asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, views in sorted(seen.items()):
        mean = torch.stack([embed for _, embed in views]).mean(0, keepdim=True)  # (1, D)
        box, score = max((place for place, _ in views), key=lambda place: place[1] or 0)
        yield _entry(start, number, box, score, pipeline.scores(mean, **asked)[0])


def _clip(
    pipeline: Any,
    video: str | Path,
    asked: dict,
    detector: Any,
    short: str,
    frames_fps: float | None,
    limits: VideoLimits,
    options: dict,
) -> Iterator[dict[str, Any]]:
    frames = ((frame.time, frame.image) for frame in sample_clip(video, short, frames_fps, limits))
    largest = []
    for _, picture in pipeline.embed(frames, detector, **options):
        if picture.error is not None:
            raise picture.error
        if picture.embeds is not None:
            largest.append(picture.embeds[0])
    if largest:
        scores = pipeline.scores(torch.stack(largest).mean(0, keepdim=True), **asked)[0]
        yield _entry(0.0, 0, None, None, scores)


def _entry(
    time: float, number: int, box: Any, detection_score: float | None, scores: dict[str, float]
) -> dict[str, Any]:
    label = max(scores, key=scores.__getitem__)
    return {
        "time": time,
        "face": number,
        "box": box,
        "detection_score": detection_score,
        "label": label,
        "scores": scores,
    }
