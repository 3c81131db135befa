"""What visitors send becomes labels, a prompt set, an image or a video.

Anything else becomes a ValueError whose message begins with the field's name. Gradio passes on what
came as it came; here alone it becomes bytes: a data URL's own, or those of a regular file in this
run's upload folder. Nothing else is opened, and no address is fetched.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

from modeling_expclip import LABEL_SETS, PROMPT_SETS
from modeling_expclip.media.images import open_image
from modeling_expclip.media.label_sets import ACTION_UNITS, EMONET40
from modeling_expclip.media.video import VideoLimits, open_video

from .uploads import KEPT_MINUTES

SETS = {**LABEL_SETS, "emonet40": EMONET40, "action_units": tuple(ACTION_UNITS)}
BASIC_LABELS = LABEL_SETS["rafdb"]
DEFAULT_PROMPTS = "ensemble10"
MAX_LABELS = 100
MAX_LABEL_LENGTH = 200
MAX_IMAGE_BYTES = 20 * 2**20
MAX_DATA_URL = MAX_IMAGE_BYTES * 4 // 3 + 100
MAX_PIXELS = 25_000_000  # of an image; the library's own limit is three times that, for people who know their files
MAX_VIDEO_BYTES = 60 * 2**20
MAX_VIDEO_SECONDS = 120
# Checked while reading, because what a file says of itself may be wrong or missing
VIDEO_LIMITS = VideoLimits(seconds=MAX_VIDEO_SECONDS, frames=61 * MAX_VIDEO_SECONDS, pixels=9_000_000, work_seconds=120)
_SERVED = "/gradio_api/file="  # what an upload is called by agents, behind this server's address


def labels_of(typed: Any) -> tuple[str, ...]:
    """Labels separated by commas or lines; the seven basic expressions where nothing was typed."""
    if not isinstance(typed, str | None):
        raise ValueError("labels: one text is expected, with commas or line breaks between the labels")
    typed = typed or ""
    try:
        typed.encode()
    except UnicodeEncodeError as error:
        raise ValueError("labels: the text holds characters that are not valid Unicode") from error
    labels = tuple(label for part in re.split(r"[,\r\n]", typed) if (label := part.strip()))
    if len(labels) > MAX_LABELS:
        raise ValueError(f"labels: {len(labels)} are too many; at most {MAX_LABELS} are compared at once")
    # Labels are named by their places: a visitor's own text in a message would be shown as markup.
    for number, label in enumerate(labels, 1):
        if len(label) > MAX_LABEL_LENGTH:
            raise ValueError(
                f"labels: label {number} has {len(label)} characters, at most {MAX_LABEL_LENGTH} are read; "
                "put commas or line breaks between labels"
            )
        first = labels.index(label) + 1
        if first < number:
            raise ValueError(f"labels: labels {first} and {number} are the same; give each label once")
    return labels or BASIC_LABELS


def prompts_of(name: Any) -> str:
    """The name of a prompt set; the default one for an empty name."""
    if not name:
        return DEFAULT_PROMPTS
    if not isinstance(name, str) or name not in PROMPT_SETS:
        raise ValueError(f"prompts: there is no such prompt set; choose one of {', '.join(PROMPT_SETS)}")
    return name


def choice_of(field: str, sent: Any) -> bool:
    """Whether what ``field`` offers is wanted; not where nothing was said."""
    if not isinstance(sent, bool | None):
        raise ValueError(f"{field}: true or false is expected")
    return bool(sent)


def label_set_of(name: Any) -> tuple[str, ...]:
    """The labels of a set; none where none was chosen."""
    return SETS.get(name, ()) if isinstance(name, str) else ()


def image_of(sent: Any) -> Image.Image:
    """An uploaded, pasted or photographed image, upright and RGB.

    ``sent`` holds a file's path, or a data URL from the camera.
    """
    sent = _file("image", sent, "choose, paste or take a photo first")
    url = sent.get("url")
    if isinstance(url, str) and url.startswith("data:"):
        content = _decoded(url)
    else:
        with _opened("image", sent.get("path"), MAX_IMAGE_BYTES) as (_, file):
            content = file.read(MAX_IMAGE_BYTES)
    try:
        return open_image(content, MAX_PIXELS)
    except UnidentifiedImageError as error:
        raise ValueError("image: this is not an image of a known format (JPEG, PNG, WebP, AVIF, GIF ...)") from error
    except ValueError as error:  # open_image's own refusals: too many pixels, pixels without a range
        raise ValueError(f"image: {error}") from error
    except OSError as error:
        raise ValueError("image: the file is damaged or cut off") from error


def video_of(sent: Any) -> tuple[Path, float]:
    """The file of an uploaded video, and its length in seconds."""
    sent = _file("video", sent, "choose a file first")
    if not sent.get("path"):
        raise ValueError("video: data URLs are read for images only; upload the file first, and send its path")
    with _opened("video", sent.get("path"), MAX_VIDEO_BYTES) as (path, _):
        pass
    seconds = _seconds(path)
    if seconds > MAX_VIDEO_SECONDS:
        raise ValueError(f"video: {seconds:.0f} seconds are too long; at most {MAX_VIDEO_SECONDS} are read")
    return path, seconds


def _file(field: str, sent: Any, hint: str) -> dict[str, Any]:
    if not isinstance(sent, dict | None):
        raise ValueError(f"{field}: one file is expected, as the upload answered it")
    if not sent or not (sent.get("path") or str(sent.get("url")).startswith("data:")):
        raise ValueError(f"{field}: there is none yet; {hint}")
    return sent


def _decoded(url: str) -> bytes:
    if len(url) > MAX_DATA_URL:
        raise ValueError(f"image: more than {_megabytes(MAX_IMAGE_BYTES)} are not read")
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("image: the data URL is damaged") from error


@contextmanager
def _opened(field: str, name: Any, most: int) -> Iterator[tuple[Path, Any]]:
    """An upload and its file, which is opened first and checked then: nothing can change in between."""
    # One sentence for whatever it is not: what else exists on this machine is not shown.
    gone = ValueError(
        f"{field}: there is no such upload here, and other addresses are not fetched; "
        f"uploads are deleted after {KEPT_MINUTES} minutes, please choose the file again"
    )
    path = _uploaded(name)
    if path is None:
        raise gone
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise gone from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise gone
        if found.st_size > most:
            raise ValueError(f"{field}: {_megabytes(found.st_size)} are too many; at most {_megabytes(most)} are read")
        with open(descriptor, "rb", closefd=False) as file:
            yield path, file
    finally:
        os.close(descriptor)


def _uploaded(name: Any) -> Path | None:
    """The path that ``name`` means, if that lies in this run's upload folder.

    What lies elsewhere is not even looked at.
    """
    folder = os.environ.get("GRADIO_TEMP_DIR")
    if not folder or not isinstance(name, str):
        return None
    if name.startswith(("http:", "https:")):
        name = unquote(name.partition(_SERVED)[2])
    path, folders = Path(os.path.abspath(name)), {Path(os.path.abspath(folder)), Path(folder).resolve()}
    if folders.isdisjoint(path.parents):
        return None
    try:
        path = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # missing, with a null character, or a loop of links
        return None
    return None if folders.isdisjoint(path.parents) else path


def _seconds(path: Path) -> float:
    """The time of the last packet, a first guess at the length. Nothing is decoded."""
    from av.error import FFmpegError

    try:
        with open_video(path, VIDEO_LIMITS.pixels) as container:
            stream, limits, end = container.streams.video[0], VIDEO_LIMITS, time.monotonic() + VIDEO_LIMITS.work_seconds
            first, last, count = math.inf, -math.inf, 0
            for packet in container.demux():  # of all streams, because another one's may be the many
                if time.monotonic() > end:
                    raise ValueError(
                        f"refused: {path} took more than {limits.work_seconds} seconds to read; cut it first"
                    )
                if packet.stream is stream and packet.pts is not None:
                    first, last, count = min(first, packet.pts), max(last, packet.pts), count + 1
                if count > limits.frames:
                    raise ValueError(f"refused: {path} has more than {limits.frames} frames; cut it first")
            return float((last - first) * stream.time_base) if count else 0.0
    except (FFmpegError, OSError) as error:
        raise ValueError("video: this is not a video that can be read, or its end is missing") from error
    except ValueError as error:
        raise ValueError(f"video: {str(error).replace(str(path), 'the file')}") from error


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MB"
