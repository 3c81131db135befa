"""Recipes: a YAML file says which CLIP, which teacher, how faces are prepared and how the head is trained.

In: the file and ``--override key=value`` pairs. Out: a ``Recipe`` whose every field is checked, so
that a misspelt key is an error here and not a default somewhere else.
"""

from __future__ import annotations

import dataclasses
import reprlib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modeling_expclip.system.plain_yaml import read_yaml

RECIPES = Path(__file__).parent / "recipes"
Preprocessing = Literal["paper", "own"]

_MOST = 2**53  # of whole numbers: more cannot be counted in a float, as the Trainer does
_SHORT = reprlib.Repr()  # a value in a message stays short, whatever stands in the file
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


@dataclass(frozen=True)
class ClipRecipe:
    """The frozen CLIP. ``model``: Hub id, folder, or ``expclip-mini``. ``preprocessing``: ``paper``
    (squash, no normalisation) or ``own``, CLIP's own."""

    model: str
    revision: str | None = None
    preprocessing: Preprocessing = "own"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True)
class TeacherRecipe:
    """Where knowledge comes from; see ``teachers/registry.py`` for the kinds.

    ``instruction``: the prompt of the teacher, or a list to embed several in one pass. ``pooling``:
    ``all`` takes the mean over every token the teacher's encoder saw, ``image`` over the image's.
    ``layer``: which hidden state (kind ``image-text``). ``longest_edge``: pixels of the longer side of
    what it sees (kind ``image-text``; null for the model's own, which may cut a face into many tiles).
    ``column``: the column with captions or
    vectors (kinds ``captions`` and ``vectors``). ``storage_dtype``: of the vectors on disk, any kind's.
    """

    kind: str
    model: str | None = None
    revision: str | None = None
    instruction: str | list[str] = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device_map: str | None = None
    quantization: Literal["8bit", "4bit"] | None = None
    pooling: Literal["all", "image"] = "all"
    layer: int = -1
    longest_edge: int | None = None
    preprocessing: Preprocessing = "own"
    column: str | None = None
    storage_dtype: Literal["float32", "float16"] = "float32"

    @property
    def instructions(self) -> list[str]:
        return [self.instruction] if isinstance(self.instruction, str) else list(dict.fromkeys(self.instruction))

    @property
    def input_column(self) -> str:
        """The column of the data that the teacher reads."""
        return {"captions": self.column or "caption", "vectors": self.column or "embedding"}.get(self.kind, "image")


@dataclass(frozen=True)
class FacesRecipe:
    """How faces are prepared before any model sees them.

    ``crop``: ``none``; ``boxes`` to cut out the column ``box`` (x0, y0, x1, y1 in pixels), widened
    by ``margin`` of its sides; or ``detect`` to find the largest face and cut it out as a square,
    as ``expclip classify --faces`` does, ``margin`` on each side; ``yunet`` and ``mtcnn`` do so with
    this detector and no other. ``frames``: images taken from a clip of video. ``batch_size``:
    images a forward pass of the embedding pass.
    """

    crop: Literal["none", "boxes", "detect", "yunet", "mtcnn"] = "none"
    margin: float = 0.0
    frames: int = 1
    batch_size: int = 64


@dataclass(frozen=True)
class TrainingRecipe:
    """How the head is trained.

    Names and values are those of ``transformers.TrainingArguments`` where it has them.

    ``batch_size`` counts over all processes; it is also the number of candidates of the contrastive
    loss. ``epochs`` or ``max_steps``, or both: what ends first. ``center_teacher``: subtract the
    mean teacher vector of the data. ``head_init``: ``random``, or ``clip`` for a head that answers
    as CLIP alone does. ``wise_ft_alpha``: the share of the trained head in the final one, alpha *
    trained + (1 - alpha) * initial, as in Wortsman et al. (CVPR 2022): below 1 more of what CLIP
    knew is kept. ``logit_scale``: null for CLIP's own.
    """

    batch_size: int = 512
    epochs: int | None = None
    max_steps: int | None = None
    center_teacher: bool = False
    head_init: Literal["random", "clip"] = "random"
    wise_ft_alpha: float = 1.0
    logit_scale: float | None = None
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    seed: int = 0
    log_steps: int = 10
    save_steps: int = 100
    evaluate_steps: int = 50


