"""Videos: files, or folders of frames, become upright RGB pictures with their times, one after another.

A video is decoded as a stream, so that an hour of it needs no more memory than a second. Travels inside every checkpoint; PyAV
is needed only for files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from packaging.version import Version
from PIL import Image

from .processing_expclip import image_endings, open_image

VIDEO_ENDINGS = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
)
CLIP_FRAMES = 16
_ROUNDED = 0.001  # seconds; WebM's times are whole milliseconds
_MISSING_END = 1.0  # seconds; containers round their durations, and sound may outlast the picture


@dataclass(frozen=True)
class Frame:
    """``time`` in seconds from the first frame."""

    time: float
    image: Image.Image


def is_video(source: object) -> bool:
    """Whether a path or URL is called like a video file."""
    return isinstance(source, (str, Path)) and Path(str(source).partition("?")[0]).suffix.lower() in VIDEO_ENDINGS


def read_frames(source: str | Path, fps: float | None = None, frames_fps: float | None = None) -> Iterator[Frame]:
    """The frames of a video, in order.

    Args:
        source: a video file, or a folder of frames in the order of their names (numbers in them count as numbers).
        fps: frames wanted for each second; those in between are skipped. Default: all.
        frames_fps: for a folder of frames, how many make a second.

    Raises, after the frames that could be read, ValueError where a file is damaged, cut off or holds no picture;
    OSError where it cannot be opened; ImportError for a file without PyAV.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"frames per second must be more than 0, got {fps}")
    frames = _folder(Path(source), frames_fps) if Path(source).is_dir() else _file(str(source))
    due = 0
    for time, frame in frames:
        moment = None if fps is None else int((time + _ROUNDED) * fps)
        if moment is None or moment >= due:
            due = 0 if moment is None else moment + 1
            yield Frame(time, frame if isinstance(frame, Image.Image) else _upright(frame))


def clip_indices(count: int, short: str = "uniform") -> list[int]:
    """Which 16 of a clip's ``count`` frames the paper looks at: the middle of each of 16 equal segments.

    Args:
        short: what becomes of clips of 16 frames or fewer. ``uniform``: the same rule, which takes some frames more than once.
            ``paper``: the first frame 16 times, as the paper's released code does.
    """
    if short not in ("uniform", "paper"):
        raise ValueError(f"short must be 'uniform' or 'paper', got {short!r}")
    if count < 1:
        raise ValueError(f"a clip needs at least one frame, got {count}")
    if short == "paper" and count <= CLIP_FRAMES:
        return [0] * CLIP_FRAMES
    return [(2 * i + 1) * count // (2 * CLIP_FRAMES) for i in range(CLIP_FRAMES)]


def sample_clip(source: str | Path, short: str = "uniform", frames_fps: float | None = None) -> list[Frame]:
    """The paper's 16 frames of a clip, see ``clip_indices``.

    Args:
        source: as for ``read_frames``.
        short: as for ``clip_indices``.

    Only the 16 frames are kept in memory; the video is read twice.
    """
    folder = Path(source).is_dir()

    def read() -> Iterator[tuple[float, object]]:
        return _folder(Path(source), frames_fps) if folder else _file(str(source))

    clip_indices(1, short)  # a wrong rule is told before the video is read
    wanted = clip_indices(sum(1 for _ in read()), short)
    chosen = {}
    for number, (time, frame) in enumerate(read()):
        if number in wanted:
            chosen[number] = Frame(time, frame if isinstance(frame, Image.Image) else _upright(frame))
    return [chosen[number] for number in wanted]


def _folder(folder: Path, frames_fps: float | None) -> Iterator[tuple[float, Image.Image]]:
    if frames_fps is None or not frames_fps > 0:
        raise ValueError(f"{folder} is a folder of frames: how many make a second? got {frames_fps}")
    endings = image_endings()
    files = [path for path in folder.iterdir() if path.suffix.lower() in endings and path.is_file()]
    if not files:
        raise ValueError(f"{folder} holds no image files")
    files.sort(key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)])
    for number, file in enumerate(files):
        yield number / frames_fps, open_image(file)


def forgiving_options(pyav: str) -> dict[str, Any]:
    """For ``av.open``: titles that are no UTF-8 are no reason to refuse a film. PyAV 19 forgives them without being asked."""
    return {"metadata_errors": "replace"} if Version(pyav) < Version("19") else {}


def _file(source: str):
    """Times and PyAV's frames of a file."""
    try:
        import av
    except ImportError:
        raise ImportError("reading video needs PyAV: pip install av") from None
    if Path(source).is_file() and Path(source).stat().st_size == 0:
        raise ValueError(f"{source} is empty")
    try:
        container = av.open(source, **forgiving_options(av.__version__))
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            raise
        raise ValueError(f"{source} is no video that can be read, or its end is missing: {error.strerror}") from None
    with container:
        if not container.streams.video:
            raise ValueError(f"{source} has no picture, only {len(container.streams)} other streams")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        limit, size = Image.MAX_IMAGE_PIXELS, stream.codec_context.width * stream.codec_context.height
        if limit is not None and size > limit:
            raise ValueError(f"refused: frames of {size} pixels are more than {limit}")
        rate = stream.average_rate or Fraction(25)
        start, last, count, damaged = None, 0.0, 0, 0
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                time = frame.time if frame.time is not None else float(count / rate)
                start = time if start is None else start
                last = max(time - start, last)
                count += 1
                yield last, frame
        if not count:
            raise ValueError(f"{source} holds no frame that can be read")
        length = (container.duration or 0) / 1e6
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        if last + float(1 / rate) < length - _MISSING_END:
            raise ValueError(f"{source} is cut off: {last:.1f} of {length:.1f} seconds could be read")
        if damaged:
            raise ValueError(f"{source} is damaged: {damaged} packets could not be read")


def _upright(frame) -> Image.Image:
    image = frame.to_image()
    turn = getattr(frame, "rotation", 0) % 360  # counter-clockwise, as the file says it should be shown
    return image.rotate(turn, expand=True) if turn else image
