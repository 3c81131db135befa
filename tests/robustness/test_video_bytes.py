"""Whatever stands in a video file: frames, then perhaps a ValueError or OSError of one line; in ``expclip classify`` rows."""

from __future__ import annotations

import csv
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from modeling_expclip.cli.main import main
from modeling_expclip.media.video import VideoLimits, open_video, read_frames, sample_clip
from tests.conftest import picture, write_video
from tests.robustness.costs import peak_megabytes, within
from tests.robustness.pictures import damaged
from tests.robustness.servers import serve

av = pytest.importorskip("av")
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


LISTS = {
    "local.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{folder}/good.ts\n#EXT-X-ENDLIST\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{folder}/good.ts\n",
    "remote.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{address}/good.ts\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{folder}/good.ts\n#EXT-X-ENDLIST\n",
    "beside.mp4": "ffconcat version 1.0\nfile good.ts\n",
    "itself.mp4": "ffconcat version 1.0\nfile itself.mp4\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="9"><BaseURL>{address}/good.ts</BaseURL></Representation></AdaptationSet></Period></MPD>',
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_playlists_open_nothing(name, tmp_path):
    good = write_video(tmp_path / "good.ts", [picture(i, (64, 48)) for i in range(3)]).read_bytes()
    asked = []
    with serve(
        lambda request: (asked.append(request.path), request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + good))
    ) as address:
        (tmp_path / name).write_text(LISTS[name].format(folder=tmp_path, address=address))
        for read in (read_frames, sample_clip):
            with within(10), pytest.raises(ValueError, match=f"{name} is no video that"):
                list(read(tmp_path / name))
    assert not asked


def test_names_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = write_video(tmp_path / "12:30.mp4", [picture(i, (64, 48)) for i in range(3)]).read_bytes()
    assert frames_of("12:30.mp4") == 3 and frames_of(tmp_path / "12:30.mp4") == 3
    (tmp_path / "a.mp4").write_bytes(good)
    for name in (
        "file:a.mp4",
        "concat:a.mp4|a.mp4",
        "subfile,,start,0,end,0,,:a.mp4",
        "async:a.mp4",
        "rtsp://127.0.0.1/a.mp4",
    ):
        with within(10), pytest.raises(OSError, match="No such file"):
            list(read_frames(name))
    asked = []
    with (
        serve(
            lambda request: (asked.append(request.path), request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + good))
        ) as address,
        pytest.raises(ValueError, match="videos are read from files only; download it first"),
    ):
        list(read_frames(f"{address}/a.mp4"))
    assert not asked


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path / "link.mp4", "/dev/ptmx", "/dev/zero", "/dev/null"):
        with within(5), pytest.raises(OSError, match="is a directory, a FIFO or a device; give a file"):
            list(read_frames(path))
    with pytest.raises(OSError, match="is a directory"), open_video(tmp_path):
        pass


