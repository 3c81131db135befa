"""Reading videos: which frames, when, which way up; and files that are damaged in all the usual ways."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from modeling_expclip.media.faces import Face
from modeling_expclip.media.tracking import FaceTracker
from modeling_expclip.media.video import clip_indices, is_video, read_frames, sample_clip
from tests.conftest import picture, write_video

av = pytest.importorskip("av")


def shade(number: int) -> Image.Image:
    """Frames that tell which they are."""
    return Image.new("RGB", (64, 48), (8 * number % 256,) * 3)


def numbers(frames) -> list[int]:
    return [round(np.asarray(frame.image).mean() / 8) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "thirty.mp4", map(shade, range(30)), fps=10)


def test_all_frames_in_order(video):
    frames = list(read_frames(video))
    assert numbers(frames) == list(range(30))
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(30)])


@pytest.mark.parametrize(
    ("fps", "expected"), [(1, [0, 10, 20]), (5, list(range(0, 30, 2))), (4, None), (100, list(range(30)))]
)
def test_frames_a_second(video, fps, expected):
    found = numbers(read_frames(video, fps))
    if expected is None:
        expected = [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]
    assert found == expected


def test_webm_and_folders_of_frames(tmp_path):
    write_video(tmp_path / "film.webm", map(shade, range(12)), fps=12)
    assert numbers(read_frames(tmp_path / "film.webm", 3)) == [0, 4, 8]
    (tmp_path / "frames").mkdir()
    for number in range(12):
        shade(number).save(tmp_path / "frames" / f"frame{number}.png")  # 10 comes after 9, not after 1
    frames = list(read_frames(tmp_path / "frames", frames_fps=6))
    assert numbers(frames) == list(range(12)) and frames[-1].time == pytest.approx(11 / 6)
    with pytest.raises(ValueError, match="how many make a second"):
        list(read_frames(tmp_path / "frames"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no image files"):
        list(read_frames(tmp_path / "none", frames_fps=6))


def test_the_papers_sixteen_frames(video, tmp_path):
    assert numbers(sample_clip(video)) == [int((i + 0.5) * 30 / 16) for i in range(16)]
    short = write_video(tmp_path / "short.mp4", map(shade, range(5)))
    assert numbers(sample_clip(short)) == [int((i + 0.5) * 5 / 16) for i in range(16)]
    assert numbers(sample_clip(short, short="paper")) == [0] * 16
    assert numbers(sample_clip(video, short="paper")) == numbers(sample_clip(video))
    with pytest.raises(ValueError, match="must be 'uniform' or 'paper', got 'first'"):
        sample_clip(video, short="first")


def test_one_rule_for_which_frames_a_clip_is():
    for count in range(1, 400):
        middles = [int((i + 0.5) * count / 16) for i in range(16)]
        assert clip_indices(count) == middles
        assert clip_indices(count, "paper") == ([0] * 16 if count <= 16 else middles)
    with pytest.raises(ValueError, match="must be 'uniform' or 'paper', got 'all'"):
        clip_indices(30, "all")
    with pytest.raises(ValueError, match="at least one frame, got 0"):
        clip_indices(0)


def test_rotated_videos_are_held_upright(tmp_path):
    """Phones store how the picture should be turned."""
    image = Image.new("RGB", (96, 64), "white")
    image.paste((255, 0, 0), (0, 0, 96, 32))  # red above white
    plain = write_video(tmp_path / "plain.mp4", [image] * 3)
    (frame, *_) = read_frames(plain)
    assert frame.image.size == (96, 64) and np.asarray(frame.image)[10, 48, 1] < 90
    import modeling_expclip.media.video as module

    class Turned:
        rotation = 90

        def to_image(self):
            return image

    turned = np.asarray(module._upright(Turned()))
    assert turned.shape == (96, 64, 3) and turned[48, 5, 1] < 90 and turned[48, 60, 1] > 200  # red is on the left now


def damaged(video, tmp_path, kind):
    path, content = tmp_path / f"{kind}.mp4", video.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video" * 100)
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), "float32"), format="fltp", layout="mono")
            sound.rate = 8000
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [("empty", "is empty"), ("text", "no video that can be read"), ("half", "no video that can be read, or its end is missing"),
     ("sound", "has no picture")],
)  # fmt: skip
def test_files_without_pictures(video, tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        list(read_frames(damaged(video, tmp_path, kind)))


def test_missing_file(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        list(read_frames(tmp_path / "nowhere.mp4"))


def test_a_video_cut_in_the_middle_gives_what_is_there(tmp_path):
    noise = [picture(i, (160, 120)) for i in range(60)]
    whole = write_video(tmp_path / "whole.mkv", noise, fps=10)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = read_frames(tmp_path / "cut.mkv")
    seen = []
    with pytest.raises(ValueError, match=r"cut off: 2\.\d of 6\.0 seconds could be read"):
        seen.extend(frame.time for frame in frames)
    assert 20 < len(seen) < 40


def test_damaged_packets_are_told(tmp_path):
    noise = [picture(i, (160, 120)) for i in range(40)]
    whole = write_video(tmp_path / "whole.mp4", noise, fps=10)
    content = bytearray(whole.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (tmp_path / "bad.mp4").write_bytes(content)
    seen = []
    with pytest.raises(ValueError, match=r"damaged: \d+ packets could not be read"):
        seen.extend(read_frames(tmp_path / "bad.mp4"))
    assert len(seen) > 5


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_wrong_rate(video, fps):
    with pytest.raises(ValueError, match="more than 0"):
        list(read_frames(video, fps))


def test_what_is_called_a_video():
    assert is_video("a/B.MP4") and is_video("film.webm") and is_video("https://host/film.mov?x=1")
    assert not is_video("a.png") and not is_video(picture()) and not is_video("mp4")


MEMORY = """
import resource, sys
from modeling_expclip.media.video import read_frames
count = sum(1 for _ in read_frames(sys.argv[1], 4))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_long_videos_need_no_more_memory(tmp_path):
    films = []
    for name, seconds in (("short", 2), ("long", 60)):
        pictures = itertools.islice(itertools.cycle([picture(i, (640, 480)) for i in range(8)]), seconds * 10)
        path = write_video(tmp_path / f"{name}.mp4", pictures, preset="ultrafast")
        run = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
        films.append(list(map(int, run.stdout.split())))
    (few, small), (many, large) = films
    assert many > 20 * few and large < small + 60, films


