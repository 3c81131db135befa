from collections import Counter

import pytest

from training.mini.captions import HELD_OUT_STEMS
from training.mini.lexicon import CATEGORIES, HELD_OUT, KINDS, LEXICON, distribution

TEXTS = [phrase.text for phrase in LEXICON]


def test_categories_are_those_of_the_votes():
    votes = "happiness, sadness, neutral, anger, surprise, disgust, fear, contempt"
    assert ", ".join(CATEGORIES) == votes


def test_distributions_sum_to_one():
    for phrase in LEXICON:
        assert len(phrase.expression) == len(CATEGORIES) and min(phrase.expression) >= 0, phrase
        assert abs(sum(phrase.expression) - 1) < 1e-9, phrase


def test_phrases_are_clean_and_said_once():
    assert not [text for text, count in Counter(TEXTS).items() if count > 1]
    for phrase in LEXICON:
        assert phrase.text == " ".join(phrase.text.lower().split()) and phrase.text, phrase
        assert phrase.kind in KINDS, phrase


def test_every_category_has_many_phrases():
    counts = Counter(phrase.category for phrase in LEXICON)
    assert min(counts[category] for category in CATEGORIES) >= 60, counts


def test_held_out_words_are_not_in_the_lexicon():
    assert not [(text, stem) for text in TEXTS for stem in HELD_OUT_STEMS if stem in text]
    assert list(HELD_OUT) == list(CATEGORIES)
    for word in (word for words in HELD_OUT.values() for word in words):
        assert any(stem in word for stem in HELD_OUT_STEMS), f"{word} may be in captions"


@pytest.mark.parametrize("wrong", ["happiness 90", "happiness 50 joy 50", "happiness 50 happiness 50", ""])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(ValueError, match="sum to 100"):
        distribution(wrong)
    assert distribution("contempt 40 happiness 60")[0] == 0.6
