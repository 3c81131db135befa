"""Videos: files, or folders of frames, become upright RGB images with their times, one after another.

A video is decoded as a stream, so that an hour of it needs no more memory than a second. PyAV is needed only for files.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from packaging.version import Version
from PIL import Image

from .images import image_endings, open_image, open_regular, smaller_limit

VIDEO_ENDINGS = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
)
# What FFmpeg may open. It knows ten times as many; some of them name other files and addresses, which it would read too.
CONTAINERS = tuple("asf avi flv h264 hevc matroska mjpeg mov mpeg mpegts mpegvideo ogg".split())
CODECS = tuple(
    "av1 libdav1d cinepak dnxhd dvvideo ffv1 flv h263 h264 hevc huffyuv libvpx libvpx-vp9 mjpeg mpeg1video mpeg2video mpeg4 mpegvideo "
    "msmpeg4 msmpeg4v1 msmpeg4v2 msvideo1 prores rawvideo theora vc1 vp6 vp6f vp8 vp9 wmv1 wmv2 wmv3".split()
)
CLIP_FRAMES = 16
_ROUNDED = 0.001  # seconds; WebM's times are whole milliseconds
_ROUNDED_PIXELS = 2**22  # decoders keep frames with their sides rounded up, to 64 pixels mostly
_MISSING_END = 1.0  # seconds; containers round their durations, and sound may outlast the picture


@dataclass(frozen=True)
class Frame:
    """``time`` in seconds from the first frame."""

    time: float
    image: Image.Image


@dataclass(frozen=True)
class VideoLimits:
    """What a video may cost its reader. None is no limit.

    Args:
        seconds: of the video, by its times; by its rate where it has no times, or they do not grow.
        frames: that are decoded, also those between the frames asked for.
        pixels: of each frame; never more than ``PIL.Image.MAX_IMAGE_PIXELS``.
        work_seconds: that pass between the first frame and the last, whatever they are spent on.
    """

    seconds: float | None = None
    frames: int | None = None
    pixels: int | None = None
    work_seconds: float | None = None


NO_LIMITS = VideoLimits()


class _Meter:
    """Raises ValueError, naming the limit, once reading ``source`` costs more than its limits."""

    def __init__(self, source: str | Path, limits: VideoLimits) -> None:
        self.source, self.limits, self.pixels = source, limits, smaller_limit(limits.pixels)
        self.end = None if limits.work_seconds is None else time.monotonic() + limits.work_seconds

    def work(self) -> None:
        if self.end is not None and time.monotonic() > self.end:
            raise ValueError(
                f"refused: {self.source} took more than {self.limits.work_seconds:g} seconds to read; cut it first"
            )

    def frame(self, number: int, seconds: float, pixels: int) -> None:
        """Another frame: it is the ``number``-th, from 1, and shown so many seconds after the first."""
        limits = self.limits
        if limits.frames is not None and number > limits.frames:
            raise ValueError(f"refused: {self.source} has more than {limits.frames} frames; cut it first")
        if limits.seconds is not None and seconds > limits.seconds:
            raise ValueError(f"refused: {self.source} is longer than {limits.seconds:g} seconds; cut it first")
        self._size(pixels, 0)
        self.work()

    def buffer(self, pixels: int) -> None:
        """What the decoder keeps for a frame, which is more than is shown of it."""
        self._size(pixels, _ROUNDED_PIXELS)

    def _size(self, pixels: int, spare: int) -> None:
        if self.pixels is not None and pixels > self.pixels + spare:
            raise ValueError(
                f"refused: frames of {pixels} pixels are more than {self.pixels}; scale the video down first"
            )


def is_video(source: object) -> bool:
    """Whether a path or URL is called like a video file. Only files are read: ``open_video`` refuses URLs."""
    return isinstance(source, (str, Path)) and Path(str(source).partition("?")[0]).suffix.lower() in VIDEO_ENDINGS


def read_frames(
    source: str | Path, fps: float | None = None, frames_fps: float | None = None, limits: VideoLimits = NO_LIMITS
) -> Iterator[Frame]:
    """The frames of a video, in order.

    Args:
        source: a video file, or a folder of frames in the order of their names (numbers in them count as numbers).
        fps: frames wanted for each second; those in between are skipped. Default: all.
        frames_fps: for a folder of frames, how many make a second.
        limits: what reading may cost.

    Raises, after the frames that could be read, ValueError where a file is damaged, cut off, holds no picture or goes beyond a
    limit; OSError where it cannot be opened; ImportError for a file without PyAV.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"frames per second must be more than 0, got {fps}")
    due = 0
    for seconds, frame in _frames(source, frames_fps, _Meter(source, limits)):
        moment = None if fps is None else int((seconds + _ROUNDED) * fps)
        if moment is None or moment >= due:
            due = 0 if moment is None else moment + 1
            yield Frame(seconds, frame if isinstance(frame, Image.Image) else _upright(frame))


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


def sample_clip(
    source: str | Path, short: str = "uniform", frames_fps: float | None = None, limits: VideoLimits = NO_LIMITS
) -> list[Frame]:
    """The paper's 16 frames of a clip, see ``clip_indices``.

    Args:
        source, frames_fps, limits: as for ``read_frames``.
        short: as for ``clip_indices``.

    Only the 16 frames are kept in memory; the video is read twice.
    """
    clip_indices(1, short)  # a wrong rule is told before the video is read
    meter = _Meter(source, limits)
    wanted = clip_indices(sum(1 for _ in _frames(source, frames_fps, meter)), short)
    chosen = {}
    for number, (seconds, frame) in enumerate(_frames(source, frames_fps, meter)):
        if number in wanted:
            chosen[number] = Frame(seconds, frame if isinstance(frame, Image.Image) else _upright(frame))
    return [chosen[number] for number in wanted]


