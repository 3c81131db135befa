"""Pictures and videos in, faces and the probability of each label out, with the projection head and without it. No page here."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPModel

from modeling_expclip import MINI, ExpCLIPModel, FacialExpressionPipeline
from modeling_expclip.checkpoint import load_checkpoint
from modeling_expclip.faces import FaceDetector

try:
    from spaces import GPU as on_gpu  # ZeroGPU: a GPU for the length of a call
except ImportError:

    def on_gpu(function: Callable) -> Callable:
        return function


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class FaceReading:
    """One face. ``box`` is None where the whole picture was read; ``clip_scores`` are those without the head, None where the model has none."""

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
        self._parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
        self._pipeline = FacialExpressionPipeline(model=model, **self._parts)
        self._head, self._clip, self.no_head = None, None, ""
        if isinstance(model, ExpCLIPModel):
            self._head = model.projection_head
            self._clip = FacialExpressionPipeline(model=without_head(model), **self._parts)
        else:
            self.no_head = (
                f"{self.name} is a plain CLIP: there is no projection head to leave out, so nothing to compare."
            )
        self._detector, self.no_detector = None, ""
        try:
            self._detector = FaceDetector()
        except (ImportError, OSError) as error:
            logging.getLogger(__name__).warning("%s", error)
            self.no_detector = "No face detector is installed here, so the whole picture is read as one face."
        # The pipelines keep a table of prompts, and torch uses all cores for one call anyway.
        self._lock = threading.Lock()

    @on_gpu
    def read(self, picture: Image.Image, labels: Sequence[str], prompts: str) -> list[FaceReading]:
        """The faces of an upright RGB picture, the largest first; where none is found, the whole picture as one face."""
        faces = self._detector(picture) if self._detector else []
        found = (lambda _: faces) if faces else False
        with self._lock, torch.inference_mode():
            # The head comes last, so one pass of the image tower serves both.
            [(_, embedded)] = (self._clip or self._pipeline).embed([(None, picture)], found)
            if embedded.error is not None:
                raise embedded.error
            embeds = embedded.embeds if self._head is None else self._head(embedded.embeds.to(self._head.weight)).cpu()
            scores = self._pipeline.scores(embeds, tuple(labels), prompts)
            clip_scores = [None] * len(scores)
            if self._clip is not None:
                clip_scores = self._clip.scores(embedded.embeds, tuple(labels), prompts)
        boxes = [face.box for face in faces] or [None]
        return [FaceReading(*parts) for parts in zip(boxes, scores, clip_scores)]

    @on_gpu
    def timeline(self, video: Path, labels: Sequence[str], prompts: str) -> Iterator[dict[str, Any]]:
        """The entries of ``FacialExpressionPipeline.timeline``, as they are found; at the end ValueError for a damaged video."""
        # A pipeline of its own: a video takes long, and must not hold the lock.
        pipeline = FacialExpressionPipeline(model=self._pipeline.model, **self._parts)
        faces = self._detector is not None
        yield from pipeline.timeline(video, candidate_labels=labels, prompts=prompts, faces=faces)


def without_head(model: ExpCLIPModel) -> CLIPModel:
    """The CLIP that an Exp-CLIP was made from. It shares the modules, so it needs no memory."""
    with torch.device("meta"):
        clip = CLIPModel(model.config)
    for name, _ in list(clip.named_children()):
        setattr(clip, name, getattr(model, name))
    clip.logit_scale = model.logit_scale
    return clip.eval()
