"""Images and videos in, faces and the probability of each label out, with the projection head and without it. No page here."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPModel

from modeling_expclip import MINI, PROMPT_SETS, ExpCLIPModel, FacialExpressionPipeline
from modeling_expclip.checkpoint.folder import load_checkpoint
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.video import VideoLimits

from .slots import Slots

try:
    from spaces import GPU as on_gpu  # ZeroGPU: a GPU for the length of a call
except ImportError:

    def on_gpu(function: Callable) -> Callable:
        return function


Box = tuple[int, int, int, int]
_AT_ONCE = 2  # images in memory
_SECONDS = 30  # how long a visitor waits for a place
_FEW_PROMPTS = 100  # the seven basic expressions have seventy
_KEPT_PROTOTYPES = 32


@dataclass(frozen=True)
class FaceScores:
    """One face. ``box`` is None where the whole image was read; ``clip_scores`` are those without the head, None where the model has none."""

    box: Box | None
    scores: dict[str, float]
    clip_scores: dict[str, float] | None

    @property
    def label(self) -> str:
        return max(self.scores, key=self.scores.get)


class Recogniser:
    """A checkpoint (folder or Hub id; default: ``EXPCLIP_MODEL``, else the embedded mini) and a face detector, for many visitors at once.

    ``no_head`` and ``no_detector`` say in a sentence why the comparison or the search for faces is missing; they are empty where
    it is not.
    """

    def __init__(self, source: str | None = None) -> None:
        source = source or os.environ.get("EXPCLIP_MODEL") or MINI
        self.name = Path(source).name if Path(source).is_dir() else source
        model, processor = load_checkpoint(source)
        self._model = model
        self._parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
        self._head, self._clip, self.no_head = None, None, ""
        if isinstance(model, ExpCLIPModel):
            self._head = model.projection_head
            self._clip = without_head(model)
        else:
            self.no_head = (
                f"{self.name} is a plain CLIP: there is no projection head to leave out, so nothing to compare."
            )
        self._pipeline = self._made(model if self._clip is None else self._clip)
        self._detector, self.no_detector = None, ""
        try:
            self._detector = FaceDetector()
        except (ImportError, OSError) as error:
            logging.getLogger(__name__).warning("%s", error)
            self.no_detector = "No face detector is installed here, so the whole image is read as one face."
        # OpenCV keeps what it needed for the largest image, in each thread that ever looked for faces; Gradio has forty.
        self._finding = ThreadPoolExecutor(_AT_ONCE)
        # torch uses all cores for one call anyway.
        self._lock = threading.Lock()
        self._prototypes: OrderedDict[tuple, Words] = OrderedDict()
        self._images = Slots(_AT_ONCE, 60, _SECONDS, "many images are being read")
        self._few = Slots(1, 60, _SECONDS, "many new labels are being read")
        self._many = Slots(1, 4, _SECONDS, "several long lists of new labels are being read")

    def slot(self) -> AbstractContextManager[None]:
        """Held while an image is in memory, whoever sent it and however: decoded, read and drawn. ValueError where all are taken."""
        return self._images.hold()

    def prototypes(self, labels: Sequence[str], prompts: str) -> Words:
        """What ``read`` compares faces with. New labels are encoded here, before the image gets a place and beside those that have one.

        Long lists wait for each other, and short ones do not wait for them.
        """
        key = tuple(labels), prompts
        if known := self._prototypes.get(key):
            return known
        many = len(labels) * len(PROMPT_SETS[prompts]) > _FEW_PROMPTS
        with (self._many if many else self._few).hold():
            if known := self._prototypes.get(key):  # somebody before us in the line brought them
                return known
            words = Words(self._made(self._model), self._clip and self._made(self._clip), *key)
            self._prototypes[key] = words
            if len(self._prototypes) > _KEPT_PROTOTYPES:
                self._prototypes.popitem(last=False)
        return words

    @on_gpu
    def classify(self, image: Image.Image, words: Words) -> list[FaceScores]:
        """The faces of an upright RGB image, the largest first; none where none is found. Without a detector, the whole image as one face."""
        faces = self._finding.submit(self._detector, image).result() if self._detector else None
        if faces == []:
            return []
        found = False if faces is None else (lambda _: faces)
        with self._lock, torch.inference_mode():
            # The head comes last, so one pass of the image tower serves both.
            [(_, embedded)] = self._pipeline.embed([(None, image)], found)
            if embedded.error is not None:
                raise embedded.error
            embeds = embedded.embeds if self._head is None else self._head(embedded.embeds.to(self._head.weight)).cpu()
        scores, clip_scores = words.scores(embeds, embedded.embeds)
        boxes = [None] if faces is None else [face.box for face in faces]
        return [FaceScores(*parts) for parts in zip(boxes, scores, clip_scores)]

    @on_gpu
    def timeline(self, video: Path, words: Words, limits: VideoLimits) -> Iterator[dict[str, Any]]:
        """The entries of ``FacialExpressionPipeline.timeline``, as they are found; at the end ValueError for a video that is damaged or
        goes beyond the limits."""
        # Without the lock: a video takes long.
        labels, prompts = words.asked
        faces = self._detector is not None
        yield from words.head.timeline(video, candidate_labels=labels, prompts=prompts, faces=faces, limits=limits)

    def _made(self, model: CLIPModel) -> FacialExpressionPipeline:
        return FacialExpressionPipeline(model=model, **self._parts)


class Words:
    """Labels and prompts, encoded with the head and without it. Its pipelines keep these alone, so that asking them changes nothing."""

    def __init__(
        self,
        head: FacialExpressionPipeline,
        clip: FacialExpressionPipeline | None,
        labels: tuple[str, ...],
        prompts: str,
    ) -> None:
        self.head, self._clip, self.asked = head, clip, (labels, prompts)
        for pipeline in filter(None, (head, clip)):
            pipeline.class_prototypes(labels, prompts)

    def scores(self, embeds: torch.Tensor, clip_embeds: torch.Tensor) -> tuple[list, list]:
        """Embeddings (faces, D) -> the probability of each label, with the head and without it (None where there is no head)."""
        with torch.inference_mode():
            scores = self.head.scores(embeds, *self.asked)
            clip_scores = [None] * len(scores)
            if self._clip is not None:
                clip_scores = self._clip.scores(clip_embeds, *self.asked)
        return scores, clip_scores


def without_head(model: ExpCLIPModel) -> CLIPModel:
    """The CLIP that an Exp-CLIP was made from. It shares the modules, so it needs no memory."""
    with torch.device("meta"):
        clip = CLIPModel(model.config)
    for name, _ in list(clip.named_children()):
        setattr(clip, name, getattr(model, name))
    clip.logit_scale = model.logit_scale
    return clip.eval()
