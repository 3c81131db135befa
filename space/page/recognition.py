"""A checkpoint and a face detector, for many visitors at once: images and videos in, scores out.

Each label's probability comes with the projection head and without it. No page here.
"""

from __future__ import annotations

import copy
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel

from modeling_expclip import MINI, PROMPT_SETS, FaceAnalyzer, FaceDetector, load_checkpoint
from modeling_expclip.media.analyzer import VIDEO_RESOLUTION
from modeling_expclip.media.explain import differences, draw_heat, face_maps
from modeling_expclip.media.label_sets import ACTION_UNITS, best_label
from modeling_expclip.media.video import VideoLimits
from modeling_expclip.modeling_expclip import ExpCLIPMixin

from .slots import Slots

try:
    from spaces import GPU as on_gpu  # ZeroGPU: a GPU for the length of a call
except ImportError:

    def on_gpu(function: Callable) -> Callable:
        return function


Box = tuple[int, int, int, int]
_AT_ONCE = 2  # images in memory
_SECONDS = 30  # how long a visitor waits for a slot
_FEW_PROMPTS = 100  # the seven basic expressions have seventy
_KEPT_PROTOTYPES = 32


@dataclass(frozen=True)
class FaceScores:
    """One face and the probability of each label.

    ``box`` and ``detection_score`` are None where the whole image was taken for a face;
    ``clip_scores`` are those without the head, None where the model has none. ``label`` is None where
    each label was scored by itself (``multi_label``) and none fits.
    """

    box: Box | None
    scores: dict[str, float]
    clip_scores: dict[str, float] | None
    detection_score: float | None = None
    multi_label: bool = False

    @property
    def label(self) -> str | None:
        return best_label(self.scores, self.multi_label)


@dataclass(frozen=True)
class Prototypes:
    """Labels and a prompt set, encoded: what faces are compared with (``FacialExpressionPipeline.comparison``),
    with the head, and without it where there is one."""

    labels: tuple[str, ...]
    prompts: str
    multi_label: bool
    with_head: tuple
    without: tuple | None


