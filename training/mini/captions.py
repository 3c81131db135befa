"""Captions for the mini: what is said of a face and of how its picture was taken, in many wordings.

In: the lexicon's words with the apparent expressions they speak of, and the picture's factors (light, tilt, zoom, focus, grain). Out:
captions, each a text, the distribution over ``CATEGORIES`` that it speaks of, and the factors that it mentions. How far a caption is
true of a face is its ``agreement`` with the votes on that face. Words derived from ``HELD_OUT_STEMS`` never occur in a caption, so that
tests can ask for words no image was ever paired with.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from modeling_expclip.prompts import LABEL_SETS, build_prompts

from .lexicon import CATEGORIES, LEXICON, Phrase, distribution

EXPRESSIONS = LABEL_SETS["rafdb"]  # the seven of the paper's static benchmarks: CATEGORIES without contempt

# A picture's further factors; the first value is the ordinary one.
FACTORS = {
    "light": ("normal", "dark", "bright"),
    "tilt": ("upright", "left", "right"),
    "zoom": ("normal", "close", "far"),
    "focus": ("sharp", "blurred"),
    "grain": ("clean", "grainy"),
}
NOT_MENTIONED = -1

# The first line: of the seven unseen class words, and of smiling and frowning. The others: of lexicon.HELD_OUT.
HELD_OUT_STEMS = (
    *("joy", "smil", "sorrow", "furious", "fury", "frown", "astonish", "scare", "revolt", "expressionless"),
    *("jubila", "chuff", "tickled", "cloud nine", "upbeat", "joll", "on air", "ecsta"),
    *("heartbr", "glum", "forlorn", "mourn", "crestfall", "feeling blue", "close to tears", "weep"),
    *("deadpan", "stoic", "straight-face", "unfazed", "even-tempered", "cucumber", "placid", "matter-of-fact"),
    *("livid", "seeth", "irate", "infuriat", "collar", "seeing red", "incens", "ticked off"),
    *("gobsmack", "flabbergast", "thunderstruck", "stupef", "lost for words", "blown away", "off guard", "dumbfound"),
    *("queas", "squeam", "yuck", "to the stomach", "repel", "gagg", "put off", "turned off"),
    *("petrif", "spook", "jitter", "as a sheet", "like a leaf", "cower", "on edge", "daunt"),
    *("scorn", "haught", "condescend", "snoot", "deris", "holier", "looking down on", "dismiss"),
)

# How phrases of each kind (lexicon.KINDS) are used in captions.
TEMPLATES = {
    "adjective": (
        *("a {} person", "a {} face", "someone who looks {}", "this person seems {}", "a photo of a {} face"),
        *(
            "a {} expression",
            "a picture of a person who is {}",
            "a {} man",
            "a {} woman",
            "she looks {}",
            "he looks {}",
        ),
    ),
    "noun": (
        *("a look of {}", "a face full of {}", "a portrait that shows {}", "an expression of {}"),
        *("{} on a person's face", "a person who shows {}", "the face of someone feeling {}"),
    ),
    "doing": ("someone {}", "a person {}", "a person who is {}", "a photo of someone {}", "a {} face"),
    "idiom": (
        *("someone who is {}", "a person who is {}", "someone who looks {}", "a photo of a person {}", "a person {}"),
        *("this person is {}", "this person seems {}"),
    ),
    "action": ("a face with {}", "a person with {}", "a portrait of someone with {}", "there is {}", "a photo of {}"),
}
PLAIN = ("a photo of a face", "a portrait of someone", "a person", "a face", "a picture of a person", "somebody's face")

# Degrees of one adjective: how much of what it speaks of is left, the rest being neutral.
DEGREES = {
    ("slightly {}", "a little {}", "a bit {}", "mildly {}", "only slightly {}", "a touch {}"): 0.6,
    ("somewhat {}", "rather {}", "fairly {}", "quite {}"): 0.8,
    ("very {}", "extremely {}", "really {}", "clearly {}", "utterly {}"): 1.0,
}
# Blends of two: the share of the first.
BLENDS = {
    ("{} with a hint of something {}", "almost only {}, barely {}", "{} and very slightly {}"): 0.85,
    ("mostly {}, a little {}", "{} and a bit {}", "mainly {} but also {}", "more {} than {}", "{}, slightly {}"): 0.7,
    (
        "{} and {}",
        "between {} and {}",
        "{} or {}",
        "both {} and {}",
        "half {}, half {}",
        "somewhere between {} and {}",
    ): 0.5,
}
NEUTRAL = distribution("neutral 100")
# The mean votes on the faces of FER+'s training split of which no category has more than four of ten.
AMBIGUOUS = distribution("happiness 8 sadness 19 neutral 26 anger 15 surprise 12 disgust 6 fear 8 contempt 6")
AMBIGUOUS_PHRASES = (
    *("hard to read", "an expression that is hard to read", "a face that could mean several things", "mixed feelings"),
    *("an ambiguous expression", "a mixed expression", "it is unclear what this face shows", "an unclear expression"),
    *("people disagree about this face", "hard to say what this expression is", "a puzzling mix of expressions"),
)

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
    """``text``; the distribution over ``CATEGORIES`` that it speaks of, or None; an index into each of FACTORS, or NOT_MENTIONED."""

    text: str
    expression: tuple[float, ...] | None
    factors: tuple[int, ...]


def agreement(captions: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """How true each caption is of each face: distributions (C, 8) and vote shares (F, 8) -> (F, C) in 0..1.

    The overlap of the two, the sum of the smaller share of each category: the largest part of the taggers who could be paired one to
    one with what the caption says (one minus the total variation distance). It is 1 only where both are equal and 0 where they have
    nothing in common, and one tagger of ten who votes otherwise moves it by at most a tenth. The Jensen-Shannon distance
    would call "happy" only 0.77 true of a face that nine of ten call happy: as harsh as the noise of ten votes is large. Shares that sum
    to less than one, where taggers voted "unknown", agree less with every caption.
    """
    difference = torch.cdist(shares, captions, p=1)  # (F, C)
    return ((shares.sum(-1, keepdim=True) + captions.sum(-1) - difference) / 2).clamp(0, 1)


def caption_pool(
    size: int, seed: int, *, expression_share: float = 0.75, factors_share: float = 0.5, factor_share: float = 0.35
) -> list[Caption]:
    """``size`` random captions. A share of ``expression_share`` speaks of the expression, all eight categories equally often; a share of
    ``factors_share``, and every caption that does not speak of the expression, may mention factors, each with probability ``factor_share``."""
    rng = random.Random(seed)
    pool = []
    while len(pool) < size:
        if rng.random() < expression_share:
            text, expression = _about_expression(rng)
            may_mention = rng.random() < factors_share
        else:
            text, expression, may_mention = rng.choice(PLAIN), None, True
        mentioned, parts = [], []
        for factor, values in FACTORS.items():
            value = rng.randrange(len(values)) if may_mention and rng.random() < factor_share else NOT_MENTIONED
            mentioned.append(value)
            if value != NOT_MENTIONED:
                parts.append(rng.choice(FACTOR_PHRASES[factor, values[value]]))
        rng.shuffle(parts)
        pool.append(Caption(", ".join([text, *parts]), expression, tuple(mentioned)))
    return pool


_MEANINGS = {phrase.text: phrase.expression for phrase in LEXICON}  # what it says of "a little sad" holds
_PHRASES = {category: [phrase for phrase in LEXICON if phrase.category == category] for category in CATEGORIES}
_ADJECTIVES = {
    # "a little very happy" is nobody's caption: one word each.
    category: [phrase for phrase in phrases if phrase.kind == "adjective" and " " not in phrase.text]
    for category, phrases in _PHRASES.items()
}


def _about_expression(rng: random.Random) -> tuple[str, tuple[float, ...]]:
    style = rng.random()
    category = rng.choice(CATEGORIES)
    if style < 0.7:
        phrase = rng.choice(_PHRASES[category])
        return _worded(phrase, rng), phrase.expression
    if style < 0.8 and category != "neutral":
        adjective = rng.choice(_ADJECTIVES[category])
        templates, left = rng.choice(list(DEGREES.items()))
        text = rng.choice(templates).format(adjective.text)
        return text, _MEANINGS.get(text, _mixed(adjective.expression, NEUTRAL, left))
    if style < 0.95:
        other = rng.choice([name for name in CATEGORIES if name != category])
        first, second = rng.choice(_ADJECTIVES[category]), rng.choice(_ADJECTIVES[other])
        templates, share = rng.choice(list(BLENDS.items()))
        text = rng.choice(templates).format(first.text, second.text)
        return text, _MEANINGS.get(text, _mixed(first.expression, second.expression, share))
    return rng.choice(AMBIGUOUS_PHRASES), AMBIGUOUS


def _worded(phrase: Phrase, rng: random.Random) -> str:
    """The bare phrase, as people type it; in the paper's prompts, as the model reads it; or in a template."""
    style = rng.random()
    if style < 0.35:
        return phrase.text
    if style < 0.65:
        return rng.choice(build_prompts([phrase.text], "ensemble10")[0])
    return rng.choice(TEMPLATES[phrase.kind]).format(phrase.text)


def _mixed(first: tuple[float, ...], second: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(share * a + (1 - share) * b for a, b in zip(first, second))
