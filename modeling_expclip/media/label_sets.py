"""Label sets whose labels are scored one by one, and what the labels of a call mean.

In: labels, or a set's name, and contrasts, as people give them. Out: `Words`, which turn scores into answers. The paper's own sets,
whose labels exclude each other, travel with the model in `prompts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..prompts import DEFAULT_PROMPTS, LABEL_SETS, check_contrasts, choose_labels

# Of the Facial Action Coding System (Ekman and Friesen, 1978) the numbers of the units that a still image can show, and what
# moves. Our prompts name two states of the same part of the face, for CLIP's text towers do not understand "not".
ACTION_UNITS: dict[str, tuple[str, str]] = {
    "AU1 inner brows raised": ("a face with raised inner eyebrows", "a face with relaxed eyebrows"),
    "AU2 outer brows raised": ("a face with raised outer eyebrows", "a face with relaxed eyebrows"),
    "AU4 brows lowered": ("a face with lowered, frowning eyebrows", "a face with relaxed eyebrows"),
    "AU5 upper lids raised": ("a face with wide open eyes", "a face with relaxed eyes"),
    "AU6 cheeks raised": ("a face with raised cheeks", "a face with relaxed cheeks"),
    "AU7 lids tightened": ("a face with narrowed, squinting eyes", "a face with relaxed eyes"),
    "AU9 nose wrinkled": ("a face with a wrinkled nose", "a face with a relaxed nose"),
    "AU10 upper lip raised": ("a face with a raised upper lip", "a face with relaxed lips"),
    "AU12 lip corners pulled up": ("a smiling mouth", "a straight mouth"),
    "AU14 lip corners tightened": ("a face with dimples beside tight lip corners", "a face with relaxed lip corners"),
    "AU15 lip corners pulled down": ("a mouth with lowered corners", "a straight mouth"),
    "AU17 chin raised": ("a face with a raised, wrinkled chin", "a face with a relaxed chin"),
    "AU18 lips puckered": ("a face with puckered lips", "a face with relaxed lips"),
    "AU20 lips stretched": ("a face with lips stretched sideways", "a face with relaxed lips"),
    "AU23 lips tightened": ("a face with tight, narrow lips", "a face with relaxed lips"),
    "AU24 lips pressed": ("a face with lips pressed together", "a face with relaxed lips"),
    "AU25 lips parted": ("a face with parted lips", "a face with closed lips"),
    "AU26 jaw dropped": ("a face with an open mouth and a dropped jaw", "a face with a closed mouth"),
    "AU27 mouth stretched": ("a face with a wide open, screaming mouth", "a face with a closed mouth"),
    "AU28 lips sucked in": ("a face with lips sucked in", "a face with relaxed lips"),
    # The mini takes "a face with closed eyes" for a calm one, eyes open or not.
    "AU43 eyes closed": ("shut eyes", "open eyes"),
}


def _looks(words: str) -> tuple[str, ...]:
    return tuple(f"someone who looks {word}" for word in words.split())


# The two axes of Russell's circumplex (1980), each from several pairs of opposite words.
VALENCE_AROUSAL: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "valence": (
        _looks("happy pleased delighted cheerful content"),
        _looks("unhappy annoyed disgusted gloomy miserable"),
    ),
    "arousal": (
        _looks("excited astonished alarmed tense alert"),
        _looks("calm bored sleepy relaxed tired"),
    ),
}

# The categories of LAION's EmoNet-Face (Schuhmann et al., 2025; CC BY 4.0), as data/guide.json of its repository names them.
EMONET40 = (
    "Amusement",
    "Elation",
    "Pleasure/Ecstasy",
    "Contentment",
    "Thankfulness/Gratitude",
    "Affection",
    "Infatuation",
    "Hope/Enthusiasm/Optimism",
    "Triumph",
    "Pride",
    "Interest",
    "Awe",
    "Astonishment/Surprise",
    "Concentration",
    "Contemplation",
    "Relief",
    "Longing",
    "Teasing",
    "Impatience and Irritability",
    "Sexual Lust",
    "Doubt",
    "Fear",
    "Distress",
    "Confusion",
    "Embarrassment",
    "Shame",
    "Disappointment",
    "Sadness",
    "Bitterness",
    "Contempt",
    "Disgust",
    "Anger",
    "Malevolence/Malice",
    "Sourness",
    "Pain",
    "Helplessness",
    "Fatigue/Exhaustion",
    "Emotional Numbness",
    "Intoxication/Altered States of Consciousness",
    "Jealousy & Envy",
)

# Labels, or labels with their contrasts.
WORD_SETS: dict[str, tuple[str, ...] | Mapping[str, Any]] = {
    "action_units": ACTION_UNITS,
    "valence_arousal": VALENCE_AROUSAL,
    "emonet40": EMONET40,
}
ALL_SETS = (*LABEL_SETS, *WORD_SETS)


def best_label(scores: Mapping[str, float], multi_label: bool) -> str | None:
    """The most probable; scored one by one, None where no label is more probable than what it is scored against."""
    best = max(scores, key=scores.__getitem__)
    return None if multi_label and scores[best] < 0.5 else best


@dataclass(frozen=True)
class Words:
    """The labels of a call and how they are scored.

    Attributes:
        labels: as typed, or of a set.
        prompts: a prompt set's name or templates.
        multi_label: each label is scored by itself.
        contrasts: label -> (positive, negative), see `check_contrasts`.
        axes: the labels are axes with two opposite ends, so their scores lie between -1 and 1.
    """

    labels: tuple[str, ...]
    prompts: str | Sequence[str] = DEFAULT_PROMPTS
    multi_label: bool = False
    contrasts: Mapping[str, Any] | None = None
    axes: bool = False

    @classmethod
    def choose(
        cls,
        labels: Iterable[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> Words:
        """As for `FaceAnalyzer.photo`. Raises ValueError for wrong labels, an unknown set or wrong contrasts."""
        if not isinstance(multi_label, bool):
            raise ValueError(f"multi_label must be True or False, got {multi_label!r}")
        if label_set is not None and label_set not in ALL_SETS:
            raise ValueError(f"unknown label set {label_set!r}; choose one of {', '.join(ALL_SETS)}")
        if label_set not in WORD_SETS or labels is not None:  # where both are given, choose_labels says so
            chosen = choose_labels(labels, label_set, contrasts)
        else:
            words = WORD_SETS[label_set]
            chosen = tuple(words)
            if isinstance(words, Mapping):
                contrasts = {**words, **(contrasts or {})}
        check_contrasts(contrasts, chosen)
        axes = label_set == "valence_arousal"
        return cls(chosen, prompts, multi_label or contrasts is not None, contrasts, axes)

    def answer(self, scores: Sequence[float]) -> dict[str, Any]:
        """`{"label", "scores"}` from the probabilities of a face; the label of axes, which are no labels, is None."""
        if self.axes:
            return {"label": None, "scores": {name: 2 * score - 1 for name, score in zip(self.labels, scores)}}
        named = dict(zip(self.labels, scores))
        return {"label": best_label(named, self.multi_label), "scores": named}
