"""One run at a time, by the system's lock on a file: the second is refused before it computes or writes anything.

The system lets go when the process ends, in whatever way, so a killed run stops nobody; the file it leaves behind is locked again.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .files import sweep_folder
from .terminal import printable

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # what file systems say that keep none
_PATIENCE = 0.2  # seconds, for a file that its holder removed between our opening and locking it: it is opened again


@contextmanager
def held(lock: Path, what: Path, name: str) -> Iterator[None]:
    """Holds the file ``lock`` for this process and removes it at the end, so that a folder is published without it.

    Raises BlockingIOError while another run holds it, another OSError where no file can be made there: both say that ``what`` cannot be
    written to, and to choose another ``name``. On a file system that keeps no locks the run goes on, and says so.
    """
    # Not filelock's soft lock, where there are none: the mark of a run that was killed would stop the next.
    system = FileLock(lock, timeout=_PATIENCE, poll_interval=_PATIENCE / 10, fallback_to_soft=False)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        system.acquire()
    except Timeout as error:
        raise BlockingIOError(f"another run is writing to {what}; wait for it or choose another {name}") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise type(error)(f"{what} cannot be written to ({error.strerror}); choose another {name}") from error
        where = printable(str(lock.parent))
        print(f"{where} keeps no locks ({error.strerror}); see that no other run writes there", file=sys.stderr)
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held; Windows removes it when it lets go
            lock.unlink()
        system.release()


@contextmanager
def only_run(folder: Path, rank: int = 0) -> Iterator[None]:
    """Makes ``folder`` where it is missing and holds it for this process: of several that work together each its ``rank`` of it.

    Raises BlockingIOError while another run holds it, another OSError where nothing can be written there.
    """
    made = not folder.exists()
    try:
        with held(folder / f".lock-{rank}", folder, "folder"):
            sweep_folder(folder)
            yield
    finally:
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()  # a run that was refused leaves nothing
