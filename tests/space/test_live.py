"""Bars that follow a camera."""

from __future__ import annotations

import pytest

from space.page.live import Smoothed, smooth
from space.page.recognition import FaceScores

ASKED = (("glad", "sad"), "photo")


def face(glad: float) -> FaceScores:
    return FaceScores(None, {"glad": glad, "sad": 1 - glad}, {"glad": 1 - glad, "sad": glad})


def test_the_first_frame_counts_whole_and_later_ones_by_their_age():
    first = smooth(Smoothed(10.0, 10.0), face(1.0), ASKED, 10.0)
    assert first.scores == {"glad": 1.0, "sad": 0.0} and first.started == 10.0
    soon, late = smooth(first, face(0.0), ASKED, 10.1), smooth(first, face(0.0), ASKED, 15.0)
    assert 0.8 < soon.scores["glad"] < 0.95 and late.scores["glad"] < 0.01
    assert soon.clip_scores["glad"] == pytest.approx(1 - soon.scores["glad"])
    assert sum(soon.scores.values()) == pytest.approx(1)


def test_a_steady_face_gives_steady_bars():
    seen = smooth(Smoothed(0.0, 0.0), face(0.7), ASKED, 0.0)
    for number in range(1, 20):
        seen = smooth(seen, face(0.7), ASKED, number * 0.25)
    assert seen.scores["glad"] == pytest.approx(0.7)


def test_other_labels_begin_anew_on_the_same_clock():
    seen = smooth(Smoothed(5.0, 5.0), face(1.0), ASKED, 6.0)
    other = smooth(seen, FaceScores(None, {"calm": 1.0}, None), (("calm",), "photo"), 7.0)
    assert other.scores == {"calm": 1.0} and other.clip_scores is None and other.started == 5.0
