"""The kinds of teachers, by the name that a recipe's ``teacher.kind`` says."""

from __future__ import annotations

from dataclasses import fields

import torch

from ..recipe import TeacherRecipe
from .base import Teacher
from .blip import BlipTeacher
from .captions import CaptionTeacher
from .describer import DescriberTeacher
from .image_text import ImageTextTeacher
from .vectors import VectorTeacher

_STORAGE = {"storage_dtype"}  # what the cache reads, and no teacher

TEACHERS = {
    "blip2": BlipTeacher,
    "instructblip": BlipTeacher,
    "image-text": ImageTextTeacher,
    "captions": CaptionTeacher,
    "vectors": VectorTeacher,
    "describer": DescriberTeacher,
}


def load_teacher(spec: TeacherRecipe, device: torch.device | None = None) -> Teacher:
    """Loads the teacher onto ``device`` (default: CPU), or where its ``device_map`` says.

    Raises ValueError for what ``check`` refuses, a model of the wrong type, or weights that are
    missing or do not fit; OSError where there are no weights; ImportError without an optional
    package.
    """
    check(spec)
    return TEACHERS[spec.kind](spec, device or torch.device("cpu"))


def teacher_origin(spec: TeacherRecipe) -> str:
    """Identifies the weights behind a teacher's vectors. Raises OSError where there are none."""
    return TEACHERS[spec.kind].origin(spec)


def check(spec: TeacherRecipe) -> None:
    """Raises ValueError for a kind that does not exist, a model that is missing, or an option the
    kind does not read."""
    if spec.kind not in TEACHERS:
        raise ValueError(f"unknown kind {spec.kind!r} of a teacher; choose one of {', '.join(TEACHERS)}")
    reads = TEACHERS[spec.kind].reads | _STORAGE
    for field in fields(spec)[1:]:
        value = getattr(spec, field.name)
        if value != field.default and field.name not in reads:
            readers = ", ".join(kind for kind, other in TEACHERS.items() if field.name in other.reads)
            raise ValueError(
                f"teacher kind {spec.kind!r} does not read {field.name} (got {value!r}): "
                f"leave it out, or choose one of the kinds that do: {readers}"
            )
    if "model" in reads and not spec.model:
        raise ValueError(f"teacher kind {spec.kind!r} needs a model: a folder or a Hub id such as 'owner/name'")
