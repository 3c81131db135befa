"""The rows of an unfinished ``expclip classify``, in a file beside its output that grows as it goes.

``faces.csv.unfinished`` holds JSON lines: what the run is, then rows, and a line for each path that is done. A run that was stopped, in
whatever way, goes on after the last of these; the output itself is written from it, whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..media.classify import Row
from ..system.files import sweep, sync_folder, written_to
from ..system.lock import held

_HEAD = b'{"run": {'
_SYNC_SECONDS = 1.0  # what a power cut may take


class Journal:
    """Opens the journal of ``output``, new or left by an earlier run of the same ``identity`` (anything JSON can hold).

    Nobody else writes ``output`` until ``close``: of two runs, one is refused before it touches anything of the other. Raises
    BlockingIOError then, FileExistsError where ``output`` is there, finished, and not to ``overwrite``; ValueError where the journal was
    left by a run that differs, another OSError where nothing can be written. ``resumed`` says whether there was an earlier run, ``done`` holds the
    paths that need no more work.
    """

    def __init__(self, output: Path, identity: dict[str, Any], overwrite: bool = False) -> None:
        self.path = output.with_name(output.name + ".unfinished")
        with ExitStack() as stack:
            stack.enter_context(held(output.with_name(f".{output.name}.lock"), output, "--output"))
            self.resumed = self.path.exists()
            if os.path.lexists(output) and not overwrite and not self.resumed:
                raise FileExistsError(
                    f"{output} is there already; add --overwrite to replace it, or choose another --output"
                )
            sweep(output)
            if self.path.is_symlink() or (self.resumed and not self.path.is_file()):
                raise ValueError(
                    f"{self.path} is no regular file, and rows are kept there; remove it, or choose another --output"
                )
            self._file = stack.enter_context(self.path.open("a+b"))
            with written_to(self.path):
                self.done = self._resume(json.loads(json.dumps(identity)))
                self._sync()
                sync_folder(output.parent)
            self._holds = stack.pop_all()
        self._kept = bool(self.done)

    def _resume(self, identity: dict[str, Any]) -> set[str]:
        done: set[str] = set()
        whole = 0
        self._file.seek(0)
        head = self._file.read(len(_HEAD)).rstrip(b"\0")
        if not _HEAD.startswith(head):
            raise ValueError(f"{self.path} was not left by this command; remove it, or choose another --output")
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n") or b"\0" in line:
                break  # the run was killed, or lost its power, while it wrote this one
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict) or not isinstance(entry.get("run", {}), dict):
                    raise ValueError("no entry")
                if not isinstance(entry.get("done", ""), str):
                    raise ValueError("no path")
            except (ValueError, RecursionError) as error:
                message = f"{self.path} is damaged after {whole} bytes; remove it to start again"
                raise ValueError(message) from error
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
        self._kept = True
        with written_to(self.path):
            for row in rows:
                self._write({"row": asdict(row)})
            if done is not None:
                self._write({"done": done})
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self._sync()

    def rows(self) -> Iterator[Row]:
        """All rows of finished and unfinished paths, read from the file."""
        self._file.flush()
        with self.path.open("rb") as file:
            for line in file:
                entry = json.loads(line)
                if "row" in entry:
                    yield Row(**entry["row"])

    def close(self, finished: bool) -> bool:
        """Lets others write the output. Returns whether there are rows to go on from; otherwise, and where the run is ``finished``,
        nothing is left."""
        keep = self._kept and not finished
        with self._holds, written_to(self.path):
            try:
                if keep:
                    self._sync()
            finally:
                self._file.close()
                if not keep:
                    os.unlink(self.path)
        return keep

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()
