"""Recipes: the ones that come with the code, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.recipe import load_recipe
from training.teachers.registry import check

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_are_whole(path):
    check(load_recipe(path).teacher)


@pytest.mark.parametrize(
    ("name", "clip"),
    [("b32", "base-patch32"), ("b16", "base-patch16"), ("l14", "large-patch14")],
)
def test_the_papers_recipes_say_what_the_paper_did(name, clip):
    recipe = load_recipe(RECIPES / f"paper-{name}.yaml")
    assert (recipe.clip.model, recipe.clip.preprocessing) == (f"openai/clip-vit-{clip}", "paper")
    teacher, training = recipe.teacher, recipe.training
    assert (teacher.kind, teacher.model) == ("blip2", "Salesforce/blip2-flan-t5-xxl")
    assert (teacher.preprocessing, teacher.pooling) == ("paper", "all")
    assert teacher.instruction == (
        "Please play the role of a facial action describer. "
        "Objectively describe the detailed facial actions of the person in the image."
    )
    assert (training.optimizer, training.learning_rate, training.momentum, training.weight_decay) == (
        "sgd",
        1e-3,
        0.9,
        1e-4,
    )
    assert (training.batch_size, training.epochs, training.lr_scheduler_type, training.seed) == (512, 5, "constant", 1)
    assert (training.center_teacher, training.head_init, training.wise_ft_alpha, training.logit_scale) == (
        False,
        "random",
        1,
        None,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.sed=1", "unknown key sed; known are batch_size"),
        ("training.learning_rate=1e-3", r"expected float .*write 1.0e-3"),
        ("training.learning_rate=fast", "expected float"),
        ("training.seed=true", "seed is True; expected int"),
        ("training.lr_scheduler_type=step", "expected 'constant' | 'constant_with_warmup' | 'linear' | 'cosine'"),
        ("training.max_steps=null", "training needs epochs or max_steps"),
        ("training.save_steps=7", "save_steps .7. must be a multiple of log_steps .5."),
        ("training.batch_size=1", "training.batch_size is 1; it must be at least 2"),
        ("training.wise_ft_alpha=0.5", "there is nothing in a random head to keep"),
        ("training.wise_ft_alpha=1.5", "must be above 0 and at most 1"),
        ("training.warmup_steps=3", "choose constant_with_warmup"),
        ("training.keep=0.4", "training: keep of version 0.1 is now wise_ft_alpha; write wise_ft_alpha: 0.6$"),
        ("training.keep=much", "write wise_ft_alpha: 'much'"),
        ("training.start=clip", "start of version 0.1 is now head_init; write head_init: 'clip'"),
        ("training.centre=true", "centre of version 0.1 is now center_teacher; write center_teacher: True"),
        ("training.steps=200", "steps of version 0.1 is now max_steps; write max_steps: 200"),
        (
            "training.schedule=constant",
            "schedule of version 0.1 is now lr_scheduler_type; write lr_scheduler_type: 'constant'",
        ),
        ("teacher.instruction=[]", "empty list"),
        ("clip=x", "expected section.key=value"),
        ("training.seed", "expected section.key=value"),
        ("training.seed=[", "not YAML"),
    ],
)
def test_mistakes_are_named(recipe, override, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe(), [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "expected a mapping"),
        ("clip: {model: x}", "teacher is missing"),
        ("clip: {}\nteacher: {kind: vectors}", "model is missing"),
        ("clip: x\nteacher: {kind: vectors}", "expected a mapping, got 'x'"),
        ("clip: {model: x}\nteacher: {kind: vectors}\ntrainin: {}", "unknown key trainin"),
        ("clip: {model: x\n", "not YAML"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    (tmp_path / "r.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "override",
    ["training.log_steps=0", "training.save_steps=0", "training.logit_scale=0", "training.momentum=1", "training.seed=99999999999",
     "training.weight_decay=-1", "training.learning_rate=.inf"],
)  # fmt: skip
def test_senseless_numbers_are_refused(recipe, override):
    with pytest.raises(ValueError, match=override.partition("=")[0]):
        load_recipe(recipe(), [override])


def test_the_constant_schedule_of_version_0_1_had_a_warm_up(recipe):
    with pytest.raises(ValueError, match="write lr_scheduler_type: 'constant_with_warmup'"):
        load_recipe(recipe(), ["training.schedule=constant", "training.warmup_steps=3"])


def test_recipes_that_come_along_have_names():
    assert load_recipe("mini") == load_recipe(RECIPES / "mini.yaml")
    with pytest.raises(
        FileNotFoundError, match="no recipe maxi: give a YAML file, or one of flip-b16, .*mini, paper-b16"
    ):
        load_recipe("maxi")


def test_overrides_are_read_as_yaml(recipe):
    loaded = load_recipe(
        recipe(), ["training.max_steps=null", "training.epochs=2", "teacher.instruction=[a, b]", "faces.margin=1"]
    )
    assert (loaded.training.max_steps, loaded.training.epochs, loaded.faces.margin) == (None, 2, 1.0)
    assert loaded.teacher.instructions == ["a", "b"]
    for value, expected in (("8bit", "8bit"), ("null", None)):
        assert load_recipe(recipe(), [f"teacher.quantization={value}"]).teacher.quantization == expected
    with pytest.raises(ValueError, match="expected '8bit' | '4bit' | NoneType"):
        load_recipe(recipe(), ["teacher.quantization=2bit"])
