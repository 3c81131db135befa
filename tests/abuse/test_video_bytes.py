"""Whatever stands in a video file: frames, then perhaps a ValueError or OSError of one line; in ``expclip classify`` rows."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeling_expclip.cli import main
from modeling_expclip.video import read_frames, sample_clip
from tests.abuse.pictures import damaged
from tests.conftest import picture, write_video

pytest.importorskip("av")
ENDINGS = (".mp4", ".webm", ".avi")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("videos")
    pictures = [picture(seed, size=(32, 24)) for seed in range(12)]
    return {ending: write_video(folder / f"film{ending}", pictures).read_bytes() for ending in ENDINGS}


def frames_of(path: Path, read=read_frames) -> int:
    """How many frames can be read, before an error or without one."""
    count = 0
    try:
        for frame in read(path):
            count += 1
            assert frame.image.mode == "RGB" and min(frame.image.size) > 0 and np.isfinite(frame.time)
    except (ValueError, OSError) as error:
        assert str(error).strip() and "\n" not in str(error)
    return count


@given(st.data())
def test_damaged_videos(videos, tmp_path, data):
    path = tmp_path / f"film{data.draw(st.sampled_from(ENDINGS))}"
    path.write_bytes(data.draw(damaged(videos)))
    frames_of(path, data.draw(st.sampled_from([read_frames, sample_clip])))


@given(st.binary(max_size=200))
@example(b"")
@example(b"#!/bin/sh\n")
@example(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert frames_of(path) == 0


def test_damaged_videos_are_rows_and_the_others_are_classified(videos, checkpoint, tmp_path, capsys):
    folder, chance = tmp_path / "films", random.Random(0)
    folder.mkdir()
    for number in range(12):
        ending = chance.choice(ENDINGS)
        content = bytearray(videos[ending])
        for _ in range(chance.randint(1, 30)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (folder / f"{number}{ending}").write_bytes(content[: chance.choice([None, chance.randrange(len(content))])])
    (folder / "empty.mp4").write_bytes(b"")
    for ending, content in videos.items():
        (folder / f"whole{ending}").write_bytes(content)
    output = tmp_path / "out.csv"
    assert main(["classify", str(folder), "--model", str(checkpoint), "--output", str(output)]) == 0
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["path"]).name for row in rows} == {path.name for path in folder.iterdir()}
    assert all(bool(row["label"]) != bool(row["error"]) for row in rows)
    assert all(row["label"] for row in rows if "whole" in row["path"])
    assert "Traceback" not in capsys.readouterr().err
