"""What visitors send becomes labels, a prompt set, a picture or a video to read; anything else becomes a ValueError whose message begins
with the field's name."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from modeling_expclip import LABEL_SETS, PROMPT_SETS
from modeling_expclip.processing_expclip import open_image
from modeling_expclip.video import forgiving_options

BASIC_LABELS = LABEL_SETS["rafdb"]
DEFAULT_PROMPTS = "ensemble10"
MOST_LABELS = 100
LONGEST_LABEL = 200
MOST_IMAGE_BYTES = 20 * 2**20
MOST_VIDEO_BYTES = 60 * 2**20
MOST_VIDEO_SECONDS = 120
KEPT_MINUTES = 10
SWEPT_SECONDS = 60
KEPT_SECONDS = 60 * KEPT_MINUTES - SWEPT_SECONDS  # a file may just have missed a sweep


def labels_of(typed: str | None) -> tuple[str, ...]:
    """Labels separated by commas or lines; the seven basic expressions where nothing was typed."""
    if not isinstance(typed, str | None):
        raise ValueError("labels: one text is expected, with commas or line breaks between the labels")
    typed = typed or ""
    try:
        typed.encode()
    except UnicodeEncodeError:
        raise ValueError("labels: the text holds characters that are not valid Unicode") from None
    labels = tuple(label for part in re.split(r"[,\r\n]", typed) if (label := part.strip()))
    if len(labels) > MOST_LABELS:
        raise ValueError(f"labels: {len(labels)} are too many; at most {MOST_LABELS} are compared at once")
    # Labels are named by their places: a visitor's own text in a message would be shown as markup.
    for number, label in enumerate(labels, 1):
        if len(label) > LONGEST_LABEL:
            raise ValueError(
                f"labels: label {number} has {len(label)} characters, at most {LONGEST_LABEL} are read; "
                "put commas or line breaks between labels"
            )
        first = labels.index(label) + 1
        if first < number:
            raise ValueError(f"labels: labels {first} and {number} are the same; give each label once")
    return labels or BASIC_LABELS


def prompts_of(name: str | None) -> str:
    """The name of a prompt set; the default one for an empty name."""
    if not name:
        return DEFAULT_PROMPTS
    if not isinstance(name, str) or name not in PROMPT_SETS:
        raise ValueError(f"prompts: there is no such prompt set; choose one of {', '.join(PROMPT_SETS)}")
    return name


def picture_of(sent: dict[str, Any] | None) -> Image.Image:
    """What Gradio passes on of an uploaded, pasted or photographed picture (a file's path, or a data URL from the camera), upright and RGB."""
    sent = sent or {}
    path, url = sent.get("path"), sent.get("url") or ""
    if url.startswith("data:"):
        content: str | bytes = _decoded(url)
        size = len(content)
    elif path:
        content, size = path, _size("image", path)
    else:
        raise ValueError("image: there is none yet; choose, paste or take a picture first")
    if size > MOST_IMAGE_BYTES:
        raise ValueError(f"image: {_megabytes(size)} are too many; at most {_megabytes(MOST_IMAGE_BYTES)} are read")
    try:
        return open_image(content)
    except UnidentifiedImageError:
        raise ValueError("image: this is not a picture of a known format (JPEG, PNG, WebP, AVIF, GIF ...)") from None
    except ValueError as error:  # open_image's own refusals: too many pixels, pixels without a range
        raise ValueError(f"image: {error}") from None
    except OSError:
        raise ValueError("image: the file is damaged or cut off") from None


def video_of(sent: dict[str, Any] | None) -> tuple[Path, float]:
    """The file of an uploaded video, and its length in seconds."""
    path = Path((sent or {}).get("path") or "")
    if not path.name:
        raise ValueError("video: there is none yet; choose a file first")
    size = _size("video", path)
    if size > MOST_VIDEO_BYTES:
        raise ValueError(f"video: {_megabytes(size)} are too many; at most {_megabytes(MOST_VIDEO_BYTES)} are read")
    seconds = _seconds(path)
    if seconds > MOST_VIDEO_SECONDS:
        raise ValueError(f"video: {seconds:.0f} seconds are too long; at most {MOST_VIDEO_SECONDS} are read")
    return path, seconds


def _decoded(url: str) -> bytes:
    _, _, content = url.partition(",")
    if len(content) > MOST_IMAGE_BYTES * 4 // 3 + 4:
        raise ValueError(f"image: more than {_megabytes(MOST_IMAGE_BYTES)} are not read")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("image: the data URL is damaged") from None


def _size(field: str, path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        raise ValueError(
            f"{field}: the file was deleted after {KEPT_MINUTES} minutes; please choose it again"
        ) from None


def _seconds(path: Path) -> float:
    """The time of the last packet, because what a file says of its own length may be wrong or missing. Nothing is decoded."""
    import av

    last = 0.0
    try:
        with av.open(str(path), **forgiving_options(av.__version__)) as container:
            if not container.streams.video:
                raise ValueError("video: the file has no picture")
            stream = container.streams.video[0]
            times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
            if times:
                last = float((max(times) - min(times)) * stream.time_base)
    except av.error.FFmpegError:
        raise ValueError("video: this is not a video that can be read, or its end is missing") from None
    return last


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MB"
