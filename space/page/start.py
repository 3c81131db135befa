"""Starts the server so that nothing of its visitors outlives it, and little outlives their visits."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .inputs import KEPT_SECONDS, SWEPT_SECONDS

# mallopt's numbers in glibc's malloc.h, which are part of its binary interface
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _PERTURB, _ARENA_MAX = -1, -3, -6, -8


def start(model: str | None = None, host: str | None = None, port: int | None = None) -> None:
    """Serves the page until it is stopped.

    Args:
        model: checkpoint folder or Hub id; by default ``EXPCLIP_MODEL``, else the embedded mini.
        host, port: where to listen; by default ``GRADIO_SERVER_NAME`` and ``GRADIO_SERVER_PORT``.

    Raises OSError or ValueError where the checkpoint or the port cannot be used, and ImportError without Gradio.
    """
    # A host stops its apps with SIGTERM; this one then ends as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _free_at_once()
    _open_many()
    with upload_folder():
        try:
            from .serve import serve  # Gradio reads where uploads go when it is imported
        except ImportError as error:
            raise ImportError(f"the demo needs more packages ({error}): pip install 'expclip[space]'") from error
        serve(model, host, port)


def _free_at_once() -> None:
    """Makes glibc overwrite what is freed and give it back to the system. By itself it keeps both the memory and what stands in it,
    more for each thread, until the memory is used again. Other systems' libraries are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_MMAP_THRESHOLD, 2**20),
            (_TRIM_THRESHOLD, 2**24),
            (_PERTURB, 0x5A),
            (_ARENA_MAX, 2),
        ):
            mallopt(option, value)


def _open_many() -> None:
    """Lets this process hold as many connections and files as the system allows. Often the limit is 1024 at first, which connections
    that say nothing would use up: the server waits for them without end, and Gradio does not pass on a limit for them."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS says "without limit" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def upload_folder(kept: float = KEPT_SECONDS, swept: float = SWEPT_SECONDS) -> Iterator[Path]:
    """A folder of this run alone for what visitors send. Every ``swept`` seconds, files older than ``kept`` are deleted.

    Gradio's own ``delete_cache`` knows neither the pictures that agents send nor uploads that broke off, and at the end Gradio deletes
    nothing as long as a visitor is connected.
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


def _delete(folder: Path, kept: float) -> None:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_ctime > kept:
                path.unlink()
        except FileNotFoundError:  # Gradio was faster
            continue
