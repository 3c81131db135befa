import pytest
import torch
from torch import nn

from training.mini.loop import fit


class Stop(Exception):
    pass


def train(state, stop_at=None):
    torch.manual_seed(0)
    module, seen = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)), []

    def loss(generator):
        seen.append(1)
        if stop_at is not None and len(seen) > stop_at:
            raise Stop
        x = torch.randn(16, 4, generator=generator)
        return (module(x).float() - x.sum(1, keepdim=True)).square().mean()

    options = {"steps": 20, "learning_rate": 1e-2, "weight_decay": 0.1, "seed": 3, "save_every": 5}
    fit("test", module, loss, state=state, **options)
    return module.state_dict(), len(seen)


def test_a_stopped_stage_resumes_bit_for_bit(tmp_path):
    whole, steps = train(tmp_path / "whole.pt")
    assert steps == 20
    with pytest.raises(Stop):
        train(tmp_path / "cut.pt", stop_at=13)
    resumed, steps = train(tmp_path / "cut.pt")
    assert steps == 10, "it goes on from the last save, at step 10"
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert train(tmp_path / "cut.pt")[1] == 0, "nothing is left to do"


def test_a_diverged_stage_stops(tmp_path):
    module = nn.Linear(1, 1)
    options = {"steps": 3, "learning_rate": 0.1, "weight_decay": 0.0, "state": tmp_path / "s.pt", "seed": 0}
    with pytest.raises(FloatingPointError, match="lower its learning rate"):
        fit("test", module, lambda generator: module.weight.sum() * float("nan"), **options)
    assert not (tmp_path / "s.pt").exists()
