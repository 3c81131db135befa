import torch

from training.mini.captions import (
    EXPRESSIONS,
    FACTORS,
    HELD_OUT_STEMS,
    NOT_MENTIONED,
    caption_pool,
    expression_phrases,
)
from training.mini.images import draw_factors, views
from training.mini.score import UNSEEN, war_uar
from training.mini.towers import truth_table


def test_unseen_words_are_in_no_caption():
    texts = [caption.text for caption in caption_pool(5000, 0)]
    texts += [phrase for expression in EXPRESSIONS for phrase in expression_phrases(expression)]
    assert not [text for text in texts for stem in HELD_OUT_STEMS if stem in text]
    for word in (*UNSEEN, "smiling", "frowning"):
        assert any(stem in word for stem in HELD_OUT_STEMS), word


def test_pool_is_reproducible_and_mentions_what_it_says():
    pool = caption_pool(300, 7)
    assert pool == caption_pool(300, 7) != caption_pool(300, 8)
    assert 0.5 < sum(caption.mentions[0] != NOT_MENTIONED for caption in pool) / 300 < 0.7
    for caption in pool:
        expression, light = caption.mentions[0], caption.mentions[1]
        if expression != NOT_MENTIONED:
            assert caption.text.split(", ")[0] in expression_phrases(EXPRESSIONS[expression])
        if any(phrase in caption.text for phrase in ("in a dark photo", "dimly lit", "underexposed", "in the shade")):
            assert FACTORS["light"][light] == "dark"


def test_truth_table():
    #                      expression, then five factors
    mentions = torch.tensor([[0, -1, 1, -1, -1, -1], [-1, -1, -1, -1, -1, 0], [2, -1, -1, -1, -1, -1]])
    truth = torch.tensor([[0, 0, 1, 0, 0, 0], [2, 0, 1, 0, 0, 1]])
    belief = torch.nn.functional.one_hot(truth[:, 0], 7).float()
    belief[1] = torch.tensor([0.25, 0, 0.75, 0, 0, 0, 0])
    expected = torch.tensor([[1.0, 1.0, 0.0], [0.25, 0.0, 0.75]])
    assert torch.equal(truth_table(mentions, truth, belief), expected)


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
