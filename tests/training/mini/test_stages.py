"""The stages that see faces, a few steps of each: votes in, towers out."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pictures

from modeling_expclip.checkpoint.load import load_checkpoint
from tests.conftest import picture
from training.mini import __main__ as stages
from training.mini.__main__ import TEACHER, Faces, train_both, train_image, train_words
from training.mini.captions import caption_pool
from training.mini.export import export_towers
from training.mini.images import load_faces, load_votes, plain_views
from training.mini.score import war_uar
from training.mini.teacher import MAPS, TeacherNet, load_teacher, sampling_weights, save_teacher, train
from training.mini.text import load_text_tower, train_tokenizer
from training.mini.towers import PROJECTION_DIM

HAPPY, UNSURE, UNREADABLE, UNKNOWN = (
    [10, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [3, 3, 0, 0, 0, 0, 0, 2, 2, 0],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
    [0, 0, 0, 0, 0, 1, 0, 0, 9, 0],
)


def png(number: int) -> dict:
    stream = io.BytesIO()
    Pictures.fromarray(np.asarray(picture(number).convert("L").resize((48, 48)))).save(stream, "png")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.fixture
def votes(tmp_path):
    rows = [HAPPY, UNSURE, UNREADABLE, UNKNOWN] * 3
    columns = {"image": [png(number) for number in range(len(rows))], "votes": rows}
    features = Features({"image": Image(), "votes": List(Value("int8"), length=10)})
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "votes.parquet")
    return tmp_path / "votes.parquet"


def test_votes_are_shares_of_the_eight(votes):
    pixels, shares, certainty = load_votes(votes)
    assert pixels.shape == (9, 48, 48) and pixels.dtype == torch.uint8, "whom nobody could read is left out"
    torch.testing.assert_close(shares.sum(1), torch.ones(9))
    torch.testing.assert_close(shares[1, [0, 1, 7]], torch.tensor([0.375, 0.375, 0.25]))
    torch.testing.assert_close(certainty[:3], torch.tensor([1.0, 0.8, 0.1]))
    weights = sampling_weights(shares, certainty)
    assert weights[2] < weights[0] < weights[1], "rare votes are drawn more, unsure ones less"


def test_other_votes_are_refused(tmp_path):
    columns = {"image": [picture(0)], "votes": [[1, 2, 3]]}
    Dataset.from_dict(columns, features=Features({"image": Image(), "votes": List(Value("int8"))})).to_parquet(
        tmp_path / "few.parquet"
    )
    with pytest.raises(ValueError, match="few.parquet: votes for ten choices are needed, not 3"):
        load_votes(tmp_path / "few.parquet")


@pytest.mark.parametrize(
    ("votes", "says"),
    [
        ([[-5.0, 9.0, *[0.0] * 8]], "below 0"),
        ([[math.inf, *[0.0] * 9]], "below 0 or no numbers"),
        ([[None, *[1.0] * 9]], "below 0 or no numbers"),
        ([3.0], "votes for ten choices are needed"),
    ],
)
def test_what_is_no_count_is_no_vote(tmp_path, votes, says):
    Dataset.from_dict({"image": [png(0)], "votes": votes}).to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(ValueError, match=says):
        load_votes(tmp_path / "votes.parquet")


def test_a_path_in_a_row_is_not_opened(tmp_path):
    picture(0).save(tmp_path / "secret.png")
    rows = {"image": [{"bytes": None, "path": str(tmp_path / "secret.png")}], "votes": [HAPPY]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(ValueError, match="row 0: the row holds no image, only the path"):
        load_votes(tmp_path / "votes.parquet")


def test_faces_without_a_label_are_named(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["anger", "happiness"])})
    Dataset.from_dict({"image": [png(0)] * 2, "label": [1, None]}, features=features).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(ValueError, match="row 1: it has no label"):
        load_faces(tmp_path / "f.parquet")
    Dataset.from_dict({"image": [png(0)], "label": [3]}).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(ValueError, match="of the type ClassLabel is needed"):
        load_faces(tmp_path / "f.parquet")


def test_a_teacher_is_kept_in_half_precision(tmp_path):
    torch.manual_seed(0)
    teacher, x = TeacherNet().eval(), torch.randn(4, 1, 48, 48)
    save_teacher(teacher, tmp_path / "teacher.safetensors")
    again = load_teacher(tmp_path / "teacher.safetensors")
    (features, logits), (other, other_logits) = teacher(x), again(x)
    assert [each.shape for each in features] == [(4, channels, 6, 6) for channels in MAPS] and logits[0].shape == (4, 8)
    torch.testing.assert_close(other, features, atol=0.02, rtol=0.02)
    torch.testing.assert_close(other_logits[0], logits[0], atol=0.02, rtol=0.02)


def test_the_shipped_teacher_knows_faces_it_has_not_seen(shared):
    pixels, truth = load_faces(shared / "data" / "facial_expressions" / "validation.parquet")
    teacher = load_teacher(TEACHER)
    guess = torch.cat([teacher(plain_views(part))[1][0][:, :7].argmax(1) for part in pixels.split(256)])
    war, uar = war_uar(guess, truth)
    assert war > 79 and uar > 58, (war, uar)


def test_faces_and_votes_become_towers(votes, tmp_path, monkeypatch):
    pool = caption_pool(400, 0)
    train_tokenizer([caption.text for caption in pool]).save_pretrained(tmp_path / "tokenizer")
    text = load_text_tower(tmp_path, PROJECTION_DIM)
    teacher = train(votes, tmp_path, steps=(1, 1)).eval().requires_grad_(False)
    first = torch.load(tmp_path / "teacher_1.pt", weights_only=True)["module"]  # noqa: TID251, no pickles
    assert not torch.equal(first["stem.weight"], teacher.stem.weight), "the second cycle goes on"
    faces = Faces(votes)
    image = train_image(teacher, faces, [], tmp_path, steps=2)
    train_both(pool, text, image, teacher, faces, [], tmp_path, steps=2)
    monkeypatch.setattr(stages, "WORDS_STEPS", 2)
    monkeypatch.setattr(stages, "WORDS_BATCH", 8)
    before = {name: value.clone() for name, value in image.state_dict().items()}
    train_words(pool, text, image, faces, tmp_path)
    changed = [name for name, value in image.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["caption_projection.weight"]
    export_towers(*text, image, tmp_path / "towers")
    model, processor = load_checkpoint(tmp_path / "towers")
    assert model.num_parameters() * 4 < 16e6, "bytes in float32"
    inputs = processor(images=[picture(0)], text=["over the moon", "grumpy"], return_tensors="pt", padding=True)
    with torch.inference_mode():
        grey = model(**inputs).logits_per_image
        inputs["pixel_values"] = processor(images=[picture(0).convert("L").convert("RGB")], return_tensors="pt")[
            "pixel_values"
        ]
        torch.testing.assert_close(model(**inputs).logits_per_image, grey, atol=0.05, rtol=0.05)
