"""Recipes as no one should write them: any YAML is a recipe, or an error in one line that names the file and the key."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.robustness.commands import refusal
from training.recipe import ClipRecipe, FacesRecipe, Recipe, TeacherRecipe, TrainingRecipe, load_recipe

SECTIONS = {"clip": ClipRecipe, "teacher": TeacherRecipe, "faces": FacesRecipe, "training": TrainingRecipe}
WHOLE = {"clip": {"model": "expclip-mini"}, "teacher": {"kind": "vectors"}, "training": {"max_steps": 5}}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**300, 10**320),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
known_keys = st.sampled_from(
    [(name, field.name) for name, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
)
keys = known_keys | st.tuples(st.sampled_from([*SECTIONS]), st.text(max_size=8))


def read(content: bytes | str) -> Recipe | str:
    """The recipe, or what is said against it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            return load_recipe(path)
        except (ValueError, OSError) as error:
            assert str(path) in str(error)
            assert "\n" not in str(error).replace(str(path), "") and len(str(error)) < 1000
            return str(error)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60), values.map(yaml.safe_dump)))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_anything_is_refused_in_one_line(content):
    assert isinstance(read(content), str)  # nothing of this has a CLIP and a teacher


@given(keys, values)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_one_wrong_value_is_named_or_fits_its_field(key, value):
    section, name = key
    content = {**WHOLE, section: {**WHOLE.get(section, {}), name: value}}
    found = read(yaml.safe_dump(content, allow_unicode=True))
    if isinstance(found, str):
        assert section in found and (name in found or "not YAML" in found or not name.isprintable())
        return
    there = getattr(getattr(found, section), name)
    assert there == value
    assert not isinstance(there, float) or math.isfinite(there)


@given(st.sampled_from(["clip", "teacher", "faces", "training"]), values)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_section_that_is_none(section, value):
    found = read(yaml.safe_dump({**WHOLE, section: value}))
    if isinstance(found, str):
        assert section in found or "not YAML" in found
    else:
        assert value == {} and section == "faces"


LAUGHS = "a: &a0 [ha, ha]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12))
MERGES = "x0: &a0 {k: v}\n" + "".join(f"x{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 13))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS + "clip: *a12", "alias"),
        (MERGES, "alias"),
        ("clip: &a [*a]", "alias"),
        ("clip: !!python/object/apply:os.system ['true']\nteacher: {kind: vectors}", "python/object"),
        ("clip: !!python/name:os.system x", "python/name"),
        ("clip:\n\tmodel: x", r"not YAML.*line 2"),
        ("clip: {model: café}".encode("latin-1"), "not YAML: 'utf-8' codec"),
        ("clip: {model: x}".encode("utf-16"), "not YAML"),
        ("", "expected a mapping, got None"),
        ("- clip\n- teacher", "expected a mapping, got .'clip', 'teacher'."),
        ("clip: {model: x}\nclip: {model: y}\nteacher: {kind: vectors}", "'clip' stands twice"),
        ("clip: {model: x, model: y}\nteacher: {kind: vectors}", "'model' stands twice"),
        ("[" * 5000, "not YAML"),
        ("clip: !!bool x", "not YAML"),
        ("clip: !!int ''", "not YAML"),
        ("clip: !!float ''", "not YAML"),
        ("clip: !!timestamp x", "not YAML"),
        ("clip: 2001-99-99", "not YAML"),
        ("clip: !!map x", "not YAML"),
        ("? [a, b]\n: c", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML.*single document"),
        ("clip: {model: x}\nteacher: {kind: 0x" + "f" * 20000 + "}", "kind is a int too long"),
        ("clip: {model: x}\nteacher: {kind: " + "9" * 5000 + "}", "not YAML"),
        ("1: 2", "unknown key 1"),
        ('clip: {model: x, "a\\nb": 1}\nteacher: {kind: vectors}', "unknown key 'a"),
    ],
)  # fmt: skip
def test_known_tricks(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load_recipe(path)
    assert "r.yaml" in refusal("train", path, "--embeddings", tmp_path / "none", "--output-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "-1.0e-9", "1" + "0" * 400, "0x" + "f" * 5000])
def test_numbers_that_are_none(tmp_path, number):
    for place in ("learning_rate", "weight_decay", "momentum", "wise_ft_alpha", "logit_scale"):
        text = yaml.safe_dump({**WHOLE, "training": {"max_steps": 5}}) + f"  {place}: {number}\n"
        assert f"training: {place}" in (found := read(text)) or f"training.{place} is" in found


def test_whole_numbers_beyond_counting():
    for place in (
        "max_steps",
        "epochs",
        "batch_size",
        "warmup_steps",
        "seed",
        "save_steps",
        "log_steps",
        "evaluate_steps",
    ):
        content = {**WHOLE, "training": {"max_steps": 5, place: 10**40}}
        assert f"training.{place} is" in read(yaml.safe_dump(content))


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_overrides_of_any_text(tmp_path_factory, override):
    path = tmp_path_factory.getbasetemp() / "whole.yaml"
    path.write_text(yaml.safe_dump(WHOLE))
    with pytest.raises(ValueError, match=r"override|whole\.yaml"):
        load_recipe(path, [override])


@given(values)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_command_ends_in_one_line(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.yaml"
    path.write_text(
        yaml.safe_dump({"clip": {"model": value}, "teacher": {"kind": value}, "training": {"max_steps": 5}})
    )
    for override in ("training.seed=1", "teacher.kind=vectors"):
        line = refusal(
            "train", path, "--embeddings", folder / "none", "--output-dir", folder / "run", "--override", override
        )
        assert "any.yaml" in line or "no embedding cache" in line
