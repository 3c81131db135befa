"""The sha256 of a folder of weights, computed once: kept in the user's cache beside what tells that
the files are still the same.

The folder itself may be read-only, or is published as it is, so nothing is written there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import cached_assets_path

from modeling_expclip.system.files import write_json

_SETTLED = 2.0  # seconds after which a file that is changed again gets another time of change, on any file system


def folder_digest(folder: Path, endings: tuple[str, ...]) -> str:
    """Hexadecimal sha256 over names, sizes and content of a folder's files with one of ``endings``.

    Of several processes that ask at once, one reads the files and the others wait for its answer.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in endings)
    try:
        kept = cached_assets_path("expclip", namespace="digests")
        known = kept / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"
    except (OSError, ValueError):  # no place to keep anything
        return _hashed(files)
    with _one_at_a_time(known):
        state = _state(files)
        digest = _read(known, state)
        if digest is None:
            began = time.time()
            digest = _hashed(files)
            youngest = max((max(times) for _, _, *times, _ in state), default=0) / 1e9
            # Of a file changed just now, the next change might leave size and times as they are.
            if _state(files) == state and youngest < began - _SETTLED:
                _keep(known, {"folder": str(folder.resolve()), "files": state, "sha256": digest})
        return digest


@contextmanager
def _one_at_a_time(known: Path) -> Iterator[None]:
    lock = FileLock(known.with_suffix(".lock"))
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # the folder is read-only or keeps no locks: each process reads for itself
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _state(files: list[Path]) -> list[list[Any]]:
    """What changes when a file does: name, size, times of its content and of the file itself, and
    its number."""
    found = ((path, path.stat()) for path in files)
    return [[path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for path, stat in found]


def _read(known: Path, state: list[list[Any]]) -> str | None:
    """The digest kept for files of this state; None where none is, or what is there is damaged and
    will be replaced."""
    try:
        content = json.loads(known.read_text(encoding="utf-8"))
        digest = content["sha256"] if content["files"] == state else None
        return digest if isinstance(digest, str) and len(digest) == 64 else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _keep(known: Path, content: dict[str, Any]) -> None:
    try:
        write_json(known, content)
    except OSError:  # read-only or full: the next start reads the files again, no more
        return


def _hashed(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
