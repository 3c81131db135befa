import pytest

from training.mini.captions import caption_pool
from training.mini.text import LEXICON, MAX_LENGTH, VOCABULARY, corpus, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    _, phrases = corpus(caption_pool(2000, 0), ["hello", "world", "window"], 0)
    return train_tokenizer(phrases)


def test_common_words_are_one_token(tokenizer):
    assert len(tokenizer) <= VOCABULARY
    for word in ("joyful", "furious", "happiness", "photo", "expression"):
        assert word in LEXICON or word == "photo"
        assert len(tokenizer(word)["input_ids"]) == 3, word


def test_no_text_is_unknown(tokenizer):
    for text in ("naïve", "😀 grüßt", "شخص سعيد", "喜び", "x" * 300, ""):
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert len(ids) <= MAX_LENGTH
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in ids[1:-1], f"{text!r} would end early"


def test_tokenizer_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = "a photo radiating joyful surprise in a person."
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.model_max_length == MAX_LENGTH
