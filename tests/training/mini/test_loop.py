import pytest
import torch
from torch import nn

from training.mini.loop import fit
from training.mini.muon import Muon, orthogonal


class Stop(Exception):
    pass


def train(state, stop_at=None, muon=False):
    torch.manual_seed(0)
    module, seen = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)), []

    def loss(generator):
        seen.append(1)
        if stop_at is not None and len(seen) > stop_at:
            raise Stop
        x = torch.randn(16, 4, generator=generator)
        return (module(x).float() - x.sum(1, keepdim=True)).square().mean()

    options = {"steps": 20, "learning_rate": 1e-2, "weight_decay": 0.1, "seed": 3, "save_every": 5}
    options["hidden"] = [module[0].weight] if muon else ()
    fit("test", module, loss, state=state, **options)
    return module.state_dict(), len(seen)


@pytest.mark.parametrize("muon", [False, True])
def test_a_stopped_stage_resumes_bit_for_bit(tmp_path, muon):
    whole, steps = train(tmp_path / "whole.pt", muon=muon)
    assert steps == 20
    with pytest.raises(Stop):
        train(tmp_path / "cut.pt", stop_at=13, muon=muon)
    resumed, steps = train(tmp_path / "cut.pt", muon=muon)
    assert steps == 10, "it goes on from the last save, at step 10"
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert train(tmp_path / "cut.pt", muon=muon)[1] == 0, "nothing is left to do"


def test_a_diverged_stage_stops(tmp_path):
    module = nn.Linear(1, 1)
    options = {"steps": 3, "learning_rate": 0.1, "weight_decay": 0.0, "state": tmp_path / "s.pt", "seed": 0}
    with pytest.raises(FloatingPointError, match="lower its learning rate"):
        fit("test", module, lambda generator: module.weight.sum() * float("nan"), **options)
    assert not (tmp_path / "s.pt").exists()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_a_matrix_keeps_its_directions_and_loses_its_sizes(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonal(matrix) @ v.T
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-4, rtol=0)
    assert turned.diagonal().min() > 0.6 and turned.diagonal().max() < 1.3 < sizes.max() / sizes.min()


def test_muons_steps_are_those_of_torch():
    """But for the half precision of torch's."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(6, 20)) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.01, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        ours.grad = theirs.grad = torch.randn(6, 20)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=3e-3, rtol=0)
