"""YuNet: an upright RGB image in, rows of boxes, landmarks and confidences in the image's own pixels out. Also where its weights are."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # the builtin one from Python 3.11 on
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..system.terminal import reason_of
from .faces import opencv

REPO = "opencv/face_detection_yunet"
REVISION = "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310"
FILE = "face_detection_yunet_2023mar.onnx"
VARIABLE = "EXPCLIP_YUNET"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_ANSWER_SECONDS, _DOWNLOAD_SECONDS = 5.0, 60.0

# YuNet finds faces of some 10 to 300 pixels. Each photo is therefore read twice, small for the faces that fill it and
# large for those in the crowd; small images are enlarged to the first size.
_SMALL = 256
_LEAST = 33  # a side of 32 or fewer makes OpenCV 4 invent faces, some of them at infinity
_OVERLAP = 0.3  # boxes that overlap more, by intersection over union, are one face


class HubError(OSError):
    """The Hub did not give the weights, and none are on this machine."""


class YuNet:
    """YuNet through OpenCV. Safe to call from several threads.

    Args:
        weights: its ONNX file.
        threshold: the least confidence of a face.
        resolution: photos are scaled down to this longest side, in pixels, before small faces are looked for.

    Raises ImportError without OpenCV, OSError where there is no such file, ValueError for other weights than YuNet's.
    """

    def __init__(self, weights: Path, threshold: float, resolution: int) -> None:
        self._weights = _checked(weights)
        self._threshold = threshold
        self._resolution = resolution
        self._own = threading.local()  # OpenCV's detector keeps an image's size: one for each thread
        self._detector()

    def __call__(self, image: Image.Image) -> np.ndarray:
        """(faces, 15): x, y, width, height, five landmarks, confidence."""
        longest = max(image.size)
        rows_found: list[np.ndarray] = []
        scales = {_SMALL / longest}
        if longest > 1.5 * _SMALL:
            scales.add(min(1.0, self._resolution / longest))
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
            return np.empty((0, 15))
        found = np.stack(rows_found)
        kept = opencv().dnn.NMSBoxes(found[:, :4].tolist(), found[:, 14].tolist(), self._threshold, _OVERLAP)
        return found[np.asarray(kept, int)]

    def _detector(self):
        if not hasattr(self._own, "detector"):
            cv2 = opencv()
            try:
                self._own.detector = cv2.FaceDetectorYN.create(str(self._weights), "", (8, 8), self._threshold)
            except cv2.error as error:
                raise ValueError(f"OpenCV {cv2.__version__} cannot use {self._weights}: {error}") from error
        return self._own.detector


def weights_at_hand() -> Path | None:
    """The weights' file without asking the network: the one that ``EXPCLIP_YUNET`` names, there or not, else the Hub's where it
    was downloaded before, else None."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPO, FILE, revision=REVISION)
    return Path(cached) if isinstance(cached, str) else None


def download() -> Path:
    """The weights' file from the Hub: one try, for an answer within five seconds. Raises HubError saying what failed."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        url = hf_hub_url(REPO, FILE, revision=REVISION)
        # The download itself would try again for half a minute, and say so each time.
        _within(_ANSWER_SECONDS, lambda: get_hf_file_metadata(url, timeout=_ANSWER_SECONDS))
        return Path(_within(_DOWNLOAD_SECONDS, lambda: hf_hub_download(REPO, FILE, revision=REVISION)))
    except Exception as error:  # the HTTP client's own errors, and it is not the same in each huggingface_hub
        raise HubError(
            f"set {VARIABLE} to a copy of YuNet's {FILE} (the Hub's {REPO} failed: {reason_of(error)})"
        ) from error


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """In a thread that ends with the process, for no time limit of an HTTP client holds for the look-up of a name."""
    result: Future = Future()

    def work() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return result.result(seconds)
    except FutureTimeoutError as error:
        raise OSError(f"no answer within {seconds:.0f} seconds") from error


def _checked(path: Path) -> Path:
    """Raises FileNotFoundError, or ValueError for another file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no face detector: there is no file {path} ({FILE} is wanted); correct or unset {VARIABLE}"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256:
        raise ValueError(f"{path} is not {FILE}: its sha256 is {digest}, expected {_SHA256}; fetch it again")
    return path
