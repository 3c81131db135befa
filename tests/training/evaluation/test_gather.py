"""What processes of a benchmark send each other: features once, not every row with its batch."""

from __future__ import annotations

import pickle

import torch

from training.evaluation import run as evaluation


def test_features_are_sent_once(monkeypatch):
    sent = []

    def gather(shared, mine):  # as torch does it, from the other process nothing but an error
        sent.append(len(pickle.dumps(mine)))
        shared[:] = [pickle.loads(pickle.dumps(mine)), ([], (), {1: "OSError: no image"})]

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    batches = torch.randn(4, 64, 32)
    found = {128 * i + 2 * j: row for i, batch in enumerate(batches) for j, row in enumerate(batch)}
    features, errors = evaluation._gathered(found, {0: "ValueError: no face"})
    assert sent[0] < 1.2 * batches.nbytes
    assert list(features) == list(found) and errors == {0: "ValueError: no face", 1: "OSError: no image"}
    torch.testing.assert_close(torch.stack(list(features.values())), batches.flatten(0, 1), atol=0, rtol=0)
