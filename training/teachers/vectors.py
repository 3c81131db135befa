"""Vectors that were computed elsewhere, in place of a teacher."""

from __future__ import annotations

import numpy as np
import torch

from .base import Teacher


class VectorTeacher(Teacher):
    """Vectors that were computed elsewhere, checked."""

    reads = frozenset({"column"})

    def embed(self, items: list, instruction: str) -> torch.Tensor:
        rows = []
        for index, item in enumerate(items):
            try:
                row = np.asarray(item)
            except ValueError:  # a list of lists of different lengths
                row = np.asarray(None)
            if row.ndim != 1 or row.dtype.kind not in "iuf" or not row.size:
                raise ValueError(
                    f"column {self.column!r}: expected a list of numbers for item {index}, got {item!r:.60}"
                )
            if row.size != (rows or [row])[0].size:
                raise ValueError(
                    f"column {self.column!r}: item {index} has {row.size} numbers and item 0 has {rows[0].size}; "
                    "all vectors must be of one length"
                )
            rows.append(row.astype(np.float64))
        return torch.from_numpy(np.stack(rows))  # (B, H)
