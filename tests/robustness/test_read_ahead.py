"""Large pictures are not drawn many at a time, however fast they come; who stops leaves no threads behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PIL import Image

from modeling_expclip.media.stream import find_faces
from tests.robustness.costs import peak_megabytes


class Squares:
    """In place of a checkpoint's image processor."""

    do_resize = do_rescale = do_normalize = False

    def __call__(self, pictures, **_):
        return {"pixel_values": np.stack([np.zeros((3, 4, 4), np.uint8) for _ in pictures])}


def embed(items, detector=None, ahead=32):
    return find_faces(items, Squares(), detector, margin=0.0, align=False, workers=2, ahead=ahead)


@pytest.mark.parametrize(("side", "most", "count"), [(3000, 6, 20), (7000, 3, 6), (100, 40, 40)])
def test_pixels_are_counted(side, most, count):
    """As many frames of video are drawn ahead as have 34 million pixels together, one at least, and one is in hand."""
    drawn, go_on = [], threading.Event()

    def frames():
        for number in range(count):
            drawn.append(number)
            yield number, Image.new("L", (side, side))

    def detect(picture):
        go_on.wait(30)
        return []

    answers = []
    reader = threading.Thread(target=lambda: answers.extend(key for key, _ in embed(frames(), detector=detect)))
    reader.start()
    time.sleep(1)
    held = len(drawn)
    go_on.set()
    reader.join(60)
    assert answers == list(range(count)), "each of them, in order"
    assert held <= most and (side > 100 or held >= 16)


def test_memory_of_large_frames():
    frames = ((number, Image.new("RGB", (3000, 3000))) for number in range(24))
    with peak_megabytes() as peak:
        assert sum(1 for _ in embed(frames)) == 24
    assert peak.megabytes < 400, "each has 36 MB, and 32 may wait by number"


def test_who_stops_leaves_no_threads():
    before, closed = threading.active_count(), []

    def frames():
        try:
            while True:
                yield 0, Image.new("RGB", (50, 50))
        finally:
            closed.append(True)

    stream = embed(frames())
    next(stream)
    stream.close()
    assert threading.active_count() == before
    del stream
    assert closed


def test_a_thread_that_waits_is_not_waited_for():
    stuck, go_on = threading.Event(), threading.Event()

    def detect(picture):
        if picture.width > 9:
            stuck.set()
            go_on.wait(30)
        return []

    pictures = [Image.new("L", (9, 9))] * 4 + [Image.new("L", (99, 99))]
    stream = embed(enumerate(pictures), detector=detect, ahead=8)
    next(stream)
    assert stuck.wait(10)
    begin = time.monotonic()
    stream.close()
    assert time.monotonic() - begin < 5
    go_on.set()
