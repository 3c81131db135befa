"""The rows of an unfinished `expclip classify`, in a file beside its output that grows as it goes.

`faces.csv.unfinished` holds JSON lines: what the run is, then rows, and a line for each path that is done, or
for how far a table of many images is. A run that was stopped, in whatever way, resumes after the last of
these; the output itself is written from it, whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..media.table import Row
from ..system.files import sweep, sync_folder, written_to
from ..system.lock import held

_HEAD = b'{"run": {'
_SYNC_SECONDS = 1.0  # what a power cut may take


class Journal:
    """Opens the journal of an output, new or left by an earlier run, and keeps others from writing either until `close`.

    Args:
        output: the file that the rows become.
        identity: what is the same for runs whose rows may stand in one table; anything JSON can hold.
        overwrite: the output may be there.

    Attributes:
        resumed: whether there was an earlier run.
        done: paths that need no more work.
        reached: the number of rows that are done of tables that are not.

    Raises:
        BlockingIOError: while another run writes the output; nothing of it is touched.
        FileExistsError: where the output is there, finished, and not to be overwritten.
        ValueError: where the journal was left by a run that differs.
        OSError: where nothing can be written.
    """

    def __init__(self, output: Path, identity: dict[str, Any], overwrite: bool = False) -> None:
        self.path = output.with_name(output.name + ".unfinished")
        self.done: set[str] = set()
        self.reached: dict[str, int] = {}
        self._made = [folder for folder in output.parents if not folder.exists()]
        with ExitStack() as stack:
            stack.callback(self._unmake)
            stack.enter_context(held(output.with_name(f".{output.name}.lock"), output, "--output"))
            self.resumed = _begun(self.path)
            if os.path.lexists(output) and not overwrite and not self.resumed:
                raise FileExistsError(
                    f"{output} is there already; add --overwrite to replace it, or choose another --output"
                )
            sweep(output)
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
                raise ValueError(
                    f"{self.path} is no regular file, and rows are kept there; remove it, or choose another --output"
                )
            self._file = stack.enter_context(self.path.open("a+b"))
            with written_to(self.path):
                self._resume(json.loads(json.dumps(identity)))
                self._sync()
                sync_folder(output.parent)
            self._holds = stack.pop_all()
        self._kept = bool(self.done or self.reached)

    def _resume(self, identity: dict[str, Any]) -> None:
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
                path, count = entry.get("reached", ("", 0))
                if not isinstance(path, str) or not isinstance(count, int):
                    raise ValueError("no number of rows")
            except (ValueError, TypeError, RecursionError) as error:
                message = f"{self.path} is damaged after {whole} bytes; remove it to start again"
                raise ValueError(message) from error
            if "run" in entry:
                differing = [name for name, value in identity.items() if entry["run"].get(name) != value]
                # What "auto" took is not in the command.
                if differing == ["detector"] and (before := entry["run"].get("detector")) and identity["detector"]:
                    raise ValueError(
                        f"{self.path} was left by a run whose faces {before} found, and here it would be {identity['detector']}; "
                        f"add --detector {before} to finish it, or remove the file"
                    )
                if differing:
                    raise ValueError(
                        f"{self.path} was left by a run with another {', '.join(differing)}; "
                        "repeat that command to finish it, or remove the file"
                    )
                whole += len(line)
            elif "done" in entry:
                self.done.add(entry["done"])
                self.reached.pop(entry["done"], None)
                whole = self._file.tell()
            elif "reached" in entry:
                self.reached[path] = count
                whole = self._file.tell()
        self._file.truncate(whole)
        if not whole:
            self._write({"run": identity})

    def add(self, rows: list[Row], done: str | None = None, reached: tuple[str, int] | None = None) -> None:
        """Keeps rows.

        Args:
            rows: of one path.
            done: that path, once these are its last.
            reached: or the path of a table and how many of its rows are done with these.
        """
        self._kept = True
        with written_to(self.path):
            for row in rows:
                self._write({"row": asdict(row)})
            if done is not None:
                self._write({"done": done})
            elif reached is not None:
                self._write({"reached": reached})
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
        """Lets others write the output. Returns whether rows are left to resume from; a run that is `finished` leaves none."""
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

    def _unmake(self) -> None:
        """Removes the folders that were made for a run that leaves nothing in them."""
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def _begun(journal: Path) -> bool:
    """Whether an earlier run said what it is, in a whole line. An empty file stands for none."""
    if not journal.is_file():
        return False
    with journal.open("rb") as file:
        line = file.readline()
    return line.startswith(_HEAD) and line.endswith(b"\n") and b"\0" not in line
