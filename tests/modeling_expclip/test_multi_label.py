"""Labels that are scored by themselves: against the eight references, or against their own contrast."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI, WORD_SETS, FaceAnalyzer, FacialExpressionPipeline, load_checkpoint
from modeling_expclip.pipeline_expclip import NEAR
from modeling_expclip.prompts import REFERENCES
from tests.conftest import picture

FACES = Path(__file__).parents[2] / "space" / "examples"
SMILING = {"smiling": ("a smiling face", "a serious face")}


def face(name: str) -> str:
    return str(FACES / f"average-{name}.png")


def loaded(checkpoint) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


@pytest.fixture(scope="module")
def recognise(checkpoint) -> FacialExpressionPipeline:
    return loaded(checkpoint)


@pytest.fixture(scope="module")
def mini() -> FacialExpressionPipeline:
    return loaded(MINI)


def scores(recognise, image, *labels, **options) -> dict[str, float]:
    answer = recognise(image, candidate_labels=labels or None, **{"multi_label": True, **options})
    return {entry["label"]: entry["score"] for entry in answer}


@pytest.mark.parametrize("prompts", ["ensemble10", "photo", ["see {}"]])
def test_other_labels_do_not_count(recognise, prompts):
    alone = scores(recognise, picture(), "bored", prompts=prompts)
    among = scores(recognise, picture(), "anger", "bored", "a table", prompts=prompts)
    beside = scores(recognise, picture(), "smiling", "bored", contrasts=SMILING, prompts=prompts)
    assert alone["bored"] == pytest.approx(among["bored"], abs=1e-6) == pytest.approx(beside["bored"], abs=1e-6)
    by_itself = scores(recognise, picture(), contrasts=SMILING, prompts="class_name")
    assert by_itself == pytest.approx({"smiling": beside["smiling"]}, abs=1e-6)


def test_every_score_lies_between_0_and_1_and_they_need_not_sum_to_one(mini):
    labels = [*LABEL_SETS["mafw"], "smiling", "joyful", "x" * 400, "日本"]
    found = scores(mini, Image.open(face("happiness")), *labels)
    assert list(found.values()) == sorted(found.values(), reverse=True) and set(found) == set(labels)
    assert all(0 <= score <= 1 for score in found.values())
    assert found["smiling"] > 0.5 and found["joyful"] > 0.5


def test_none_of_them_may_fit(mini):
    """A softmax must give the whole to somebody."""
    image, words = Image.open(face("happiness")), ("sorrowful", "furious", "revolted")
    assert max(scores(mini, image, *words).values()) < 0.2
    assert sum(scores(mini, image, *words, multi_label=False).values()) == pytest.approx(1)


def test_nonsense_scores_low_on_every_face(mini):
    for name in ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"):
        found = scores(mini, Image.open(face(name)), "tractor", "algebra", "blorf")
        assert max(found.values()) < 0.5, (name, found)


def test_a_label_is_compared_with_the_references_but_those_near_it(recognise):
    labels = ("bored", "fear", "a table")
    own, references = recognise.class_prototypes(labels, "photo"), recognise.class_prototypes(REFERENCES, "photo")
    around = [torch.nn.functional.normalize(part - references.mean(0), dim=-1) for part in (own, references)]
    kept = around[0] @ around[1].T <= NEAR
    assert not kept[1, REFERENCES.index("fear")] and kept.any(1).all()
    prototypes, against = recognise.comparison(labels, "photo", multi_label=True)
    assert torch.equal(against, kept) and torch.equal(prototypes, torch.cat([own, references]))
    embeds = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    found = recognise.probabilities(embeds, prototypes, against)
    for i, label in enumerate(labels):
        rivals = references[kept[i]]
        by_hand = recognise.probabilities(embeds, torch.cat([own[i][None], rivals]))[:, 0]
        torch.testing.assert_close(found[:, i], by_hand, msg=label)


def test_of_the_references_themselves_it_is_the_softmax(mini):
    """Their own place is left out, so what is left is the eight; but contempt lies near anger and disgust, and is not against them."""
    image = Image.open(face("fear"))
    expected = scores(mini, image, *REFERENCES, multi_label=False)
    found = scores(mini, image, *REFERENCES)
    _, against = mini.comparison(REFERENCES, multi_label=True)
    kept = dict(zip(REFERENCES, against.sum(1).tolist()))
    near = {label for label, count in kept.items() if count < len(REFERENCES) - 1}
    assert near == {"anger", "disgust", "contempt"}
    apart = [label for label in REFERENCES if label not in near]
    assert [found[label] for label in apart] == pytest.approx([expected[label] for label in apart], abs=1e-5)
    assert all(found[label] > expected[label] for label in near)


def test_a_contrast_is_one_sentence_against_the_other(recognise):
    found = scores(recognise, picture(), contrasts=SMILING)
    stock = scores(recognise, picture(), *SMILING["smiling"], prompts=["{}"], multi_label=False)
    assert found["smiling"] == pytest.approx(stock["a smiling face"], abs=1e-6)
    turned = scores(recognise, picture(), contrasts={"smiling": SMILING["smiling"][::-1]})
    assert found["smiling"] + turned["smiling"] == pytest.approx(1, abs=1e-6)


def test_a_side_of_several_prompts_is_their_mean(recognise):
    sides = ["a smiling face", "a grin"], ["a serious face"]
    prototypes, against = recognise.comparison(["x"], contrasts={"x": sides})
    expected = [recognise.class_prototypes(side, ["{}"]).mean(0) for side in sides]
    torch.testing.assert_close(prototypes, torch.stack(expected))
    assert against.tolist() == [[True]]


def test_contrasts_are_the_labels_and_imply_that_each_counts_by_itself(recognise):
    assert recognise(picture(), contrasts=SMILING) == recognise(picture(), contrasts=SMILING, multi_label=True)
    among = scores(recognise, picture(), "bored", "smiling", contrasts=SMILING)
    assert list(scores(recognise, picture(), contrasts=SMILING)) == ["smiling"] and len(among) == 2
    with pytest.raises(ValueError, match="multi_label must be True or False, and True with contrasts, got False"):
        recognise(picture(), contrasts=SMILING, multi_label=False)


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ({}, "contrasts must map labels to pairs"),
        (["smiling"], "contrasts must map labels to pairs, .* got \\['smiling'\\]"),
        ({"smiling": "a smiling face"}, "the contrast of 'smiling' must be a pair .* got \\['a smiling face'\\]"),
        ({"smiling": ("a", "b", "c")}, "the contrast of 'smiling' must be a pair"),
        ({"smiling": ("a smiling face", " ")}, "the contrast of 'smiling' must be a pair"),
        ({"smiling": ("a smiling face", [])}, "each a prompt or a list of prompts"),
        ({"smiling": ("a smiling face", None)}, "each a prompt or a list of prompts"),
        ({"smiling": ("a face", ["b", "a face"])}, "no prompt on both sides"),
        ({"smiling": ("a\ud800", "b")}, "holds a lone surrogate"),
        ({7: ("a", "b")}, "a label must be a non-empty string, got 7"),
    ],
)
def test_wrong_contrasts(recognise, contrasts, message):
    with pytest.raises(ValueError, match=message):
        recognise(picture(), contrasts=contrasts)
    with pytest.raises(ValueError, match=message):
        FaceAnalyzer(recognise, faces=False).photo(picture(), contrasts=contrasts)


def test_contrasts_of_labels_that_nobody_asked_for(recognise):
    with pytest.raises(ValueError, match="contrasts are given for smiling, which is not among the labels"):
        recognise(picture(), candidate_labels=["bored"], contrasts=SMILING)
    with pytest.raises(ValueError, match="multi_label must be True or False"):
        recognise(picture(), multi_label="yes")


def test_all_is_encoded_once(recognise, monkeypatch):
    calls = []
    encode = type(recognise.model).get_text_features

    def counted(self, *args, **kwargs):
        calls.append(1)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(type(recognise.model), "get_text_features", counted)
    for _ in range(3):
        scores(recognise, picture(), "never", "seen", contrasts={"seen": ("this", "that")}, prompts=["look: {}"])
    assert len(calls) == 3  # the label, the references, the contrast
    scores(recognise, picture(), "not yet", prompts=["look: {}"])
    assert len(calls) == 4, "the references are known"


def test_changed_weights_are_answered_as_by_a_fresh_pipeline(checkpoint):
    used = loaded(checkpoint)
    before = scores(used, picture(), "bored", "smiling", contrasts=SMILING)
    used.model.text_model.embeddings.token_embedding.weight.data.mul_(-3)
    fresh = FacialExpressionPipeline(model=used.model, tokenizer=used.tokenizer, image_processor=used.image_processor)
    after = scores(used, picture(), "bored", "smiling", contrasts=SMILING)
    assert after == scores(fresh, picture(), "bored", "smiling", contrasts=SMILING) != before


def test_lists_and_defaults_of_a_pipeline(recognise, monkeypatch):
    images = [picture(seed) for seed in range(3)]
    found = recognise(images, contrasts=SMILING, top_k=1)
    assert [answer[0]["score"] for answer in found] == pytest.approx(
        [scores(recognise, image, contrasts=SMILING)["smiling"] for image in images], abs=1e-5
    )
    kept = FacialExpressionPipeline(
        model=recognise.model,
        tokenizer=recognise.tokenizer,
        image_processor=recognise.image_processor,
        candidate_labels=["bored"],
        multi_label=True,
    )
    assert kept(picture())[0]["score"] == pytest.approx(scores(recognise, picture(), "bored")["bored"], abs=1e-6)


def test_the_sets_of_words():
    numbers = [int(name.split()[0].removeprefix("AU")) for name in WORD_SETS["action_units"]]
    assert numbers == sorted({*numbers}) and {1, 4, 6, 12, 25} <= {*numbers}
    assert list(WORD_SETS["valence_arousal"]) == ["valence", "arousal"]
    assert len({*WORD_SETS["emonet40"]}) == 40
    assert not {*WORD_SETS} & {*LABEL_SETS}


def test_sets_of_words_in_the_analyzer(mini):
    analyzer, happy = FaceAnalyzer(mini, faces=False), face("happiness")
    [units] = analyzer.photo(happy, label_set="action_units")
    assert list(units["scores"]) == list(WORD_SETS["action_units"])
    assert units["scores"] == pytest.approx(
        scores(mini, Image.open(happy), contrasts=WORD_SETS["action_units"]), abs=1e-5
    )
    [own] = analyzer.photo(
        happy, label_set="action_units", contrasts={"AU12 lip corners pulled up": ("a serious face", "a smiling face")}
    )
    changed = [name for name, score in own["scores"].items() if abs(score - units["scores"][name]) > 1e-5]
    assert changed == ["AU12 lip corners pulled up"]
    [emotions] = analyzer.photo(happy, label_set="emonet40")
    assert sum(emotions["scores"].values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(
        ValueError, match="unknown label set 'faces'; choose one of rafdb, .*, valence_arousal, emonet40"
    ):
        analyzer.photo(happy, label_set="faces")
    with pytest.raises(ValueError, match="own labels and the label set 'emonet40' were given"):
        analyzer.photo(happy, ["a"], label_set="emonet40")


def test_axes_have_two_ends_and_are_no_labels(mini):
    analyzer = FaceAnalyzer(mini, faces=False)
    faces = [face(name) for name in ("happiness", "anger", "surprise", "neutral")]
    found = [answer for [answer] in analyzer.photos(faces, label_set="valence_arousal")]
    assert all(answer["label"] is None and list(answer["scores"]) == ["valence", "arousal"] for answer in found)
    happy, angry, surprised, calm = (answer["scores"] for answer in found)
    assert -1 <= angry["valence"] < 0 < happy["valence"] <= 1
    assert -1 <= calm["arousal"] < 0 < surprised["arousal"] <= 1
    plain = scores(mini, Image.open(faces[0]), contrasts=WORD_SETS["valence_arousal"])
    assert happy["valence"] == pytest.approx(2 * plain["valence"] - 1, abs=1e-5)


def test_the_analyzer_names_no_label_where_none_fits(mini):
    analyzer, happy = FaceAnalyzer(mini, faces=False), face("happiness")
    [nothing] = analyzer.photo(happy, ["sorrowful", "furious"], multi_label=True)
    assert nothing["label"] is None and max(nothing["scores"].values()) < 0.5
    [something] = analyzer.photo(happy, ["sorrowful", "joyful"], multi_label=True)
    assert something["label"] == "joyful"
    [pushed] = analyzer.photo(happy, ["sorrowful", "furious"])
    assert pushed["label"] in ("sorrowful", "furious")
