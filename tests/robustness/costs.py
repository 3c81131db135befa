"""What something costs: time and memory."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails what takes longer, also where it waits for something that never comes."""

    def stop(*_):
        pytest.fail(f"not done within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def peak_megabytes() -> Iterator[SimpleNamespace]:
    """How much more memory the process held at once than before, in ``megabytes`` afterwards."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory can be measured on Linux only")
    before, found = _held("VmRSS"), SimpleNamespace()
    try:
        yield found
    finally:
        found.megabytes = (_held("VmHWM") - before) / 1024


def _held(what: str) -> int:
    """Kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))
