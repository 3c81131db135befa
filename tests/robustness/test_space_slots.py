"""The Space: places are limited, waiting is limited, and long lists of labels delay nobody else."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
from PIL import Image

from modeling_expclip import MINI, FacialExpressionPipeline
from space.page.recognition import Recogniser
from space.page.slots import Slots
from tests.space.conftest import EXAMPLES


def test_who_finds_no_slot_is_told_and_the_place_is_free_again():
    places = Slots(count=1, waiting=1, seconds=0.2, what="many images are being read")
    with places.hold():
        start = time.monotonic()
        with pytest.raises(ValueError, match="^busy: many images are being read"):
            places.hold().__enter__()
        assert 0.15 < time.monotonic() - start < 5
        waiting = threading.Thread(target=lambda: suppress(ValueError).__enter__() or _try(places))
        waiting.start()
        time.sleep(0.05)
        start = time.monotonic()
        with pytest.raises(ValueError, match="^busy"):  # the line is full
            places.hold().__enter__()
        assert time.monotonic() - start < 0.1
        waiting.join()
    for _ in range(3):
        with places.hold(), suppress(RuntimeError):
            raise RuntimeError("what fails gives its place back too")


def _try(places: Slots) -> None:
    with suppress(ValueError), places.hold():
        pass


def test_first_come_first_served():
    places, order = Slots(1, 10, 10, "x"), []
    line = []

    def work(number: int) -> None:
        with places.hold():
            order.append(number)

    with places.hold():
        for number in range(5):
            line.append(threading.Thread(target=work, args=(number,)))
            line[-1].start()
            time.sleep(0.02)
    for thread in line:
        thread.join()
    assert order == list(range(5))


def test_long_lists_of_labels_delay_nobody(monkeypatch):
    """Twelve lists of a hundred long labels at once: known labels are answered meanwhile, new short ones too, and the line is bounded."""

    def missing():
        raise ImportError("no face detector")

    monkeypatch.setattr("space.page.recognition.FaceDetector", missing)
    recogniser = Recogniser(MINI)
    image = Image.open(EXAMPLES / "average-fear.png").convert("RGB")
    recogniser.prototypes(("glad", "sad"), "photo")
    encode, started, go = FacialExpressionPipeline.class_prototypes, threading.Semaphore(0), threading.Event()

    def slow(pipeline, labels, prompts):
        if len(labels) == 100:  # as long as the test wants, instead of seconds of computing
            started.release()
            assert go.wait(60)
            labels = labels[:2]
        return encode(pipeline, labels, prompts)

    monkeypatch.setattr(FacialExpressionPipeline, "class_prototypes", slow)
    refusals: list[str] = []

    def attack(number: int) -> None:
        try:
            recogniser.prototypes(tuple(f"{number} {i} " * 20 for i in range(100)), "ensemble10")
        except ValueError as error:
            refusals.append(str(error))

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(12)]
    for thread in attackers:
        thread.start()
    assert started.acquire(timeout=30)
    answered = []

    def visit() -> None:
        with recogniser.slot():
            answered.append(recogniser.classify(image, recogniser.prototypes(("glad", "sad"), "photo")))
            answered.append(recogniser.classify(image, recogniser.prototypes(("calm", "tense"), "photo")))

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    visitor.join(30)
    still_encoding = not go.is_set()
    go.set()
    for thread in attackers:
        thread.join(60)
    assert still_encoding and len(answered) == 2, "a visitor had to wait for an attacker's labels"
    assert len(refusals) == 7 and all(said.startswith("busy: several long lists") for said in refusals)
