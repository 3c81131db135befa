"""Labels and the sentences CLIP reads for them.

In: a label set's name or a user's own labels, and a prompt set's name or own templates. Out: the prompts of every
label. The label sets and prompt sets are those of the Exp-CLIP paper (WACV 2025), string for string.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ORDER = (
    "happiness",
    "sadness",
    "neutral",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
)

# The paper's data sets share one list of classes, cut at 7, 8 or 11; annotation lists index into it.
LABEL_SETS: dict[str, tuple[str, ...]] = {
    "rafdb": _ORDER[:7],
    "affectnet7": _ORDER[:7],
    "affectnet8": _ORDER[:8],
    "ferplus": _ORDER[:8],
    "dfew": _ORDER[:7],
    "ferv39k": _ORDER[:7],
    "mafw": _ORDER,
    "afew": _ORDER[:7],
}

# What data sets call these classes. For annotations only: a user's own label is never rewritten.
LABEL_ALIASES: dict[str, str] = {
    "happy": "happiness",
    "joy": "happiness",
    "joyful": "happiness",
    "happily": "happiness",
    "sad": "sadness",
    "unhappy": "sadness",
    "neutrality": "neutral",
    "calm": "neutral",
    "angry": "anger",
    "mad": "anger",
    "surprised": "surprise",
    "surprising": "surprise",
    "suprise": "surprise",  # so spelled in the folders of several data sets
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "contemptuous": "contempt",
    "anxious": "anxiety",
    "helpless": "helplessness",
    "disappointed": "disappointment",
}

_ADJECTIVES = {
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "surprise": "surprised",
    "disgust": "disgusted",
    "fear": "fearful",
    "contempt": "contemptuous",
    "anxiety": "anxious",
    "helplessness": "helpless",
    "disappointment": "disappointed",
}

_ENSEMBLE = (
    "an expression of {noun}.",
    "a photo of a face with an expression of {noun}.",
    "a photo radiating {noun} in a person.",
    "a photo showing someone immersed in {noun}.",
    "a photo capturing {noun} within an individual.",
    "a photo of a face displaying {noun}.",
    "a photo of a person embodying {noun}.",
    "a good photo capturing someone's {noun}.",
    "a cropped photo emphasizing a face expressing {noun}.",
    "a clean photo showcasing a person's {adjective} expression.",
)

PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "class_name": ("{noun}.",),
    "expression": (_ENSEMBLE[0],),
    "photo": (_ENSEMBLE[1],),
    "ensemble5": _ENSEMBLE[:5],
    "ensemble10": _ENSEMBLE,
}

# Where the paper's ensembles leave their own pattern: class -> position in the ensemble -> template.
_EXCEPTIONS: dict[str, dict[int, str]] = {
    "happiness": {
        5: "a photo of a face exuding {noun}.",
        9: "a clean photo showcasing a person's {noun}.",
    },
    "sadness": {
        1: _ENSEMBLE[8],
        2: "a photo exuding {noun} in a person.",
        8: _ENSEMBLE[1],
        9: "a clean photo showcasing a person's {noun}.",
    },
    "neutral": {7: "a good photo capturing someone's {noun} state."},
}

# What a label is scored against when it is scored by itself: chosen by tests/benchmarks/multi_label.py.
REFERENCES = LABEL_SETS["ferplus"]

DEFAULT_LABEL_SET = "rafdb"
DEFAULT_PROMPTS = "ensemble10"

_SLOT = re.compile(r"\{([^{}]*)\}")
_SLOTS = {"", "noun", "adjective"}


def label_set(name: str) -> tuple[str, ...]:
    """The classes of one of the paper's benchmarks, in the paper's order."""
    if name not in LABEL_SETS:
        raise ValueError(f"unknown label set {name!r}; choose one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def choose_labels(
    labels: Iterable[str] | None = None, name: str | None = None, contrasts: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Own labels, or those of the label set called ``name``, or those with contrasts, or else the seven basic expressions.

    Raises ValueError where both own labels and a label set are given.
    """
    if labels is None:
        if name is None and isinstance(contrasts, Mapping) and contrasts:
            return tuple(check_labels(contrasts))
        return label_set(DEFAULT_LABEL_SET if name is None else name)
    if name is not None:
        raise ValueError(f"own labels and the label set {name!r} were given; pass one of them")
    return tuple(check_labels(labels))


def canonical_label(label: str) -> str:
    """Maps a data set's spelling of a class ("Happy", "angry") to the paper's ("happiness", "anger").

    Raises ValueError for a name that is neither one of the paper's eleven classes nor a known alias.
    """
    name = label.strip().lower()
    name = LABEL_ALIASES.get(name, name)
    if name not in _ORDER:
        raise ValueError(f"unknown label {label!r}; known are {', '.join(_ORDER)} and the names in LABEL_ALIASES")
    return name