def test_people_keep_their_numbers():
    tracker = FaceTracker()
    left, right = (0, 0, 50, 60), (200, 0, 250, 60)
    assert tracker(0.0, [left, right]) == [0, 1]
    assert tracker(0.25, [(205, 2, 255, 62), (10, 0, 60, 60)]) == [1, 0]  # whatever the order they are found in
    assert tracker(0.5, [(15, 0, 65, 60)]) == [0]
    assert tracker(1.5, [(200, 0, 250, 60), (20, 0, 70, 60)]) == [1, 0]  # back before two seconds
    assert tracker(9.0, [(200, 0, 250, 60)]) == [2]  # too long ago
    assert tracker(9.25, [(400, 300, 450, 360)]) == [3]  # somewhere else
    assert tracker(9.5, []) == []


@pytest.mark.parametrize("distance", [0.25, 1.0, 4.0, 60.0])
def test_patience_follows_the_distance_of_frames(distance):
    """At one frame in four seconds everyone would be out of sight for too long."""
    tracker, place = FaceTracker(), (0, 0, 50, 60)
    assert [tracker(distance * i, [place]) for i in range(5)] == [[0]] * 5
    assert tracker(distance * 5, []) == [] and tracker(distance * 6, [place]) == [0], "one frame may miss them"
    assert tracker(distance * 20, [place]) == [1], "but they are not remembered for ever"


def test_few_frames_a_second_show_the_same_person(tmp_path):
    """Through the timeline, with a detector that finds one face at the same place."""
    from modeling_expclip import FaceAnalyzer

    film = write_video(tmp_path / "film.mp4", map(shade, range(40)), fps=2)  # 20 seconds

    def found(image):
        return [Face((10, 5, 40, 40), 0.9, ((0.0, 0.0),) * 5)]

    entries = FaceAnalyzer(detector=found).video(film, fps=0.25)
    assert [(entry["time"], entry["face"]) for entry in entries] == [(4.0 * i, 0) for i in range(5)]


def test_the_surest_pair_is_matched_first():
    tracker = FaceTracker()
    assert tracker(0, [(0, 0, 100, 100), (60, 0, 160, 100)]) == [0, 1]
    assert tracker(0.25, [(50, 0, 150, 100)]) == [1]
