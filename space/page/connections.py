"""Connections: as many as the system allows, and none for long that does not ask anything."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary


def raise_connection_limit() -> None:
    """Lets this process hold as many connections and files as the system allows.

    Often the limit is 1024 at first.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS says "without limit" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class SilentConnections:
    """Closes connections on which no whole request head came between two calls of ``close``.

    uvicorn limits that time only from the end of one request to the first byte of the next, and
    Gradio passes on none of its other limits.
    """

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def close(self, server: Any) -> None:
        """``server``: the ``uvicorn.Server``; call it in its event loop."""
        waiting: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        for connection in list(server.server_state.connections):
            if not hasattr(connection, "cycle"):  # a websocket
                continue
            request = (
                connection.cycle
            )  # the last one whose head came; its identity, for holding it would keep what it sent
            if request is None or request.response_complete:
                waiting[connection] = id(request)
                if self._waiting.get(connection) == id(request):
                    connection.transport.close()
        self._waiting = waiting