class Recogniser:
    """A checkpoint (folder or Hub id; default: ``EXPCLIP_MODEL``, else the embedded mini) and a face detector.

    ``name`` is shown to visitors, ``detector`` is ``yunet``, ``mtcnn`` or None; ``no_head`` and
    ``no_detector`` say in a sentence why the comparison or the search for faces is missing; they are
    empty where it is not.

    Raises OSError or ValueError where the checkpoint, or the weights that ``EXPCLIP_YUNET`` names,
    cannot be used.
    """

    def __init__(self, source: str | None = None) -> None:
        source = source or os.environ.get("EXPCLIP_MODEL") or MINI
        self.is_mini = source == MINI
        self.name = "expclip-mini" if self.is_mini else Path(source).name if Path(source).is_dir() else source
        model, processor = load_checkpoint(source)
        # OpenCV keeps what it needed for the largest image, in each thread that ever looked for faces.
        self._finding = ThreadPoolExecutor(_AT_ONCE)
        found, self.no_detector = None, ""
        try:
            found = FaceDetector()
            logging.getLogger(__name__).warning("%s", found)
        except ImportError as error:
            logging.getLogger(__name__).warning("%s", error)
            self.no_detector = "No face detector is installed here, so the whole image is read as one face."
        self.detector = found and found.name
        faces = found is not None
        self._find = found and self._in_few_threads(found)
        videos = found and FaceDetector(found.source, resolution=VIDEO_RESOLUTION)
        # torch, also for an exported checkpoint: other runtimes do one thing at a time.
        self._with_head = FaceAnalyzer(model, processor, faces=faces, detector=videos, backend="torch")
        self._head, self.no_head = None, ""
        if isinstance(model, ExpCLIPMixin):
            self._head, model = model.projection_head, without_head(model)
        else:
            self.no_head = (
                f"{self.name} is a plain CLIP: there is no projection head to leave out, so nothing to compare."
            )
        # The head comes last, so one pass of the image tower serves both.
        self._without_head = FaceAnalyzer(
            model,
            processor,
            faces=faces,
            detector=self._find,
            backend="torch",
            batch_size=1,
            workers=1,
        )
        self._prototypes: OrderedDict[tuple, Prototypes] = OrderedDict()
        self._images = Slots(_AT_ONCE, 60, _SECONDS, "many images are being read")
        self._few = Slots(1, 60, _SECONDS, "many new labels are being read")
        self._many = Slots(1, 4, _SECONDS, "several long lists of new labels are being read")

    def slot(self) -> AbstractContextManager[None]:
        """Held while an image is in memory, whoever sent it and however: decoded, read and drawn.

        Raises ValueError where all are taken.
        """
        return self._images.hold()

    def prototypes(self, labels: Sequence[str], prompts: str, multi_label: bool = False) -> Prototypes:
        """What ``classify`` and ``video`` compare faces with; with ``multi_label``, each label is scored by itself.

        New labels are encoded here, before the image gets a slot and beside those that have one. Long
        lists wait for each other, and short ones do not wait for them.
        """
        key = tuple(labels), prompts, multi_label
        if known := self._prototypes.get(key):
            return known
        many = len(labels) * len(PROMPT_SETS[prompts]) > _FEW_PROMPTS
        with (self._many if many else self._few).hold():
            if known := self._prototypes.get(key):  # somebody before us in the line brought them
                return known
            encoded = Prototypes(*key, *self._encoded(*key))
            self._prototypes[key] = encoded
            if len(self._prototypes) > _KEPT_PROTOTYPES:
                self._prototypes.popitem(last=False)
        return encoded

    @on_gpu
    def classify(self, image: Image.Image, prototypes: Prototypes) -> list[FaceScores]:
        """The faces of an upright RGB image, the largest first; none where none is found.

        Without a detector, the whole image is one face.
        """
        [(_, found)] = self._without_head.embed([(None, image)])
        if found.error is not None:
            raise found.error
        if found.embeds is None:
            return []
        without = found.embeds  # (faces, D)
        if self._head is None:
            scores = self._scores(self._without_head, without, prototypes.labels, prototypes.with_head)
            clip_scores = [None] * len(scores)
        else:
            with torch.inference_mode():
                embeds = self._head(without.to(self._head.weight)).cpu()  # (faces, H)
            scores = self._scores(self._with_head, embeds, prototypes.labels, prototypes.with_head)
            clip_scores = self._scores(self._without_head, without, prototypes.labels, prototypes.without)
        return [
            FaceScores(box, *both, detection_score, prototypes.multi_label)
            for (box, detection_score), *both in zip(found.places, scores, clip_scores)
        ]

    @on_gpu
    def explain(self, image: Image.Image, prototypes: Prototypes, number: int, label: str) -> Image.Image:
        """Face ``number`` of ``classify``, with what speaks for a label in colour; a label alone needs ``multi_label``.

        Raises ValueError where there is no such face or label.
        """
        faces = [None] if self._find is None else self._find(image)
        if number not in range(len(faces)) or label not in prototypes.labels:
            raise ValueError("the image or the labels are no longer those of the bars; press Compare, and choose again")
        place, face = prototypes.labels.index(label), faces[number]
        wanted = differences(*prototypes.with_head)[place : place + 1]
        [heat] = face_maps(self._with_head.pipeline, image, face, wanted)
        drawn = draw_heat(image, heat)
        if face is None:
            return drawn
        x0, y0, x1, y1 = face.box
        room = max(x1 - x0, y1 - y0) // 4
        return drawn.crop(
            (max(0, x0 - room), max(0, y0 - room), min(image.width, x1 + room), min(image.height, y1 + room))
        )

    @on_gpu
    def video(self, file: Path, prototypes: Prototypes, limits: VideoLimits) -> Iterator[dict[str, Any]]:
        """The entries of ``FaceAnalyzer.video``, as they are found.

        At the end ValueError for a video that is damaged or goes beyond the limits.
        """
        words = {"prompts": prototypes.prompts, "multi_label": prototypes.multi_label}
        words["contrasts"] = _contrasts(prototypes.labels, prototypes.multi_label)
        yield from self._with_head.video(file, prototypes.labels, **words, limits=limits)

    def _encoded(self, labels: tuple[str, ...], prompts: str, multi_label: bool) -> tuple[tuple, tuple | None]:
        words = labels, prompts, multi_label, _contrasts(labels, multi_label)
        with_head = self._with_head.pipeline.comparison(*words)
        return with_head, None if self._head is None else self._without_head.pipeline.comparison(*words)

    @staticmethod
    def _scores(
        analyzer: FaceAnalyzer, embeds: torch.Tensor, labels: tuple[str, ...], comparison: tuple
    ) -> list[dict[str, float]]:
        with torch.inference_mode():
            rows = analyzer.pipeline.probabilities(embeds, *comparison).tolist()
        return [dict(zip(labels, row)) for row in rows]

    def _in_few_threads(self, detector: FaceDetector) -> Callable[[Image.Image], list]:
        return lambda image: self._finding.submit(detector, image).result()


def _contrasts(labels: Sequence[str], multi_label: bool) -> dict[str, Any] | None:
    """Visitors type labels; those that are called like action units are scored as they are."""
    known = {label: ACTION_UNITS[label] for label in labels if label in ACTION_UNITS}
    return known if multi_label and known else None


def without_head(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without its head. It shares the modules, so it needs no memory."""
    bare = copy.copy(model)
    bare._modules = {**model._modules, "projection_head": torch.nn.Identity()}
    return bare
