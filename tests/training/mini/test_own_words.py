import torch
from datasets import Dataset, Image
from PIL import Image as Pictures
from pytest import approx, fixture, raises

from training.mini import own_words
from training.mini.captions import HELD_OUT_STEMS
from training.mini.lexicon import CATEGORIES, HELD_OUT, LEXICON


def test_lists_are_of_words_with_one_category():
    known = {phrase.text: phrase.category for phrase in LEXICON}
    held_out = {word: category for category, words in HELD_OUT.items() for word in words}
    for lists, meaning in ((own_words.LISTS, known), (own_words.HELD_OUT_LISTS, held_out)):
        assert len(lists) == 6 and sum(len(candidates) for candidates in lists) == 19
        for candidates in lists:
            assert len(set(candidates.values())) == len(candidates), "two words for one face have no right answer"
            assert all(meaning[word] == category for word, category in candidates.items()), candidates
    assert all(stem not in word for stem in HELD_OUT_STEMS for words in own_words.LISTS for word in words)


def test_recalls_by_hand():
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 4])
    scores = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    assert own_words.recalls(scores, ["happiness", "sadness"], truth) == [(4, approx(75)), (2, approx(50))]


@fixture
def world():
    """Each word's expression and faces of every category, all taggers agreeing."""
    expressions = torch.tensor([phrase.expression for phrase in LEXICON])
    return expressions, torch.eye(len(CATEGORIES)).repeat(5, 1)


def test_words_that_fit_are_no_hubs(world):
    expressions, shares = world
    rates = own_words.hubness(shares @ expressions.T, expressions, shares, torch.Generator().manual_seed(0))
    assert rates.shape == (len(LEXICON),) and rates.nan_to_num(0).max() == 0


def test_a_word_near_everything_is_a_hub(world):
    expressions, shares = world
    scores = shares @ expressions.T
    scores[:, 3] = 2
    rates = own_words.hubness(scores, expressions, shares, torch.Generator().manual_seed(0)).nan_to_num(0)
    assert rates[3] == 100 and rates.argmax() == 3
    random = torch.rand(scores.shape, generator=torch.Generator().manual_seed(1))
    rates = own_words.hubness(random, expressions, shares, torch.Generator().manual_seed(0))
    assert 20 < rates.nanmean() < 30, "chance is one in four"


def _faces(tmp_path, **columns):
    columns["image"] = [Pictures.new("L", (48, 48), 40 * i) for i in range(3)]
    path = tmp_path / "faces.parquet"
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(str(path))
    return path


def test_only_faces_that_taggers_agree_on(tmp_path):
    votes = [[0, 8, 2, 0, 0, 0, 0, 0, 0, 0], [7, 0, 3, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 10, 0]]
    faces, shares = own_words.load_agreed(_faces(tmp_path, votes=votes))
    assert len(faces) == 1 and faces[0].mode == "RGB"
    torch.testing.assert_close(shares, torch.tensor([[0, 0.8, 0.2, 0, 0, 0, 0, 0]]))


def test_faces_without_votes_are_named(tmp_path):
    path = _faces(tmp_path, label=[0, 1, 2])
    with raises(ValueError, match=r"faces\.parquet has no column 'votes'"):
        own_words.load_agreed(path)