def test_other_codecs_are_refused(tmp_path):
    with av.open(str(tmp_path / "film.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_image(picture(size=(32, 24)))))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="has the codec qtrle, which is not read; save it as H.264"):
        list(read_frames(tmp_path / "film.mov"))


def encode(codec: str, side: int, count: int) -> list:
    """The packets of ``count`` grey squares."""
    context = av.CodecContext.create(codec, "w")
    context.width = context.height = side
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base, context.framerate = Fraction(1, 10), 10
    context.options = {"libx264": {"preset": "ultrafast"}, "libvpx": {"deadline": "realtime", "cpu-used": "8"}}.get(
        codec, {}
    )
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_image(Image.new("RGB", (side, side), (number * 40 % 256,) * 3))
        frame.pts = number
        packets += context.encode(frame)
    return packets + context.encode(None)


def write_growing(path: Path, codec: str, large: int) -> Path:
    """A video of three small frames and then three large ones, in one stream that says nothing of it."""
    packets = encode(codec, 64, 3) + encode(codec, large, 3)
    if codec == "libx264":  # in the bare stream every key frame says its size
        path.write_bytes(b"".join(map(bytes, packets)))
        return path
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number, packet in enumerate(packets):
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            container.mux(packet)
    return path


@pytest.mark.parametrize("codec", ["libx264", "libvpx", "mjpeg"])
def test_frames_that_grow_are_refused(tmp_path, codec):
    """Little beyond the limit, when a frame is there; far beyond it, before the decoder makes one."""
    limits = VideoLimits(pixels=100_000)
    near, far = (write_growing(tmp_path / f"{large}.mp4", codec, large) for large in (400, 4000))
    for path in (near, far):
        seen = []
        with peak_megabytes() as peak, pytest.raises(ValueError, match=r"refused: .*frames of .*more than 100000"):
            seen.extend(frame.image.size for frame in read_frames(path, limits=limits))
        assert set(seen) <= {(64, 64)}
        assert peak.megabytes < 60, "a frame of 4000 x 4000 takes 24, in RGB 48 more, and decoders make several"
    assert len(list(read_frames(near))) == 6
    with pytest.raises(ValueError, match="refused"):
        sample_clip(near, limits=limits)


def test_large_frames_that_are_cropped_are_refused(tmp_path):
    """What is shown of a frame may be small, while the decoder makes all of it."""
    (tmp_path / "whole.h264").write_bytes(b"".join(map(bytes, encode("libx264", 4096, 2))))
    with av.open(str(tmp_path / "whole.h264")) as container:
        stream = container.streams.video[0]
        crop = av.bitstream.BitStreamFilterContext("h264_metadata=crop_right=4032:crop_bottom=4032", in_stream=stream)
        packets = [
            bytes(out) for packet in container.demux(stream) for out in crop.filter(packet if packet.size else None)
        ]
    (tmp_path / "film.mp4").write_bytes(b"".join(packets))
    assert [frame.image.size for frame in read_frames(tmp_path / "film.mp4")] == [(64, 64)] * 2
    with pytest.raises(ValueError, match="refused: frames of 16777216 pixels are more than 100000"):
        list(read_frames(tmp_path / "film.mp4", limits=VideoLimits(pixels=100_000)))


def test_the_limit_of_pillow_holds_for_videos(tmp_path, monkeypatch):
    path = write_growing(tmp_path / "film.mp4", "mjpeg", 400)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(ValueError, match="refused: frames of 160000 pixels are more than 100000"):
        list(read_frames(path))


def write_still(path: Path) -> Path:
    """40 frames of which each has the time of the first."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for packet in encode("mjpeg", 64, 40):
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 10)
            container.mux(packet)
    return path


def test_seconds_are_counted_without_times(tmp_path):
    """A bare stream has no times, another's do not grow."""
    (tmp_path / "bare.mp4").write_bytes(
        b"".join(map(bytes, encode("libx264", 64, 80)))
    )  # of 25 frames a second, FFmpeg guesses
    for path, most in ((tmp_path / "bare.mp4", 51), (write_still(tmp_path / "still.mkv"), 22)):
        seen = []
        with pytest.raises(ValueError, match=f"refused: .*{path.name} is longer than 2 seconds; cut it first"):
            seen.extend(read_frames(path, limits=VideoLimits(seconds=2)))
        assert most - 2 <= len(seen) <= most


def test_limits_while_reading(videos, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(videos[".mp4"])  # 12 frames, 10 a second, of 32 x 24
    whole = VideoLimits(seconds=1.2, frames=12, pixels=32 * 24, work_seconds=600)
    assert len(list(read_frames(path, limits=whole))) == 12 and len(sample_clip(path, limits=whole)) == 16
    for limits, message, read in (
        (VideoLimits(frames=11), "has more than 11 frames; cut it first", 11),
        (VideoLimits(seconds=0.55), "is longer than 0.55 seconds; cut it first", 6),
        (VideoLimits(pixels=32 * 24 - 1), "frames of 768 pixels are more than 767", 0),
        (VideoLimits(work_seconds=0), "took more than 0 seconds to read", 0),
    ):
        seen = []
        with pytest.raises(ValueError, match=f"refused: .*{message}"):
            seen.extend(read_frames(path, limits=limits))
        assert len(seen) == read
        with pytest.raises(ValueError, match=f"refused: .*{message}"):
            sample_clip(path, limits=limits)


def test_limits_of_folders_of_frames(tmp_path):
    for number in range(6):
        picture(number, (40, 30)).save(tmp_path / f"{number}.png")
    for limits, message, read in (
        (VideoLimits(frames=4), "has more than 4 frames", 4),
        (VideoLimits(seconds=0.25), "is longer than 0.25 seconds", 3),
        (VideoLimits(pixels=1199), "refused: 40 x 30 is more than 1199 pixels", 0),
    ):
        seen = []
        with pytest.raises(ValueError, match=message):
            seen.extend(read_frames(tmp_path, frames_fps=10, limits=limits))
        assert len(seen) == read


@pytest.mark.parametrize("options", [{}, {"window": 0.3}, {"clip": "uniform"}])
def test_limits_reach_the_analyzer(videos, analyzer, tmp_path, options):
    path = tmp_path / "film.mp4"
    path.write_bytes(videos[".mp4"])
    seen = []
    with pytest.raises(ValueError, match="has more than 11 frames"):
        seen.extend(analyzer.video(path, limits=VideoLimits(frames=11), **options))
    assert bool(seen) == ("clip" not in options)
