"""Visitors of the Space beside an attacker: ``python -m tests.benchmarks.space_under_attack [--runs 3]``.

Each run starts the Space, sends it 300 requests, 50 at a time, each with a face and labels of its own, while another thread repeats the
attacks of tests/robustness/test_space_*.py. All traffic stays on 127.0.0.1. Needs the face detector's weights in EXPCLIP_YUNET, or beside the clone.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tests.space.conftest import EXAMPLES, serving
from tests.space.visitor import Visitor, count_in_memory, data_url, memory, png

VISITORS, AT_ONCE = 300, 50
_SECONDS = 300
_TILE = np.random.default_rng(7).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def sent_by(number: int) -> str:
    """A face of its own, with a mark that can be found in memory again."""
    faces = sorted(EXAMPLES.glob("*.png"))
    face = Image.open(faces[number % len(faces)]).convert("RGB")
    face = face.resize((face.width + number // len(faces), face.height))
    face.paste(Image.fromarray(_TILE), (0, 0))
    file = io.BytesIO()
    face.save(file, "BMP")
    return data_url(file.getvalue())


def marks() -> list[bytes]:
    row = _TILE[12, 2:22]
    return [
        row.tobytes(),
        row[:, ::-1].tobytes(),
        *(base64.b64encode(row[:, ::-1].tobytes()[k:])[:48] for k in range(3)),
    ]


def attack(url: str, stop: threading.Event, done: Counter[str]) -> None:
    attacker = Visitor(url, 60)
    video = attacker.function("video-file", "video-download")
    grey = data_url(png(Image.fromarray(np.full((4990, 4990), 1000, np.uint16))))
    playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n"
    concat = b"ffconcat version 1.0\nfile video.mp4\n"

    def labels(number: int) -> str:
        return ",".join(f"{number} {i} {'long ' * 30}" for i in range(100))

    def films() -> None:
        for content in (playlist, concat):
            attacker.ask(video, [{"path": attacker.upload(content, "video.mp4")}, "", ""], f"film{time.monotonic()}")

    while not stop.is_set():
        now = int(time.monotonic() * 1000)
        acts = [
            lambda path=path: attacker.call([{"path": path}, "", ""])
            for path in ("/etc/passwd", str(EXAMPLES / "x.png"))
        ]
        acts += [lambda: attacker.call([{"path": "/dev/ptmx"}, "", ""])] * 4
        acts += [lambda: attacker.call([{"url": sent_by(0)}, "", ""], collect=False)]
        acts += [lambda c=chunked: attacker.pour("/gradio_api/queue/join", 150, c) for chunked in (True, False)]
        acts += [lambda: attacker.call([{"url": grey}, "", ""])] * 2
        acts += [lambda: attacker.call([{"url": data_url(b"P3\n2000 2000\n255\n" + b"7 " * 2_000_000)}, "", ""]), films]
        acts += [lambda n=now + n: attacker.call([{"url": sent_by(0)}, labels(n), "ensemble10"]) for n in range(4)]
        with ThreadPoolExecutor(8) as pool:
            ended = [pool.submit(act) for act in acts]
        done["answered or refused"] += sum(act.exception() is None for act in ended)
        done["broken off"] += sum(act.exception() is not None for act in ended)


def run(folder: Path) -> str:
    with serving(folder) as served:
        visitors = [Visitor(served.url, 120) for _ in range(5)]

        def ask(number: int) -> tuple[float, str, object]:
            start = time.monotonic()
            try:
                kind, faces = visitors[number % 5].call(
                    [{"url": sent_by(number)}, f"word {number}, glad, angry", "class_name"]
                )
            except Exception as error:  # counted as not answered, and named
                kind, faces = type(error).__name__, str(error)
            return time.monotonic() - start, kind, faces

        with ThreadPoolExecutor(8) as pool:  # the same words alone say what is right
            truth = list(pool.map(ask, range(0, VISITORS, 10)))
        before, peak, stop, done = memory(served.process), 0.0, threading.Event(), Counter()
        attacker = threading.Thread(target=attack, args=(served.url, stop, done), daemon=True)
        attacker.start()
        start = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = [pool.submit(ask, number) for number in range(VISITORS)]
            while not all(answer.done() for answer in waiting) and time.monotonic() - start < _SECONDS:
                peak = max(peak, memory(served.process))
                time.sleep(0.05)
            answers = [answer.result() for answer in waiting]
        took = time.monotonic() - start
        stop.set()
        attacker.join(120)
        mixed = sum(
            kind == "complete" and (not faces or f"word {number}" not in faces[0]["scores"])
            for number, (_, kind, faces) in enumerate(answers)
        )
        for number, (_, _, faces) in zip(range(0, VISITORS, 10), truth):
            again = answers[number][2]
            if answers[number][1] == "complete":
                mixed += [face["box"] for face in again] != [face["box"] for face in faces] or any(
                    abs(again[0]["scores"][label] - score) > 1e-4 for label, score in faces[0]["scores"].items()
                )
        deadline = time.monotonic() + 150  # answers that nobody collects go at the second sweep
        while (kept := count_in_memory(served.process, marks())) and time.monotonic() < deadline:
            time.sleep(5)
        answered = sum(kind == "complete" for _, kind, _ in answers)
        others = sorted({f"{kind}: {said}"[:100] for _, kind, said in answers if kind != "complete"})
        return (
            f"{answered} of {VISITORS} answered in {took:.0f} s, longest wait {max(wait for wait, *_ in answers):.1f} s, "
            f"memory {before:.0f} / {peak:.0f} / {memory(served.process):.0f} MB (before, peak, after), "
            f"{mixed} mixed up, {kept} kept, attacks: {dict(done)}{'; ' if others else ''}{'; '.join(others)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    for number in range(parser.parse_args().runs):
        with tempfile.TemporaryDirectory() as folder:
            print(f"run {number + 1}: {run(Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
