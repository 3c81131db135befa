"""One run at a time in an output folder; the second is refused before it computes or writes anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from training.processes import rank

_NO_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
)  # file systems that keep none; runs on them are the user's to keep apart


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Makes ``folder`` where it is missing and holds it for this process. Each process of torchrun holds its own number of it.

    Raises BlockingIOError while another run holds it, another OSError where nothing can be written there. The system lets go when the
    process ends, in whatever way, so a killed run stops nobody.
    """
    lock, made = folder / f".lock-{rank()}", not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held(lock)
    except BlockingIOError:
        raise BlockingIOError(f"another run is writing to {folder}; wait for it or choose another folder") from None
    except OSError as error:
        raise type(error)(f"{folder} cannot be written to ({error.strerror}); choose another folder") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held; a checkpoint is published without it
        os.close(file)
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()  # a run that was refused leaves nothing


def _held(lock: Path) -> int:
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
            if lock.exists() and os.path.samestat(os.fstat(file), lock.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder removed it between our opening and locking it


def _lock(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows keeps no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
