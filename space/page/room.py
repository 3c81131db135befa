"""Room for what visitors send, so that they cannot fill the disk between two sweeps."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MEASURED_SECONDS = 5  # between two looks at the folder
_ENTRY = 4096  # what a disk needs for a file or folder besides its bytes, about


class Room:
    """The upload folder's room. What arrives is counted beside what was found, so it counts twice rather than not at all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found = self._arriving = self._arrived = 0
        self._looked = -math.inf

    async def has(self, size: int) -> bool:
        """Whether ``size`` bytes more fit."""
        if time.monotonic() - self._looked > _MEASURED_SECONDS:
            self._looked = time.monotonic()
            arrived = self._arrived
            self._found = await asyncio.to_thread(_bytes_below, os.environ["GRADIO_TEMP_DIR"])
            self._arrived -= arrived  # they were found
        return self._found + self._arrived + self._arriving + size <= self._most

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """While ``size`` bytes arrive."""
        size += 2 * _ENTRY
        self._arriving += size
        try:
            yield
        finally:
            self._arriving -= size
            self._arrived += size


def _bytes_below(folder: str) -> int:
    held = 0
    for parent, folders, files in os.walk(folder):
        held += _ENTRY * (len(folders) + len(files))
        for name in files:
            with suppress(FileNotFoundError):  # swept meanwhile
                held += os.lstat(os.path.join(parent, name)).st_size
    return held
