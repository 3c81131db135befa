"""Captions for the mini: what is true of a picture (its factors) in many wordings.

A caption mentions some of a picture's factors: the expression (from the label) and how the picture was taken (from the
augmentation). Because we know which factors it mentions, we know of every other picture whether the caption is true.
Words derived from ``HELD_OUT_STEMS`` never occur in a caption, so that tests can ask for words no image was ever paired with.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from modeling_expclip.prompts import LABEL_SETS

EXPRESSIONS = LABEL_SETS["rafdb"]

# A picture's further factors; the first value is the ordinary one.
FACTORS = {
    "light": ("normal", "dark", "bright"),
    "tilt": ("upright", "left", "right"),
    "zoom": ("normal", "close", "far"),
    "focus": ("sharp", "blurred"),
    "grain": ("clean", "grainy"),
}
NOT_MENTIONED = -1

HELD_OUT_STEMS = ("joy", "smil", "sorrow", "furious", "fury", "frown", "astonish", "scare", "revolt", "expressionless")

NOUNS = {
    "happiness": ("happiness", "delight", "cheerfulness", "amusement", "pleasure", "glee", "contentment", "laughter"),
    "sadness": ("sadness", "grief", "unhappiness", "misery", "gloom", "melancholy", "dejection", "despair"),
    "neutral": ("neutral", "calm", "composure", "no particular emotion", "indifference", "neutrality", "stillness"),
    "anger": ("anger", "rage", "irritation", "hostility", "annoyance", "outrage", "aggression", "wrath"),
    "surprise": ("surprise", "amazement", "wonder", "shock", "disbelief", "startlement"),
    "disgust": ("disgust", "repulsion", "distaste", "nausea", "aversion", "loathing"),
    "fear": ("fear", "terror", "fright", "panic", "dread", "horror", "alarm"),
}
ADJECTIVES = {
    "happiness": ("happy", "cheerful", "delighted", "amused", "pleased", "merry", "contented", "gleeful", "laughing"),
    "sadness": ("sad", "unhappy", "tearful", "miserable", "gloomy", "melancholic", "dejected", "crying", "depressed"),
    "neutral": ("neutral", "calm", "composed", "impassive", "blank", "relaxed", "serene", "unemotional"),
    "anger": ("angry", "enraged", "irritated", "hostile", "mad", "annoyed", "outraged", "aggressive", "glaring"),
    "surprise": ("surprised", "amazed", "shocked", "startled", "stunned", "wide-eyed", "taken aback"),
    "disgust": ("disgusted", "repulsed", "sickened", "nauseated", "grossed out", "repelled"),
    "fear": ("fearful", "afraid", "frightened", "terrified", "panicked", "alarmed", "horrified"),
}
ACTIONS = {
    "happiness": (
        "raised corners of the mouth and lifted cheeks",
        "a broad grin that shows the teeth",
        "narrowed eyes above lifted cheeks",
        "an open laughing mouth",
        "lips stretched wide and wrinkles beside the eyes",
    ),
    "sadness": (
        "the corners of the lips pulled down",
        "raised inner eyebrows and drooping eyelids",
        "tears in the eyes",
        "a trembling lower lip and a lowered gaze",
        "slack cheeks and downcast eyes",
    ),
    "neutral": (
        "a closed mouth and relaxed muscles",
        "level eyebrows and resting lips",
        "a steady look and no movement",
        "an even, resting face",
        "relaxed eyelids and a straight mouth",
    ),
    "anger": (
        "eyebrows drawn together and lowered",
        "tightly pressed lips and a hard stare",
        "bared teeth and a shouting mouth",
        "flared nostrils and glaring eyes",
        "a clenched jaw and a furrowed brow",
    ),
    "surprise": (
        "raised eyebrows and a dropped jaw",
        "eyes wide open and a round open mouth",
        "arched brows and parted lips",
        "upper eyelids lifted high",
        "a gaping mouth and lifted eyebrows",
    ),
    "disgust": (
        "a wrinkled nose and a raised upper lip",
        "the tongue pushed out and narrowed eyes",
        "a curled lip and a crinkled nose",
        "cheeks pushed up around a wrinkled nose",
        "a grimace of the mouth with squinting eyes",
    ),
    "fear": (
        "raised and drawn together eyebrows above wide eyes",
        "tense lips stretched back and staring eyes",
        "a mouth pulled open in a scream and hands near the face",
        "wide staring eyes and a tense mouth",
        "lifted upper eyelids and lips stretched sideways",
    ),
}
NOUN_TEMPLATES = (
    "{}",
    "a look of {}",
    "a face full of {}",
    "a portrait that shows {}",
    "an expression of {}",
    "{} on a person's face",
    "a person who shows {}",
    "the face of someone feeling {}",
)
ADJECTIVE_TEMPLATES = (
    "{}",
    "a {} person",
    "a {} face",
    "someone who looks {}",
    "this person seems {}",
    "a photo of a {} face",
    "a {} expression",
    "a picture of a person who is {}",
)
ACTION_TEMPLATES = ("{}", "a face with {}", "a person with {}", "a portrait of someone with {}", "there is {}")
PLAIN = ("a photo of a face", "a portrait of someone", "a person", "a face", "a picture of a person", "somebody's face")

FACTOR_PHRASES = {
    ("light", "dark"): ("in a dark photo", "dimly lit", "underexposed", "in the shade"),
    ("light", "bright"): ("in a bright photo", "brightly lit", "overexposed", "in strong light"),
    ("light", "normal"): ("in even light", "normally exposed"),
    ("tilt", "left"): ("tilted to the left", "leaning left", "rotated to the left"),
    ("tilt", "right"): ("tilted to the right", "leaning right", "rotated to the right"),
    ("tilt", "upright"): ("upright", "held straight"),
    ("zoom", "close"): ("seen up close", "in a close-up", "filling the whole frame"),
    ("zoom", "far"): ("seen from far away", "small in the frame", "at a distance"),
    ("zoom", "normal"): ("at medium distance",),
    ("focus", "blurred"): ("out of focus", "in a blurry picture", "blurred"),
    ("focus", "sharp"): ("in focus", "in a sharp picture"),
    ("grain", "grainy"): ("in a grainy picture", "with a lot of noise", "on coarse film"),
    ("grain", "clean"): ("in a clean picture", "without noise"),
}


@dataclass(frozen=True)
class Caption:
    """``text`` and what it mentions: an index into EXPRESSIONS and one into each of FACTORS, or NOT_MENTIONED."""

    text: str
    mentions: tuple[int, ...]


def expression_phrases(expression: str) -> list[str]:
    """Every wording of one expression."""
    groups = ((NOUN_TEMPLATES, NOUNS), (ADJECTIVE_TEMPLATES, ADJECTIVES), (ACTION_TEMPLATES, ACTIONS))
    return [
        template.format(word) for templates, words in groups for template in templates for word in words[expression]
    ]


def caption_pool(size: int, seed: int, *, expression_share: float = 0.6, factor_share: float = 0.35) -> list[Caption]:
    """``size`` random captions. A share of ``expression_share`` speaks of the expression; each factor is mentioned with
    probability ``factor_share``."""
    rng = random.Random(seed)
    phrases = [expression_phrases(expression) for expression in EXPRESSIONS]
    pool = []
    while len(pool) < size:
        expression = rng.randrange(len(EXPRESSIONS)) if rng.random() < expression_share else NOT_MENTIONED
        parts = [rng.choice(PLAIN) if expression == NOT_MENTIONED else rng.choice(phrases[expression])]
        mentions = [expression]
        for factor, values in FACTORS.items():
            value = rng.randrange(len(values)) if rng.random() < factor_share else NOT_MENTIONED
            mentions.append(value)
            if value != NOT_MENTIONED:
                parts.append(rng.choice(FACTOR_PHRASES[factor, values[value]]))
        tail = parts[1:]
        rng.shuffle(tail)
        pool.append(Caption(", ".join(parts[:1] + tail), tuple(mentions)))
    return pool
