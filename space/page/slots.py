"""Slots for work that costs memory or time: so many at once, so many that wait, and none for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """
    Args:
        count: how many work at the same time.
        waiting: how many more may wait; who comes then is refused at once.
        seconds: how long one waits before being refused.
        what: what there is too much of, for the message.
    """

    def __init__(self, count: int, waiting: int, seconds: float, what: str) -> None:
        self._free, self._room, self._seconds, self._what = count, count + waiting, seconds, what
        self._line: list[object] = []  # first come, first served: threads that wake up do not overtake
        self._changed = threading.Condition()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds a slot. Raises ValueError where there is none in time."""
        self._take()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._room += 1
                self._changed.notify_all()

    def _take(self) -> None:
        mine, deadline = object(), time.monotonic() + self._seconds
        busy = ValueError(f"busy: {self._what} at the moment; try again soon")
        with self._changed:
            if self._room == 0:
                raise busy
            self._room -= 1
            self._line.append(mine)
            ready = self._changed.wait_for(
                lambda: self._line[0] is mine and self._free > 0, deadline - time.monotonic()
            )
            self._line.remove(mine)
            self._changed.notify_all()  # the next in line is first now
            if not ready:
                self._room += 1
                raise busy
            self._free -= 1
