"""The mini's describer as a teacher, which needs no network."""

from __future__ import annotations

import functools

import torch
from PIL import Image

from ..mini import describer
from ..models.sources import MINILM, origin_of
from ..recipe import TeacherRecipe
from .base import Teacher
from .captions import CaptionTeacher


class DescriberTeacher(Teacher):
    """The mini's describer writes sentences about a face, MiniLM reads them: the mean of their
    vectors. Stands in for an LLM where there is no network."""

    reads = frozenset({"instruction"})

    def __init__(self, spec: TeacherRecipe, device: torch.device) -> None:
        super().__init__(spec, device)
        self.describe = describer.Describer()
        encoder = CaptionTeacher(TeacherRecipe("captions", MINILM), device)
        self.vector = functools.cache(lambda sentence: encoder.embed([sentence], "")[0])  # it knows some hundred

    @classmethod
    def origin(cls, spec: TeacherRecipe) -> str:
        return f"{describer.origin()}, {origin_of(MINILM)}"

    def embed(self, items: list[Image.Image], instruction: str) -> torch.Tensor:
        faces = self.describe(items, instruction)
        return torch.stack([torch.stack([self.vector(sentence) for sentence in face]).mean(0) for face in faces])
