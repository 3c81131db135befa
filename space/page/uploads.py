"""The folder that uploads go to: how much fits in, how long it is kept, and its end with the run."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT_MINUTES = 10
SWEPT_SECONDS = 60
KEPT_SECONDS = 60 * KEPT_MINUTES - SWEPT_SECONDS  # a file may just have missed a sweep
_MEASURED_SECONDS = 5  # between two looks at the folder
_ENTRY = 4096  # what a disk needs for a file or folder besides its bytes, about


@contextmanager
def upload_folder(kept: float = KEPT_SECONDS, swept: float = SWEPT_SECONDS) -> Iterator[Path]:
    """A folder of this run alone. Every ``swept`` seconds, files older than ``kept`` are deleted.

    Gradio's own ``delete_cache`` knows neither the images that agents send nor uploads that broke
    off, and at the end Gradio deletes nothing as long as a visitor is connected.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()

    def sweep() -> None:
        while not stopped.wait(swept):
            _delete(Path(folder), kept)

    with tempfile.TemporaryDirectory(prefix="expclip-", dir=parent) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        sweeper = threading.Thread(target=sweep, daemon=True)
        sweeper.start()
        try:
            yield Path(folder)
        finally:
            stopped.set()
            sweeper.join()


class UploadQuota:
    """At most ``limit`` bytes in the folder, so that visitors cannot fill the disk between two sweeps.

    What arrives is counted beside what was found, so it counts twice rather than not at all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found = self._arriving = self._arrived = 0
        self._looked = -math.inf

    async def fits(self, size: int) -> bool:
        """Whether ``size`` bytes more fit."""
        if time.monotonic() - self._looked > _MEASURED_SECONDS:
            self._looked = time.monotonic()
            arrived = self._arrived
            self._found = await asyncio.to_thread(_bytes_below, os.environ["GRADIO_TEMP_DIR"])
            self._arrived -= arrived  # they were found
        return self._found + self._arrived + self._arriving + size <= self._limit

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """While ``size`` bytes arrive."""
        size += 2 * _ENTRY
        self._arriving += size
        try:
            yield
        finally:
            self._arriving -= size
            self._arrived += size


def _bytes_below(folder: str) -> int:
    total = 0
    for parent, folders, files in os.walk(folder):
        total += _ENTRY * (len(folders) + len(files))
        for name in files:
            with suppress(FileNotFoundError):  # swept meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _delete(folder: Path, kept: float) -> None:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_ctime > kept:
                path.unlink()
        except FileNotFoundError:  # Gradio was faster
            continue
