"""What these tests need: one CUDA device, or they are skipped and say so."""

import pytest
import torch

from tests.training.conftest import recipe  # noqa: F401


@pytest.fixture(autouse=True, scope="session")
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
