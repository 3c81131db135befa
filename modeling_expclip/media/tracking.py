"""Faces in video: who is who from frame to frame, for boxes that overlap belong to one person, and means over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from .faces import Box
from .stream import FoundFaces

_PATIENCE = 2.0  # seconds a person may be out of sight and still be found again in the same place
_PATIENCE_FRAMES = 2.5  # and where frames are far apart, of their usual distance: one frame may miss a person
_DISTANCES = 16  # the last ones, whose median is the usual one
_LEAST_OVERLAP = 0.1  # of boxes in frames a quarter of a second apart; a walking person overlaps more


@dataclass(frozen=True)
class Sighting:
    """A person at a moment, or in a window of time, of a video.

    ``time`` in seconds from the start; ``face`` the person's number, from 0; ``box`` and ``detection_score`` where they were, and how
    sure the detector was (in a window, where it was surest), None where each frame is taken for a face; ``embed`` (D,), not normalised.
    """

    time: float
    face: int
    box: Box | None
    detection_score: float | None
    embed: torch.Tensor


def follow(frames: Iterable[tuple[float, FoundFaces]]) -> Iterator[Sighting]:
    """Embedded frames with their times -> sightings of people. Raises the error of a frame that could not be read."""
    tracker = FaceTracker()
    for time, found in frames:
        if found.error is not None:
            raise found.error
        numbers = [0] if found.faces is None else tracker(time, [face.box for face in found.faces])
        for number, (box, score), embed in zip(numbers, found.places, () if found.embeds is None else found.embeds):
            yield Sighting(time, number, box, score, embed)


def in_windows(sightings: Iterable[Sighting], seconds: float) -> Iterator[Sighting]:
    """One sighting for each person and window of so many seconds, with the mean of their embeddings in it, as the paper reads clips.

    An error of ``sightings`` is raised after the window that it ended.
    """
    start, seen = 0.0, dict[int, list[Sighting]]()
    try:
        for sighting in sightings:
            if sighting.time >= start + seconds:
                yield from _means(start, seen)
                start, seen = sighting.time - sighting.time % seconds, {}
            seen.setdefault(sighting.face, []).append(sighting)
    except Exception:
        yield from _means(start, seen)
        raise
    yield from _means(start, seen)


def _means(start: float, seen: dict[int, list[Sighting]]) -> Iterator[Sighting]:
    for number, views in sorted(seen.items()):
        best = max(views, key=lambda view: view.detection_score or 0)
        mean = torch.stack([view.embed for view in views]).mean(0)  # (D,)
        yield Sighting(start, number, best.box, best.detection_score, mean)


class FaceTracker:
    """Gives the faces of successive frames numbers that stay with a person while they stay in view.

    Only places are compared: two people who swap places between two frames swap numbers too.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, Box]] = {}  # number -> when and where last
        self._next = 0
        self._time: float | None = None
        self._distances: deque[float] = deque(maxlen=_DISTANCES)

    def __call__(self, time: float, boxes: Sequence[Box]) -> list[int]:
        """The number of each box (x0, y0, x1, y1) of the frame at ``time`` seconds; times must not go back.

        To be called for frames without a face too, for patience follows the distance between frames.
        """
        if self._time is not None:
            self._distances.append(time - self._time)
        self._time = time
        patience = max(_PATIENCE, _PATIENCE_FRAMES * median(self._distances or [0]))
        self._seen = {number: last for number, last in self._seen.items() if time - last[0] <= patience}
        pairs = sorted(
            (
                (overlap(box, last), number, i)
                for i, box in enumerate(boxes)
                for number, (_, last) in self._seen.items()
            ),
            reverse=True,
        )
        numbers: dict[int, int] = {}
        for shared, number, i in pairs:  # the surest first
            if shared >= _LEAST_OVERLAP and i not in numbers and number not in numbers.values():
                numbers[i] = number
        for i, box in enumerate(boxes):
            if i not in numbers:
                numbers[i] = self._next
                self._next += 1
            self._seen[numbers[i]] = (time, box)
        return [numbers[i] for i in range(len(boxes))]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))
    return width * height / (areas - width * height)
