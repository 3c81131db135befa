"""The rows of an unfinished ``expclip classify``, in a file beside its output that grows as it goes.

``faces.csv.unfinished`` holds JSON lines: what the run is, then rows, and a line for each path that is done. A run that was stopped, in
whatever way, goes on after the last of these; the output itself is written from it, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .classify import Row


class Journal:
    """Opens the journal of ``output``, new or left by an earlier run of the same ``identity`` (anything JSON can hold).

    Raises ValueError where it was left by a run that differs, BlockingIOError where another run is writing it.
    ``done`` holds the paths that need no more work.
    """

    def __init__(self, output: Path, identity: dict[str, Any]) -> None:
        self.path = output.with_name(output.name + ".unfinished")
        self._file = self.path.open("a+b")
        try:
            self._lock()
            self.done = self._resume(json.loads(json.dumps(identity)))
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows keeps no such locks
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another run is writing {self.path}; wait for it or choose another --output"
            ) from None

    def _resume(self, identity: dict[str, Any]) -> set[str]:
        done: set[str] = set()
        whole = 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # the run was killed while it wrote this one
            try:
                entry = json.loads(line)
            except ValueError:
                raise ValueError(f"{self.path} is damaged after {whole} bytes; remove it to start again") from None
            if "run" in entry:
                differing = [name for name, value in identity.items() if entry["run"].get(name) != value]
                if differing:
                    raise ValueError(
                        f"{self.path} was left by a run with another {', '.join(differing)}; "
                        "repeat that command to finish it, or remove the file"
                    )
                whole += len(line)
            elif "done" in entry:
                done.add(entry["done"])
                whole = self._file.tell()
        self._file.truncate(whole)
        if not whole:
            self._write({"run": identity})
        return done

    def add(self, rows: list[Row], done: str | None = None) -> None:
        """Rows of a path, and the path once they are its last."""
        for row in rows:
            self._write({"row": asdict(row)})
        if done is not None:
            self._write({"done": done})
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """All rows of finished and unfinished paths, read from the file."""
        self._file.flush()
        with self.path.open("rb") as file:
            for line in file:
                entry = json.loads(line)
                if "row" in entry:
                    yield Row(**entry["row"])

    def close(self, finished: bool) -> None:
        """Closes the file, and removes it where the run is ``finished``."""
        if finished:
            os.unlink(self.path)
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