def _frames(source: str | Path, frames_fps: float | None, meter: _Meter) -> Iterator[tuple[float, Any]]:
    """Times and frames, which are PIL's in a folder and PyAV's in a file."""
    return _folder(Path(source), frames_fps, meter) if Path(source).is_dir() else _file(source, meter)


def _folder(folder: Path, frames_fps: float | None, meter: _Meter) -> Iterator[tuple[float, Image.Image]]:
    if frames_fps is None or not 0 < frames_fps < math.inf:
        raise ValueError(f"{folder} is a folder of frames: how many make a second? got {frames_fps}")
    endings = image_endings()
    files = [path for path in folder.iterdir() if path.suffix.lower() in endings and path.is_file()]
    if not files:
        raise ValueError(f"{folder} holds no image files")
    files.sort(key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)])
    for number, file in enumerate(files):
        image = open_image(file, meter.pixels)
        meter.frame(number + 1, number / frames_fps, image.width * image.height)
        yield number / frames_fps, image


@contextmanager
def open_video(source: str | Path, max_pixels: int | None = None) -> Iterator[Any]:
    """A video file as PyAV's container, for reading. Nothing else lets FFmpeg open anything.

    FFmpeg takes names for addresses and contents for playlists, which open further files. Here it gets a regular file that is
    open already, in one of CONTAINERS; its first video stream is in one of CODECS, and its decoder makes no frame of many more than
    ``max_pixels`` pixels (PIL's limit, if that is lower).

    Raises ValueError for what is no such video, OSError for what cannot be opened, ImportError without PyAV.
    """
    av = _pyav()
    if str(source).startswith(("http://", "https://")):
        raise ValueError(f"{source}: videos are read from files only; download it first")
    # With the list of protocols empty, a demuxer that opens other files after all gets none.
    options = {"format_whitelist": ",".join(CONTAINERS), "codec_whitelist": ",".join(CODECS), "protocol_whitelist": ""}
    limit = smaller_limit(max_pixels)
    if limit is not None:
        options["max_pixels"] = str(limit + _ROUNDED_PIXELS)
    with ExitStack() as opened:
        file = opened.enter_context(open_regular(source))
        if not os.fstat(file.fileno()).st_size:
            raise ValueError(f"{source} is empty")
        try:
            container = opened.enter_context(av.open(file, options=options, **forgiving_options(av.__version__)))
        except av.error.FFmpegError as error:
            if error.errno == errno.EINVAL:  # how the whitelist is told
                raise ValueError(f"{source} is no video that is read; save it as MP4, MKV, WebM or AVI") from error
            if isinstance(error, OSError) and not isinstance(error, ValueError):
                raise
            raise ValueError(
                f"{source} is no video that can be read, or its end is missing: {error.strerror}"
            ) from error
        if not container.streams.video:
            raise ValueError(f"{source} has no picture, only {len(container.streams)} other streams")
        codec = container.streams.video[0].codec_context
        if codec is None or codec.codec.name not in CODECS:
            name = "an unknown codec" if codec is None else f"the codec {codec.codec.name}"
            raise ValueError(f"{source} has {name}, which is not read; save it as H.264, VP9 or AV1")
        codec.options = options
        yield container


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading video needs PyAV: pip install av") from error
    return av


def forgiving_options(pyav: str) -> dict[str, Any]:
    """For ``av.open``: titles that are no UTF-8 are no reason to refuse a film. PyAV 19 forgives them without being asked."""
    return {"metadata_errors": "replace"} if Version(pyav) < Version("19") else {}


def _file(source: str | Path, meter: _Meter) -> Iterator[tuple[float, Any]]:
    """Times and PyAV's frames of a file."""
    damage = _pyav().error.FFmpegError
    with open_video(source, meter.pixels) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        # Threads that work on several frames at once have made them before their size can be seen; those of one frame are slower.
        stream.thread_type = "AUTO" if meter.limits.pixels is None else "SLICE"
        meter.frame(0, 0.0, codec.width * codec.height)
        rate = stream.average_rate or Fraction(25)
        start, last, count, still, damaged, refused = None, 0.0, 0, 0, 0, False
        for packet in container.demux(stream):
            meter.work()
            sized = bool(codec.width)
            try:
                frames = packet.decode()
            except damage:
                frames = []
                damaged += 1
                refused |= sized and not codec.width  # what FFmpeg makes of a size beyond its limit
            meter.buffer(codec.coded_width * codec.coded_height)
            for frame in frames:
                moment = frame.time if frame.time is not None else float(count / rate)
                start = moment if start is None else start
                still += count > 0 and moment - start <= last
                last = max(moment - start, last)
                count += 1
                meter.frame(count, last + float(still / rate), frame.width * frame.height)
                yield last, frame
        if not count:
            raise ValueError(f"{source} holds no frame that can be read")
        length = (container.duration or 0) / 1e6
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        if last + float(1 / rate) < length - _MISSING_END:
            raise ValueError(f"{source} is cut off: {last:.1f} of {length:.1f} seconds could be read")
        if refused and meter.pixels is not None:
            raise ValueError(
                f"refused: {source} holds frames of more than {meter.pixels} pixels, or is damaged: {damaged} packets were not read"
            )
        if damaged:
            raise ValueError(f"{source} is damaged: {damaged} packets could not be read")


def _upright(frame) -> Image.Image:
    image = frame.to_image()
    turn = getattr(frame, "rotation", 0) % 360  # counter-clockwise, as the file says it should be shown
    return image.rotate(turn, expand=True) if turn else image
