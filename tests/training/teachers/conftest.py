"""Fixtures: a BLIP-2 and an InstructBLIP with T5, and faces."""

import pytest

from tests.conftest import picture
from tests.training.teachers.models import STOCK, write_blip


@pytest.fixture(scope="session")
def blips(tmp_path_factory):
    return {kind: write_blip(tmp_path_factory.mktemp(kind), kind) for kind in STOCK}


@pytest.fixture(scope="module")
def faces():
    return [picture(seed, size) for seed, size in enumerate([(50, 40), (28, 28), (20, 33)])]
