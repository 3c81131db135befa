"""The loss and the heads that start from it or from a closed form, against loops by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from modeling_expclip.checkpoint.load import load_checkpoint
from tests.training.alignment.conftest import CLASSES, head, log
from training.alignment.closed_form import ridge_head
from training.alignment.loss import AlignmentModel
from training.alignment.run import initial_head, train_from_cache
from training.embeddings.pairs import load_pairs
from training.recipe import load_recipe


def test_the_loss_is_clips_between_head_and_teacher():
    torch.manual_seed(0)
    image, teacher, weight = torch.randn(6, 8), torch.randn(6, 10), torch.randn(10, 8)
    model = AlignmentModel(weight, 20.0)
    logits = 20 * torch.stack([F.cosine_similarity(weight @ v, teacher, dim=-1) for v in image])
    by_hand = -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2
    output = model(image, teacher)
    torch.testing.assert_close(output["loss"], by_hand)
    torch.testing.assert_close(output["image_to_teacher"], (logits.argmax(1) == torch.arange(6)).float().mean())
    torch.testing.assert_close(output["teacher_to_image"], (logits.argmax(0) == torch.arange(6)).float().mean())
    assert [name for name, _ in model.named_parameters()] == ["projection_head.weight"]
    assert list(model.state_dict()) == ["projection_head.weight"]


def test_training_is_plain_sgd_on_that_loss(tmp_path, recipe, cached):
    """With all faces in each batch their order does not matter, so a loop by hand must give the same head."""
    _, cache = cached()
    settings = {
        "max_steps": 5,
        "batch_size": 50,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "weight_decay": 1e-4,
        "seed": 3,
    }
    wanted = load_recipe(recipe(training=settings))
    train_from_cache(wanted, cache, tmp_path / "run", {}, CLASSES)

    image, teacher = map(torch.cat, zip(*load_pairs(cache, wanted.clip, wanted.teacher).blocks()))
    teacher = F.normalize(teacher, dim=-1)
    clip, _ = load_checkpoint(wanted.clip.model)
    torch.manual_seed(3)
    weight = initial_head("random", 30, 24).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.5, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(5):
        logits = clip.logit_scale.exp().item() * F.normalize(image @ weight.T, dim=-1) @ teacher.T
        loss = (F.cross_entropy(logits, torch.arange(50)) + F.cross_entropy(logits.T, torch.arange(50))) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(head(tmp_path / "run"), weight.detach(), atol=1e-6, rtol=0)
    assert float(log(tmp_path / "run")[0]["loss"]) == pytest.approx(sum(losses) / 5, abs=1e-5)


def test_a_head_that_starts_as_clip_answers_as_clip():
    torch.manual_seed(0)
    weight, v = initial_head("clip", 30, 24), torch.randn(9, 24)
    torch.testing.assert_close(
        F.normalize(v @ weight.T) @ F.normalize(v @ weight.T).T, F.normalize(v) @ F.normalize(v).T
    )
    with pytest.raises(ValueError, match="at least as wide as CLIP's .24., got 12"):
        initial_head("clip", 12, 24)


def test_ridge_solves_its_normal_equations():
    torch.manual_seed(0)
    image, teacher = torch.randn(50, 6), torch.randn(50, 9) + 3
    weight = ridge_head(image, teacher, 0.1).requires_grad_()
    penalty = 0.1 * (image.T @ image).diagonal().mean()
    loss = (image @ weight.T - (teacher - teacher.mean(0))).square().sum() + penalty * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-4
