import pytest
import torch

from training.mini.captions import (
    AMBIGUOUS_PHRASES,
    CATEGORIES,
    EXPRESSIONS,
    FACTOR_PHRASES,
    FACTORS,
    HELD_OUT_STEMS,
    NOT_MENTIONED,
    PLAIN,
    agreement,
    caption_pool,
)
from training.mini.images import draw_factors, views
from training.mini.lexicon import LEXICON
from training.mini.score import UNSEEN, war_uar
from training.mini.towers import truth_table

POOL = caption_pool(5000, 0)


def test_unseen_words_are_in_no_caption():
    assert not [caption.text for caption in POOL for stem in HELD_OUT_STEMS if stem in caption.text]
    for word in (*UNSEEN, "smiling", "frowning"):
        assert any(stem in word for stem in HELD_OUT_STEMS), word


def test_the_seven_expressions_keep_their_order():
    assert EXPRESSIONS == CATEGORIES[:7] == ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def test_pool_is_reproducible():
    assert caption_pool(300, 7) == caption_pool(300, 7) != caption_pool(300, 8)


def test_captions_speak_of_distributions_or_of_no_expression():
    about = [caption for caption in POOL if caption.expression is not None]
    assert 0.7 < len(about) / len(POOL) < 0.8
    for caption in POOL:
        first = caption.text.split(", ")[0]
        assert (caption.expression is None) == (first in PLAIN)
        if caption.expression is not None:
            assert len(caption.expression) == 8 and abs(sum(caption.expression) - 1) < 1e-9
    leading = torch.tensor([caption.expression for caption in about]).argmax(1).bincount(minlength=8)
    assert leading.min() > 0.06 * len(about), "every category is spoken of"


def test_factors_are_what_the_text_says():
    words = {phrase: key for key, phrases in FACTOR_PHRASES.items() for phrase in phrases}
    seen = set()
    for caption in POOL:
        said = {words[part] for part in caption.text.split(", ") if part in words}
        values = zip(FACTORS, caption.factors)
        assert said == {(factor, FACTORS[factor][value]) for factor, value in values if value != NOT_MENTIONED}
        seen |= said
    assert seen == set(FACTOR_PHRASES)


def test_captions_of_every_style():
    texts = {caption.text: caption.expression for caption in caption_pool(20000, 1)}
    bare = {phrase.text: phrase.expression for phrase in LEXICON if phrase.text in texts}
    assert len(bare) > 1000 and all(texts[text] == expression for text, expression in bare.items())
    assert any(text.startswith("a photo radiating ") for text in texts), "the paper's prompts"
    blend = [expression for text, expression in texts.items() if text.startswith("mostly ")]
    assert blend and all(max(expression) < 0.95 for expression in blend)
    hard = [expression for text, expression in texts.items() if text in AMBIGUOUS_PHRASES]
    assert hard and all(max(expression) < 0.3 for expression in hard)
    happy, slightly = (next(e for t, e in texts.items() if t == word) for word in ("happy", "a little surprised"))
    assert happy[0] == 1 and slightly[CATEGORIES.index("neutral")] == 0.4


@pytest.fixture(scope="module")
def random_shares():
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(40, 8, generator=generator)).softmax(-1)


def test_agreement_is_full_only_with_itself(random_shares):
    table = agreement(random_shares, random_shares)
    torch.testing.assert_close(table, table.T)
    torch.testing.assert_close(table.diagonal(), torch.ones(40))
    assert (table.fill_diagonal_(0) < 0.999).all() and table.min() >= 0


def test_agreement_follows_the_votes():
    happy, mixed, sad = torch.eye(8)[0], torch.tensor([0.7, 0, 0, 0, 0.3, 0, 0, 0]), torch.eye(8)[1]
    nine = torch.tensor([0.9, 0, 0.1, 0, 0, 0, 0, 0])
    unknown = 0.6 * happy  # four of ten taggers could not say
    table = agreement(torch.stack([happy, mixed, sad]), torch.stack([happy, mixed, nine, unknown]))
    expected = [[1, 0.7, 0], [0.7, 1, 0], [0.9, 0.7, 0], [0.6, 0.6, 0]]
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float32))


def test_one_vote_moves_agreement_by_a_tenth_at_most(random_shares):
    votes = (random_shares * 10).round() / 10
    moved = votes.clone()
    rows = torch.arange(len(votes))
    moved[rows, votes.argmax(1)] -= 0.1
    moved[rows, votes.argmin(1)] += 0.1
    change = agreement(random_shares, moved) - agreement(random_shares, votes)
    assert change.abs().max() <= 0.1 + 1e-5


def test_truth_table():
    happy, angry = torch.eye(8)[0], torch.eye(8)[3]
    spoken = torch.stack([happy, torch.zeros(8), angry])
    speaks = torch.tensor([True, False, True])
    mentions = torch.tensor([[-1, 1, -1, -1, -1], [-1, -1, -1, -1, 0], [-1, -1, -1, -1, -1]])
    belief = torch.stack([happy, 0.25 * happy + 0.75 * angry])
    factors = torch.tensor([[0, 1, 0, 0, 0], [0, 1, 0, 0, 1]])
    table = truth_table(spoken, speaks, mentions, belief, factors)
    torch.testing.assert_close(table, torch.tensor([[1.0, 1.0, 0.0], [0.25, 0.0, 0.75]]))


def test_views_show_their_factors():
    generator = torch.Generator().manual_seed(0)
    crown = torch.zeros(1, 48, 48, dtype=torch.uint8)
    crown[:, 4:10, 21:27] = 250
    count = 200

    def mean_view(factor, value):
        factors = torch.zeros(count, len(FACTORS), dtype=torch.long)
        factors[:, list(FACTORS).index(factor)] = FACTORS[factor].index(value)
        return views(crown.expand(count, -1, -1), factors, generator).mean((0, 1))  # (48, 48)

    def column(picture):
        weight = (picture - picture.median()).clamp(min=0)[:24].sum(0)
        return (weight * torch.arange(48)).sum() / weight.sum()

    assert mean_view("light", "dark").max() < mean_view("light", "normal").max() < mean_view("light", "bright").max()
    assert (
        column(mean_view("tilt", "left"))
        < 20
        < column(mean_view("tilt", "upright"))
        < 27
        < column(mean_view("tilt", "right"))
    )


def test_free_factors_are_drawn_and_mentioned_ones_kept():
    generator = torch.Generator().manual_seed(0)
    mentioned = torch.full((500, len(FACTORS)), -1)
    mentioned[:, 0] = 2
    factors = draw_factors(mentioned, generator)
    assert (factors[:, 0] == 2).all() and (factors >= 0).all()
    assert 0.75 < (factors[:, 1] == 0).float().mean() < 0.95
    assert (factors.amax(0) < torch.tensor([len(values) for values in FACTORS.values()])).all()


def test_war_and_uar_by_hand():
    truth = torch.tensor([0] * 40 + [1] * 60 + [5] * 3 + [7] * 50)
    guess = torch.tensor([0] * 30 + [1] * 10 + [1] * 30 + [0] * 30 + [5] * 3 + [0] * 50)
    war, uar = war_uar(guess, truth)
    assert abs(war - 100 * 63 / 103) < 1e-4, "contempt is left out"
    assert abs(uar - 100 * (0.75 + 0.5) / 2) < 1e-4, "a class of three faces does not count"
