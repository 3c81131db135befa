"""Runs that were stopped, at any moment, and runs that are there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from modeling_expclip.checkpoint.golden import compare as verify
from modeling_expclip.checkpoint.load import load_checkpoint
from tests.training.alignment.conftest import CLASSES, head, log
from tests.training.conftest import kill_ten_times
from training.alignment.run import train_from_cache
from training.recipe import load_recipe


def _train(recipe_file: Path, cache: Path, output: Path) -> None:
    train_from_cache(load_recipe(recipe_file), cache, output, {}, CLASSES)


def test_killed_at_ten_random_moments_it_ends_in_the_same_head(tmp_path, recipe, cached):
    _, cache = cached(200)
    settings = recipe(training={"max_steps": 300, "log_steps": 10, "save_steps": 10})
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    kill_ten_times(_train, settings, cache, killed, fresh=lambda: (settings, cache, undisturbed))
    torch.testing.assert_close(head(killed), head(undisturbed), atol=0, rtol=0)
    assert log(killed) == log(undisturbed)
    verify(*load_checkpoint(killed), killed)


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_checkpoint_that_was_being_saved_is_passed_over(tmp_path, recipe, cached, damage):
    _, cache = cached()
    wanted, output = load_recipe(recipe()), tmp_path / "run"
    train_from_cache(wanted, cache, output, {}, CLASSES)
    expected, rows = head(output), log(output)
    for path in output.iterdir():  # back to the moment of saving step 20
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    state = output / "checkpoint-20" / "trainer_state.json"
    state.unlink() if damage == "missing" else state.write_text(state.read_text()[:100])
    (output / "checkpoint-20" / "optimizer.pt").write_bytes(b"")
    (output / "final").mkdir()
    train_from_cache(wanted, cache, output, {}, CLASSES)
    torch.testing.assert_close(head(output), expected, atol=0, rtol=0)
    assert log(output) == rows


@pytest.mark.parametrize("moment", ["after the last step", "after an earlier one"])
def test_killed_between_checkpoints_and_the_end(tmp_path, recipe, cached, moment, monkeypatch):
    """Steps end within an epoch and between two evaluations, where the Trainer alone would take one step more and log others."""
    data, cache = cached(70)
    wanted = load_recipe(
        recipe(training={"max_steps": 22, "lr_scheduler_type": "constant", "evaluate_steps": 3, "save_steps": 5})
    )
    output = tmp_path / "run"
    train_from_cache(wanted, cache, output, {"small": str(data)}, CLASSES)
    expected, rows = head(output), log(output)
    assert rows[-1]["step"] == "22" and rows[-1]["loss"] and rows[-1]["eval_small_mean_uar"]
    for path in output.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    if moment == "after an earlier one":
        shutil.rmtree(output / "checkpoint-22")
    (output / "checkpoint-old").mkdir()
    (tmp_path / "somewhere").mkdir()
    monkeypatch.chdir(tmp_path / "somewhere")
    train_from_cache(wanted, cache, output, {"small": str(data)}, CLASSES)
    torch.testing.assert_close(head(output), expected, atol=0, rtol=0)
    assert log(output) == rows
    assert list((tmp_path / "somewhere").iterdir()) == []  # TensorBoard's logs stay with the run too


def test_a_finished_run_is_left_alone_and_another_recipe_refused(tmp_path, recipe, cached, capsys):
    _, cache = cached()
    wanted, output = load_recipe(recipe()), tmp_path / "run"
    train_from_cache(wanted, cache, output, {}, CLASSES)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    train_from_cache(wanted, cache, output, {}, CLASSES)
    assert "is finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    with pytest.raises(ValueError, match=r"recipe.training.seed 0, now 1"):
        train_from_cache(load_recipe(recipe(), ["training.seed=1"]), cache, output, {}, CLASSES)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        train_from_cache(wanted, cache, tmp_path / "thesis", {}, CLASSES)


def test_a_run_of_version_0_1_is_recognised_by_its_old_words(tmp_path, recipe, cached, capsys):
    _, cache = cached()
    settings = {
        "head_init": "clip",
        "wise_ft_alpha": 0.6,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2,
    }
    wanted, output = load_recipe(recipe(training=settings)), tmp_path / "run"
    train_from_cache(wanted, cache, output, {}, CLASSES)
    begun = yaml.safe_load((output / "recipe.yaml").read_text())
    training = begun["recipe"]["training"]
    for name in ("head_init", "wise_ft_alpha", "center_teacher", "max_steps", "lr_scheduler_type"):
        del training[name]
    training |= {"start": "clip", "keep": 0.4, "centre": False, "steps": 20, "schedule": "constant"}
    (output / "recipe.yaml").write_text(yaml.safe_dump(begun))
    train_from_cache(wanted, cache, output, {}, CLASSES)
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"recipe.training.wise_ft_alpha 0.6, now 1.0"):
        train_from_cache(load_recipe(recipe(training=settings | {"wise_ft_alpha": 1.0})), cache, output, {}, CLASSES)


def test_a_mistake_does_not_block_the_folder(tmp_path, recipe, cached):
    data, cache = cached()
    wanted, output = load_recipe(recipe()), tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train_from_cache(wanted, cache, output, {"small": str(tmp_path / "nowhere")}, CLASSES)
    train_from_cache(wanted, cache, output, {"small": str(data)}, CLASSES)
    assert (output / "config.json").exists()
