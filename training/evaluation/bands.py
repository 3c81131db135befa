"""What people noted of each sample becomes groups: words as they are, numbers in bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from numbers import Real


def band_names(bands: Sequence[float]) -> list[str]:
    """``(18, 30)`` -> ``under 18``, ``18 to under 30``, ``30 and over``. Raises ValueError for numbers
    that do not rise."""
    if not all(map(isfinite, bands)) or any(low >= high for low, high in pairwise(bands)):
        raise ValueError(f"--bands {','.join(f'{band:g}' for band in bands)}: give numbers that rise, such as 18,30,45")
    between = [f"{low:g} to under {high:g}" for low, high in pairwise(bands)]
    return [f"under {bands[0]:g}", *between, f"{bands[-1]:g} and over"]


def in_bands(values: Sequence, bands: Sequence[float], column: str, where: Sequence[str]) -> list[str | None]:
    """The group of each sample, None where nothing is noted.

    Args:
        values: what the column holds.
        bands: where the next band begins; none for words or for a group a number.
        where: of each sample, what an error calls it.

    Raises ValueError naming the first sample whose value is no number.
    """
    groups: list[str | None] = []
    for value, name in zip(values, where):
        if value is None or value != value:  # not a number
            groups.append(None)
        elif not bands:
            groups.append(str(value))
        elif isinstance(value, Real) and not isinstance(value, bool):
            groups.append(band_names(bands)[sum(value >= band for band in bands)])
        else:
            raise ValueError(f"{name}: {column} is {value!r}, and --bands are for numbers; leave them out")
    return groups
