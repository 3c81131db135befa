import pytest
import torch
from transformers import pipeline

from modeling_expclip import FacialExpressionPipeline
from modeling_expclip.checkpoint import load_checkpoint
from modeling_expclip.prompts import LABEL_SETS
from tests.conftest import STOCK, picture


@pytest.fixture(scope="module")
def recognise(checkpoint) -> FacialExpressionPipeline:
    model, processor = load_checkpoint(checkpoint)
    return FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )


def test_found_by_the_folder_alone(checkpoint):
    found = pipeline(model=str(checkpoint), trust_remote_code=True)
    assert type(found).__name__ == "FacialExpressionPipeline" and found.task == "facial-expression-recognition"
    by_name = pipeline("facial-expression-recognition", model=str(checkpoint), trust_remote_code=True)
    assert by_name(picture()) == found(picture())


def test_default_answers(recognise):
    answer = recognise(picture())
    assert {entry["label"] for entry in answer} == set(LABEL_SETS["rafdb"])
    scores = [entry["score"] for entry in answer]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    assert recognise(picture(), label_set="rafdb", prompts="ensemble10") == answer


def test_stock_pipeline_agrees_on_one_template(recognise, checkpoint):
    stock = pipeline("zero-shot-image-classification", model=str(checkpoint), trust_remote_code=True)
    assert type(stock).__name__ == "ZeroShotImageClassificationPipeline"
    labels = ["anger", "smiling"]
    expected = stock(picture(), candidate_labels=labels, hypothesis_template="an expression of {}.")
    found = recognise(picture(), candidate_labels=labels, prompts="expression")
    assert [entry["label"] for entry in found] == [entry["label"] for entry in expected]
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in expected], abs=STOCK)


def test_batches_paths_and_generators_agree(recognise, tmp_path):
    images = [picture(seed, size=(30 + seed, 40)) for seed in range(5)]
    paths = []
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    one_by_one = [recognise(image) for image in images]
    for found in (recognise(images, batch_size=2), recognise(paths), list(recognise(image for image in images))):
        for answer, expected in zip(found, one_by_one, strict=True):
            assert [entry["label"] for entry in answer] == [entry["label"] for entry in expected]
            assert [e["score"] for e in answer] == pytest.approx([e["score"] for e in expected], abs=1e-5)


def test_prompts_are_encoded_once(recognise, monkeypatch):
    calls = []
    encode = type(recognise.model).get_text_features

    def counted(self, *args, **kwargs):
        calls.append(1)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(type(recognise.model), "get_text_features", counted)
    for _ in range(3):
        recognise([picture(1), picture(2)], candidate_labels=["never", "seen", "before"])
    assert len(calls) == 1
    recognise(picture(1), candidate_labels=["seen", "never", "before"])
    assert len(calls) == 2, "other labels, or another order, are other prototypes"


def test_prototypes_are_means_of_normalised_prompts(recognise):
    prototypes = recognise.class_prototypes(["anger", "a very long label " * 30], ["{}", "so {}"])
    assert prototypes.shape == (2, 48)
    single = [recognise.class_prototypes(["anger"], [template]) for template in ("{}", "so {}")]
    assert [one.norm().item() for one in single] == pytest.approx([1, 1], abs=1e-6)
    torch.testing.assert_close(prototypes[:1], (single[0] + single[1]) / 2)
    assert prototypes[0].norm() < 1


def test_own_templates(recognise):
    one = recognise(picture(), candidate_labels=["a", "b"], prompts=["see {}", "look: {}"])
    other = recognise(picture(), candidate_labels=["a", "b"], prompts=["look: {}", "see {}"])
    assert [e["score"] for e in one] == pytest.approx([e["score"] for e in other], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate_labels": []}, "no labels"),
        ({"candidate_labels": "anger"}, "must be a list"),
        ({"candidate_labels": ["a", "a"]}, "more than once"),
        ({"label_set": "imagenet"}, "unknown label set 'imagenet'"),
        ({"label_set": "rafdb", "candidate_labels": ["a"]}, "not both"),
        ({"prompts": "none"}, "unknown prompt set"),
    ],
)
def test_wrong_calls(recognise, options, message):
    with pytest.raises(ValueError, match=message):
        recognise(picture(), **options)


def test_changed_weights_are_not_answered_from_the_cache(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    used = FacialExpressionPipeline(model=model, **parts)
    used(picture())
    with torch.no_grad():
        model.projection_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert used(picture()) == FacialExpressionPipeline(model=model, **parts)(picture())


def test_a_string_is_not_a_list_of_labels(recognise):
    with pytest.raises(ValueError, match="must be a list"):
        recognise.class_prototypes("anger")


def test_cache_does_not_grow_for_ever(recognise):
    for i in range(70):
        recognise.class_prototypes([f"label {i}"], "class_name")
    assert len(recognise._prototypes) <= 64


def test_long_labels(recognise, checkpoint):
    labels = ["very " * 100, "short"]
    assert len(recognise(picture(), candidate_labels=labels)) == 2
    stock = pipeline("zero-shot-image-classification", model=str(checkpoint), trust_remote_code=True)
    found = stock(picture(), candidate_labels=labels, hypothesis_template="{}")
    expected = recognise(picture(), candidate_labels=labels, prompts=["{}"])
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected], abs=STOCK)


def test_by_task_name_with_a_loaded_model(recognise):
    parts = {"tokenizer": recognise.tokenizer, "image_processor": recognise.image_processor}
    named = pipeline("facial-expression-recognition", model=recognise.model, **parts)
    assert type(named) is FacialExpressionPipeline


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(recognise, checkpoint, dtype):
    half = pipeline(model=str(checkpoint), trust_remote_code=True, dtype=dtype)
    expected = {e["label"]: e["score"] for e in recognise(picture())}
    assert {e["label"]: e["score"] for e in half(picture())} == pytest.approx(expected, abs=0.03)


def test_plain_clip_works_too(clip_folder):
    model, processor = load_checkpoint(clip_folder)
    plain = FacialExpressionPipeline(
        model=model, tokenizer=processor.tokenizer, image_processor=processor.image_processor
    )
    assert len(plain(picture(), label_set="mafw")) == 11
