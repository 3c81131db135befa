"""Faces in photos: YuNet finds them, boxes in the photo's own pixels and crops for the model come out.

OpenCV is needed only where faces are looked for.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..system.terminal import reason_of

_REPO = "opencv/face_detection_yunet"
_REVISION = "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310"
_FILE = "face_detection_yunet_2023mar.onnx"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_VARIABLE = "EXPCLIP_YUNET"

# YuNet finds faces of some 10 to 300 pixels. Each photo is therefore read twice, small for the faces that fill it and
# large for those in the crowd; small images are enlarged to the first size.
_SMALL = 256
_LEAST = 33  # a side of 32 or fewer makes OpenCV 4 invent faces, some of them at infinity
_OVERLAP = 0.3  # boxes that overlap more, by intersection over union, are one face

DEFAULT_MARGIN = 0.0  # the best of six on held-out faces: python -m tests.benchmarks.face_margin
MAX_MARGIN = 10.0  # beyond it, a crop is mostly a photo's repeated edge
DEFAULT_THRESHOLD = 0.7
DEFAULT_RESOLUTION = 1920


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


class FaceDetector:
    """YuNet through OpenCV. Safe to call from several threads.

    Args:
        weights: YuNet's ONNX file; by default the one that ``EXPCLIP_YUNET`` names, else the Hub's, which is downloaded once.
        threshold: the least confidence of a face.
        resolution: photos are scaled down to this longest side, in pixels, before small faces are looked for.

    Raises ImportError without OpenCV, OSError where there are no weights, ValueError for other weights than YuNet's.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        resolution: int = DEFAULT_RESOLUTION,
    ) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"the detection threshold must lie between 0 and 1, got {threshold}")
        self.threshold = threshold
        self.resolution = resolution
        self._weights = _yunet(weights)
        self._own = threading.local()  # OpenCV's detector keeps an image's size: one for each thread
        self._detector()

    def __call__(self, image: Image.Image) -> list[Face]:
        """The faces in an upright RGB image, the largest first."""
        longest = max(image.size)
        rows_found: list[np.ndarray] = []
        scales = {_SMALL / longest}
        if longest > 1.5 * _SMALL:
            scales.add(min(1.0, self.resolution / longest))
        for scale in sorted(scales):
            size = (max(_LEAST, round(image.width * scale)), max(_LEAST, round(image.height * scale)))
            # Pillow's box filter, because OpenCV's own fast ones skip pixels when they shrink a lot
            resample = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX
            pixels = np.asarray(image if size == image.size else image.resize(size, resample, reducing_gap=2.0))
            detector = self._detector()
            detector.setInputSize(size)
            _, rows = detector.detect(np.ascontiguousarray(pixels[..., ::-1]))
            if rows is not None:
                rows = rows.astype(np.float64)
                rows[:, :14] *= np.tile(np.divide(image.size, size), 7)
                rows_found.extend(rows)
        if not rows_found:
            return []
        found = np.stack(rows_found)  # (faces, 15): x, y, width, height, five landmarks, confidence
        kept = _opencv().dnn.NMSBoxes(found[:, :4].tolist(), found[:, 14].tolist(), self.threshold, _OVERLAP)
        faces = [face for row in found[np.asarray(kept, int)] if (face := _face(row, image.size)) is not None]
        return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))

    def _detector(self):
        if not hasattr(self._own, "detector"):
            cv2 = _opencv()
            try:
                self._own.detector = cv2.FaceDetectorYN.create(str(self._weights), "", (8, 8), self.threshold)
            except cv2.error as error:
                raise ValueError(f"OpenCV {cv2.__version__} cannot use {self._weights}: {error}") from error
        return self._own.detector


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
    x0, y0, x1, y1 = face.box
    side = max(1, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
    angle = 0.0
    if align:
        (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
        angle = math.atan2(right_y - left_y, right_x - left_x)
    return _square(image, ((x0 + x1) / 2, (y0 + y1) / 2), side, angle)


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


def _face(row: np.ndarray, size: tuple[int, int]) -> Face | None:
    x, y, width, height = row[:4]
    x0, y0 = max(0, round(x)), max(0, round(y))
    x1, y1 = min(size[0], round(x + width)), min(size[1], round(y + height))
    if x1 <= x0 or y1 <= y0:
        return None
    return Face(
        (x0, y0, x1, y1), float(min(1.0, row[14])), tuple((float(a), float(b)) for a, b in row[4:14].reshape(5, 2))
    )


def _opencv():
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "finding faces needs OpenCV: pip install opencv-python-headless; or pass faces already cropped with --no-faces"
        ) from error
    logging = cv2.utils.logging  # OpenCV 5 warns of every network that it runs on the CPU
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    return cv2


def weights_at_hand() -> str | None:
    """The weights' file without asking the network: the one that ``EXPCLIP_YUNET`` names, there or not, else the Hub's where it
    was downloaded before, else None."""
    if named := os.environ.get(_VARIABLE):
        return named
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(_REPO, _FILE, revision=_REVISION)
    return cached if isinstance(cached, str) else None


def _yunet(weights: str | Path | None) -> Path:
    """The weights' file, found and compared with the known sha256."""
    named = weights if weights is not None else weights_at_hand()
    if named:
        path = Path(named)
        if not path.is_file():
            raise FileNotFoundError(f"no face detector: there is no file {path} ({_FILE} is wanted)")
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            path = Path(hf_hub_download(_REPO, _FILE, revision=_REVISION))
        except (OSError, HfHubHTTPError) as error:  # offline, not in the cache, no such file
            raise OSError(
                f"no face detector; pass faces already cropped with --no-faces, or set {_VARIABLE} to a copy of {_FILE} "
                f"(from the Hub's {_REPO}, which failed: {reason_of(error)})"
            ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256:
        raise ValueError(f"{path} is not {_FILE}: its sha256 is {digest}, expected {_SHA256}; fetch it again")
    return path
