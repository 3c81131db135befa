"""Vectors that somebody else has computed."""

import re

import numpy as np
import pytest
import torch

from training.recipe import TeacherRecipe
from training.teachers.registry import load_teacher


def test_vectors():
    vectors = load_teacher(TeacherRecipe("vectors"))
    assert vectors.column == "embedding" and load_teacher(TeacherRecipe("vectors", column="llm")).column == "llm"
    got = vectors([[1, 2], np.array([3.5, 4]), torch.tensor([5.0, 6.0])], "")
    assert torch.equal(got, torch.tensor([[1, 2], [3.5, 4], [5, 6]])) and got.dtype == torch.float32


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([[1.0, 2.0], [1.0]], "item 1 has 1 numbers and item 0 has 2"),
        ([[1.0], ["a"]], "list of numbers for item 1, got ['a']"),
        ([[1.0], [None]], "list of numbers for item 1"),
        ([[1.0], None], "list of numbers for item 1, got None"),
        ([[[1.0], [2.0, 3.0]]], "list of numbers for item 0"),
        ([[[1.0]]], "list of numbers for item 0"),
        ([[]], "list of numbers for item 0, got []"),
        ([[True]], "list of numbers for item 0"),
        ([[1.0], [float("nan")], [2.0], [float("inf")]], "not finite for items [1, 3] of 4"),
        ([[1e300]], "not finite for items [0]"),
    ],
)
def test_vectors_that_are_none(items, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_teacher(TeacherRecipe("vectors"))(items, "")