@dataclass(frozen=True)
class Recipe:
    clip: ClipRecipe
    teacher: TeacherRecipe
    faces: FacesRecipe = field(default_factory=FacesRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: a YAML file, or the name of one of those in ``RECIPES``, such as ``mini``.
        overrides: ``section.key=value``, the value as YAML.

    Raises FileNotFoundError, or ValueError naming the key and what it may be.
    """
    ours = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    path = Path(path) if Path(path).is_file() else ours.get(str(path), Path(path))
    if not path.is_file():
        raise FileNotFoundError(f"no recipe {path}: give a YAML file, or one of {', '.join(ours)}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8-sig"))
        pairs = [(*override.partition("=")[:2], read_yaml(override.partition("=")[2])) for override in overrides]
    except ValueError as error:
        raise ValueError(f"{path} or an override is not YAML: {error}") from error
    for key, equals, value in pairs:
        section, dot, name = key.partition(".")
        if not isinstance(content, dict):
            break  # and is refused as a whole
        if not equals or not dot or not isinstance(content.get(section, {}), dict):
            raise ValueError(f"--override {key}{equals}: expected section.key=value, such as training.seed=1")
        content[section] = {**content.get(section, {}), name: value}
    recipe = _checked(Recipe, content, str(path))
    _check(recipe, path)
    return recipe


def renamed(training: dict[Any, Any]) -> dict[str, tuple[str, Any]]:
    """Of a ``training`` section, what version 0.1 called otherwise: old name -> new name and value."""
    new = {
        "keep": ("wise_ft_alpha", lambda keep: round(1 - keep, 12) if isinstance(keep, (int, float)) else keep),
        "start": ("head_init", lambda start: start),
        "centre": ("center_teacher", lambda centre: centre),
        "steps": ("max_steps", lambda steps: steps),
        "schedule": (
            "lr_scheduler_type",
            lambda schedule: (
                "constant_with_warmup" if schedule == "constant" and training.get("warmup_steps") else schedule
            ),
        ),
    }
    return {old: (name, value(training[old])) for old, (name, value) in new.items() if old in training}


def _check(recipe: Recipe, path: Path) -> None:
    training = recipe.training
    if training.epochs is None and training.max_steps is None:
        raise ValueError(f"{path}: training needs epochs or max_steps")
    minimum = {
        "faces.frames": (recipe.faces.frames, 1),
        "faces.batch_size": (recipe.faces.batch_size, 1),
        "faces.margin": (recipe.faces.margin, 0),
        "teacher.longest_edge": (recipe.teacher.longest_edge, 1),
        "training.batch_size": (training.batch_size, 2),
        "training.epochs": (training.epochs, 1),
        "training.max_steps": (training.max_steps, 1),
        "training.learning_rate": (training.learning_rate, 0),
        "training.log_steps": (training.log_steps, 1),
        "training.save_steps": (training.save_steps, 1),
        "training.weight_decay": (training.weight_decay, 0),
        "training.momentum": (training.momentum, 0),
        "training.logit_scale": (training.logit_scale, 1e-6),
        "training.evaluate_steps": (training.evaluate_steps, 1),
        "training.warmup_steps": (training.warmup_steps, 0),
        "training.seed": (training.seed, 0),
        "training.wise_ft_alpha": (training.wise_ft_alpha, 0),
    }
    for name, (value, bound) in minimum.items():
        if value is not None and not bound <= value < (_MOST if isinstance(value, int) else float("inf")):
            raise ValueError(f"{path}: {name} is {_shown(value)}; it must be at least {bound}, and finite")
    for name, value, bound in (("momentum", training.momentum, 1), ("seed", training.seed, 2**32)):
        if value >= bound:
            raise ValueError(f"{path}: training.{name} is {value}; it must be below {bound}")
    if abs(recipe.teacher.layer) >= _MOST:
        raise ValueError(f"{path}: teacher.layer is {_shown(recipe.teacher.layer)}; no model has as many layers")
    if training.save_steps % training.log_steps:
        raise ValueError(
            f"{path}: training.save_steps ({training.save_steps}) must be a multiple of log_steps ({training.log_steps}), "
            "or a resumed run would log other means"
        )
    alpha = training.wise_ft_alpha
    if not 0 < alpha <= 1 or (alpha < 1 and training.head_init == "random"):
        raise ValueError(
            f"{path}: training.wise_ft_alpha is {alpha} with head_init {training.head_init!r}; it must be above 0 and at most 1, and below 1 "
            "it needs head_init: clip, because there is nothing in a random head to keep"
        )
    if training.warmup_steps and training.lr_scheduler_type == "constant":
        raise ValueError(
            f"{path}: training.warmup_steps is {training.warmup_steps} and lr_scheduler_type 'constant' has no warm-up; "
            "choose constant_with_warmup"
        )
    if not recipe.teacher.instructions:
        raise ValueError(f"{path}: teacher.instruction is an empty list")


def _shown(value: Any) -> str:
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write out whole numbers of many thousand digits
        return f"a {type(value).__name__} too long to show"


# Checked by hand: huggingface_hub's `strict` lets frozen dataclasses pass unchecked, and pydantic's
# errors, of several lines, name neither the keys that exist nor YAML's readings of 1e-3.
def _checked(kind: type, content: Any, where: str) -> Any:
    """Builds the dataclass ``kind`` from a mapping, refusing unknown and missing keys and values of
    another type."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a mapping, got {_shown(content)}")
    types_of = typing.get_type_hints(kind)
    for old, (new, value) in renamed(content).items() if kind is TrainingRecipe else ():
        raise ValueError(f"{where}: {old} of version 0.1 is now {new}; write {new}: {_shown(value)}")
    strangers = set(content) - set(types_of)
    unknown = sorted(name if isinstance(name, str) and name.isprintable() else _shown(name) for name in strangers)
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(types_of)}")
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in content and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")
    values = {}
    for name, value in content.items():
        expected, place = types_of[name], f"{where}: {name}"
        values[name] = (
            _checked(expected, value, place) if dataclasses.is_dataclass(expected) else _typed(expected, value, place)
        )
    return kind(**values)


def _typed(expected: Any, value: Any, where: str) -> Any:
    # typing.Literal makes unions of the older kind.
    union = typing.get_origin(expected) in (types.UnionType, typing.Union)
    options = typing.get_args(expected) if union else (expected,)
    for option in options:
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return value
        elif option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                continue  # a whole number beyond all floats
        elif typing.get_origin(option) is list:
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return value
        elif option is type(None) and value is None:
            return None
        elif isinstance(option, type) and isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    names = [
        " | ".join(map(repr, typing.get_args(option)))
        if typing.get_origin(option) is Literal
        else getattr(option, "__name__", str(option))
        for option in options
    ]
    hint = " (YAML reads 1e-3 as text; write 1.0e-3)" if float in options and isinstance(value, str) else ""
    raise ValueError(f"{where} is {_shown(value)}; expected {' | '.join(names)}{hint}")
