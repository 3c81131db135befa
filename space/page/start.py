"""Starts the server so that nothing of its visitors outlives it, and little outlives their visits."""

from __future__ import annotations

import ctypes
import signal

from .connections import raise_connection_limit
from .uploads import upload_folder

# mallopt's numbers in glibc's malloc.h, which are part of its binary interface
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _PERTURB, _ARENA_MAX = -1, -3, -6, -8


def start(model: str | None = None, host: str | None = None, port: int | None = None) -> None:
    """Serves the page until it is stopped.

    Args:
        model: checkpoint folder or Hub id; by default ``EXPCLIP_MODEL``, else the embedded mini.
        host, port: where to listen; by default ``GRADIO_SERVER_NAME`` and ``GRADIO_SERVER_PORT``.

    Raises OSError or ValueError where the checkpoint or the port cannot be used, and ImportError
    without Gradio.
    """
    # A host stops its apps with SIGTERM; this one then ends as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _free_at_once()
    raise_connection_limit()
    with upload_folder():
        try:
            from .serve import serve  # Gradio reads where uploads go when it is imported
        except ImportError as error:
            raise ImportError(f"the demo needs more packages ({error}): pip install 'expclip[space]'") from error
        serve(model, host, port)


def _free_at_once() -> None:
    """Makes glibc overwrite what is freed and give it back to the system.

    By itself it keeps both the memory and what stands in it, more for each thread, until the memory
    is used again. Other systems' libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_MMAP_THRESHOLD, 2**20),
            (_TRIM_THRESHOLD, 2**24),
            (_PERTURB, 0x5A),
            (_ARENA_MAX, 2),
        ):
            mallopt(option, value)
