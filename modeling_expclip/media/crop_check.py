"""Are these images face crops? Said once, where images are taken for crops and nobody said that they are.

A face crop holds one face that fills it. The models answer for whatever they are shown, also for a landscape, so whoever
passes photos by mistake would get numbers without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from .detectors import FaceDetector
from .images import open_image
from .yunet import weights_at_hand

_LOOKED_AT = 8
_SEVERAL = 3  # of them, or all where there are fewer: no detector finds every face
# Faces filled 32 % and more of 99 % of FER+'s crops (48 pixels, grey), 61 % of the in-the-wild crops', and at most 19 % of the
# London set's portraits: python -m tests.benchmarks.crops
_FILLS = 0.25
_THRESHOLD = 0.3  # of the detector, which is unsure of small grey crops
_RESOLUTION = 256  # pixels; small faces need not be found, for they do not fill the image


def crops_warning(images: Iterable[Any]) -> str | None:
    """Looks for a face that fills the image in each of the first eight images.

    Args:
        images: what `open_image` reads. No more than eight are taken; those that cannot be read are passed over.

    Returns:
        None where they look like face crops, or where it cannot be known: without images, without
        OpenCV, or without the detector's weights on this machine (nothing is downloaded for this).
        Else a sentence without its full stop, for the caller to add what helps there: "5 of the first 8
        images show no single face that fills them, but images are taken as face crops here".
    """
    weights = weights_at_hand()
    if weights is None:
        return None
    try:
        detector = FaceDetector(weights, _THRESHOLD, _RESOLUTION)
    except ImportError:
        return None
    except (OSError, ValueError) as error:  # a file of the wrong name or content, which someone meant to be used
        return f"whether the images are face crops could not be looked at: {error}"
    others = [not _is_crop(image, detector) for image in _readable(islice(images, _LOOKED_AT))]
    if not others or sum(others) < min(_SEVERAL, len(others)):
        return None
    if len(others) == 1:
        return "the image shows no single face that fills it, but images are taken as face crops here"
    return f"{sum(others)} of the first {len(others)} images show no single face that fills them, but images are taken as face crops here"


def _readable(images: Iterable[Any]):
    for image in images:
        try:
            yield open_image(image)
        except (OSError, ValueError):  # the run itself says so where it reads them
            continue


def _is_crop(image, detector: FaceDetector) -> bool:
    """Whether one face fills the image, and no other of a quarter of its size stands beside it."""
    areas = sorted((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (face.box for face in detector(image)))
    if not areas or areas[-1] < _FILLS * image.width * image.height:
        return False
    return len(areas) < 2 or areas[-2] < areas[-1] / 4