def check_labels(labels: Iterable[str]) -> list[str]:
    """Returns the labels as typed, or raises ValueError for an empty list, an empty label or a repeated one.

    Labels that differ in case or in spaces only are different labels.
    """
    if isinstance(labels, str):
        listed = [label.strip() for label in labels.split(",")]
        raise ValueError(f"labels must be a list of strings, got the string {labels!r}; write {listed!r}")
    if not isinstance(labels, Iterable):
        raise ValueError(f"labels must be a list of strings, got {labels!r}")
    labels = list(labels)
    if not labels:
        raise ValueError("no labels given; pass at least one, such as ['happiness', 'sadness']")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"a label must be a non-empty string, got {label!r}")
        _check_text("label", label)
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise ValueError(f"labels must differ from each other; given more than once: {', '.join(repeated)}")
    return labels


def check_prompts(prompts: str | Sequence[str]) -> str | tuple[str, ...]:
    """Returns a prompt set's name, or own templates as a tuple; raises ValueError for an unknown name or a template that is none."""
    if isinstance(prompts, str):
        if prompts not in PROMPT_SETS:
            choices = ", ".join(PROMPT_SETS)
            raise ValueError(f"unknown prompt set {prompts!r}; choose one of {choices}, or pass a list of templates")
        return prompts
    if not isinstance(prompts, Iterable):
        raise ValueError(f"prompts must be the name of a prompt set or a list of templates, got {prompts!r}")
    templates = tuple(prompts)
    if not templates:
        raise ValueError("no templates given; pass at least one, such as ['a photo of a {} face']")
    for template in templates:
        if not isinstance(template, str):
            raise ValueError(f"a template must be a string such as 'a photo of a {{}} face', got {template!r}")
        _check_text("template", template)
        slots = _SLOT.findall(template)
        if not slots or not {*slots} <= _SLOTS:
            wrong = sorted(f"{{{slot}}}" for slot in {*slots} - _SLOTS)
            problem = f"knows no {', '.join(wrong)}" if wrong else "has no place for the label"
            raise ValueError(f"template {template!r} {problem}; write {{}}, {{noun}} or {{adjective}} in it")
    return templates


def check_contrasts(
    contrasts: Mapping[str, Any] | None, labels: Iterable[str]
) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    """The contrasts (label -> positive and negative, each a prompt or a list of prompts) as (label, positives, negatives).

    Raises ValueError for what is no such pair, and for a label that is not among ``labels``.
    """
    if contrasts is None:
        return ()
    if not isinstance(contrasts, Mapping) or not contrasts:
        raise ValueError(
            f"contrasts must map labels to pairs, as in {{'smiling': ('a smiling face', 'a serious face')}}, got {contrasts!r}"
        )
    if others := [str(label) for label in contrasts if label not in (labels := tuple(labels))]:
        raise ValueError(f"contrasts are given for {', '.join(others)}, which is not among the labels")
    checked = []
    for label, pair in contrasts.items():
        pair = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else [pair]
        sides = [
            (side,) if isinstance(side, str) else tuple(side) if isinstance(side, (list, tuple)) else ()
            for side in pair
        ]
        texts = [text for side in sides for text in side]
        strings = all(sides) and all(isinstance(text, str) and text.strip() for text in texts)
        if len(sides) != 2 or not strings or {*sides[0]} & {*sides[1]}:
            raise ValueError(
                f"the contrast of {label!r} must be a pair (positive, negative), each a prompt or a list of prompts, no prompt on "
                f"both sides; got {pair!r}"
            )
        for text in texts:
            _check_text("prompt", text)
        checked.append((label, sides[0], sides[1]))
    return tuple(checked)


def build_prompts(labels: Iterable[str], prompts: str | Sequence[str] = DEFAULT_PROMPTS) -> list[list[str]]:
    """The prompts of each label: one list a label, all of the same length.

    Args:
        labels: the paper's class names or any other words; a word outside the paper's list is its own noun and adjective.
        prompts: the name of a prompt set (``PROMPT_SETS``), or own templates holding ``{}``, ``{noun}`` or ``{adjective}``.
    """
    prompts = check_prompts(prompts)
    templates, exceptions = prompts, {}
    if isinstance(prompts, str):
        templates, exceptions = PROMPT_SETS[prompts], _EXCEPTIONS if prompts.startswith("ensemble") else {}
    return [
        [_fill(exceptions.get(label, {}).get(i, template), label) for i, template in enumerate(templates)]
        for label in check_labels(labels)
    ]


def _fill(template: str, label: str) -> str:
    words = {"": label, "noun": label, "adjective": _ADJECTIVES.get(label, label)}
    return _SLOT.sub(lambda slot: words[slot[1]], template)  # in one pass: a label's own braces are text


def _check_text(kind: str, text: str) -> None:
    """Raises ValueError for what a shell or a file in another encoding leaves behind: no tokenizer and no file takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{kind} {text!r} is not valid Unicode: it holds a lone surrogate; read or type it as UTF-8"
        ) from error
