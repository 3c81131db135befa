"""A face in a photo: where it is, and its crop for the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

DEFAULT_MARGIN = 0.0  # the best of five on held-out faces: python -m tests.benchmarks.face_margin
MAX_MARGIN = 10.0  # beyond it, a crop is mostly a photo's repeated edge


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Face:
    """A face in a photo, in pixels of the photo held upright (its EXIF orientation applied).

    ``box`` is (x0, y0, x1, y1), within the photo; ``score`` the detector's confidence, 0 to 1; ``landmarks`` are (x, y) of the
    eye on the photo's left, the other eye, the tip of the nose and the corners of the mouth in the same order.
    """

    box: Box
    score: float
    landmarks: tuple[tuple[float, float], ...]


Detector = Callable[[Image.Image], list[Face]]  # an upright RGB image -> its faces, the largest first


def crop_face(image: Image.Image, face: Face, margin: float = DEFAULT_MARGIN, align: bool = False) -> Image.Image:
    """A face cut out of its photo, as a square around the middle of its box.

    Args:
        image: the image the face was found in.
        margin: added on each side, as a share of the box's longer side.
        align: turn the crop so that the eyes are level.

    What lies outside the photo repeats the photo's edge.
    """
    if not 0 <= margin <= MAX_MARGIN:
        raise ValueError(f"the margin around a face must lie between 0 and {MAX_MARGIN}, got {margin}")
    return _square(image, *_frame(face, margin, align))


def crop_place(face: Face, margin: float = DEFAULT_MARGIN, align: bool = False) -> np.ndarray:
    """Where in the face's crop the places of its photo are: (3, 3), for columns (x, y, 1) in pixels. Arguments as for ``crop_face``."""
    (x, y), side, angle = _frame(face, margin, align)
    cos, sin = math.cos(angle), math.sin(angle)
    half = side / 2
    return np.array([[cos, sin, half - cos * x - sin * y], [-sin, cos, half + sin * x - cos * y], [0, 0, 1]])


def _frame(face: Face, margin: float, align: bool) -> tuple[tuple[float, float], int, float]:
    """The middle of a face's crop in its photo, the crop's side, and the angle that it is turned by."""
    x0, y0, x1, y1 = face.box
    side = max(1, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
    angle = 0.0
    if align:
        (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
        angle = math.atan2(right_y - left_y, right_x - left_x)
    return ((x0 + x1) / 2, (y0 + y1) / 2), side, angle


def _square(image: Image.Image, centre: tuple[float, float], side: int, angle: float) -> Image.Image:
    reach = math.ceil(side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))) + 1
    left, top = math.floor(centre[0]) - reach, math.floor(centre[1]) - reach
    # Indices that are cut to the image repeat its edge.
    columns = np.arange(left, left + 2 * reach + 1).clip(0, image.width - 1)
    rows = np.arange(top, top + 2 * reach + 1).clip(0, image.height - 1)
    inside = image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    around = np.asarray(inside)[np.ix_(rows - rows[0], columns - columns[0])]
    x, y = centre[0] - left, centre[1] - top
    if angle == 0:
        left, top = round(x - side / 2), round(y - side / 2)
        return Image.fromarray(around[top : top + side, left : left + side])
    cos, sin = math.cos(angle), math.sin(angle)
    half = side / 2
    matrix = (cos, -sin, x - cos * half + sin * half, sin, cos, y - sin * half - cos * half)
    return Image.fromarray(around).transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def faces_of(rows: np.ndarray, size: tuple[int, int]) -> list[Face]:
    """What a detector found in an image of ``size`` (width, height), the largest first.

    ``rows`` are (faces, 15): x, y, width, height, five landmarks, confidence, in the image's pixels. Boxes are rounded to whole pixels
    and cut to the image; those of which nothing is left are dropped.
    """
    faces = []
    for x, y, width, height, *landmarks, score in rows.tolist():
        x0, y0 = max(0, round(x)), max(0, round(y))
        x1, y1 = min(size[0], round(x + width)), min(size[1], round(y + height))
        if x0 < x1 and y0 < y1:
            faces.append(Face((x0, y0, x1, y1), min(1.0, score), tuple(zip(landmarks[::2], landmarks[1::2]))))
    return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))


def opencv():
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "finding faces needs OpenCV: pip install opencv-python-headless; or pass faces already cropped with --no-faces"
        ) from error
    logging = cv2.utils.logging  # OpenCV 5 warns of every network that it runs on the CPU
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    return cv2
