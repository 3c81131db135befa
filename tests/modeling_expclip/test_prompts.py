import json

import pytest

from modeling_expclip import LABEL_SETS, LANGUAGES, PROMPT_SETS
from modeling_expclip.prompts import LABEL_ALIASES, build_prompts, canonical_label


def test_paper_prompts_string_for_string(shared):
    expected = json.loads((shared / "parity" / "prompts.json").read_text())
    assert set(PROMPT_SETS) == set(expected)
    for name, classes in expected.items():
        assert list(LABEL_SETS["mafw"]) == list(classes)
        assert build_prompts(LABEL_SETS["mafw"], name) == list(classes.values())


def test_exceptions_of_the_paper():
    (happiness, sadness, neutral, fear) = build_prompts(["happiness", "sadness", "neutral", "fear"], "ensemble10")
    assert happiness[5] == "a photo of a face exuding happiness."
    assert sadness[1] == "a cropped photo emphasizing a face expressing sadness."
    assert sadness[8] == "a photo of a face with an expression of sadness."
    assert neutral[7] == "a good photo capturing someone's neutral state."
    assert fear[9] == "a clean photo showcasing a person's fearful expression."
    assert build_prompts(["sadness"], "ensemble5") == [sadness[:5]]
    assert build_prompts(["sadness"], "photo") == [["a photo of a face with an expression of sadness."]]


def test_label_sets_of_the_paper():
    sizes = {name: len(labels) for name, labels in LABEL_SETS.items()}
    assert sizes == {
        "rafdb": 7,
        "affectnet7": 7,
        "affectnet8": 8,
        "ferplus": 8,
        "dfew": 7,
        "ferv39k": 7,
        "mafw": 11,
        "afew": 7,
    }
    assert all(labels == LABEL_SETS["mafw"][: len(labels)] for labels in LABEL_SETS.values())


def test_aliases_are_for_data_sets_only():
    assert canonical_label(" Happy ") == "happiness"
    assert canonical_label("ANGRY") == "anger"
    assert canonical_label("contempt") == "contempt"
    assert set(LABEL_ALIASES.values()) <= set(LABEL_SETS["mafw"])
    assert build_prompts(["happy"], "class_name") == [["happy."]]
    with pytest.raises(ValueError, match="'sleepy'"):
        canonical_label("sleepy")


def test_other_languages_are_labels_and_a_template():
    assert len(LANGUAGES) == 5 and all(set(words) == {"labels", "template"} for words in LANGUAGES.values())
    for words in LANGUAGES.values():
        assert len(words["labels"]) == len(LABEL_SETS["rafdb"])
        groups = build_prompts(words["labels"], [words["template"]])
        assert len({prompt for (prompt,) in groups}) == 7
        assert all(label in prompt and "{" not in prompt for label, (prompt,) in zip(words["labels"], groups))
    assert len({label for words in LANGUAGES.values() for label in words["labels"]}) == 35
    assert build_prompts(LANGUAGES["de"]["labels"], [LANGUAGES["de"]["template"]])[6] == [
        "ein Gesicht, das Angst ausdrückt."
    ]


def test_own_labels_and_templates():
    templates = ["a {} person", "someone {adjective}", "a look of {noun}"]
    assert build_prompts(["anger", "over the moon"], templates) == [
        ["a anger person", "someone angry", "a look of anger"],
        ["a over the moon person", "someone over the moon", "a look of over the moon"],
    ]
    assert build_prompts(["{noun} {}"], "class_name") == [["{noun} {}."]], "a label's own braces are text"


@pytest.mark.parametrize(
    ("labels", "prompts", "message"),
    [
        ([], "photo", "no labels"),
        (["a", "a"], "photo", "more than once: a"),
        (["a", " "], "photo", "non-empty string"),
        ("anger", "photo", "must be a list"),
        (["a"], "fotos", "unknown prompt set 'fotos'"),
        (["a"], ["no place"], "no place for the label"),
        (["a"], [], "no templates"),
    ],
)
def test_wrong_labels_and_prompts_are_named(labels, prompts, message):
    with pytest.raises(ValueError, match=message):
        build_prompts(labels, prompts)
