"""Batches come in order with what was read of them, one batch is read ahead, and errors arrive with their batch."""

from __future__ import annotations

import time

import pytest

from training.data.read_ahead import read_ahead


def test_order_is_kept_and_one_batch_is_read_ahead():
    read = []

    def slowest_first(item: int) -> int:
        time.sleep(0.02 * (3 - item % 3))
        read.append(item)
        return -item

    batches = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    found = []
    for items, contents in read_ahead(slowest_first, batches):
        found.append((items, contents))
        assert max(read) < 3 * (len(found) + 1)  # nothing of the batch after the next
    assert found == [(items, [-item for item in items]) for items in batches]
    assert list(read_ahead(slowest_first, [])) == []


def test_an_error_arrives_with_its_batch():
    def memory_ends(item: int) -> int:
        if item == 3:
            raise MemoryError("at item 3")
        return item

    batches = read_ahead(memory_ends, [[0, 1], [2, 3]])
    assert next(batches) == ([0, 1], [0, 1])
    with pytest.raises(MemoryError, match="at item 3"):
        next(batches)
