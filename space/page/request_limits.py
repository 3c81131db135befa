"""Limits of requests, checked before anything reads them.

What is too large or too slow is refused, and addresses that the page does not use are closed.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .ephemeral import EphemeralBlocks, forget_body
from .inputs import MAX_DATA_URL, MAX_LABEL_LENGTH, MAX_LABELS, MAX_VIDEO_BYTES
from .uploads import UploadQuota

_API = "/gradio_api/"
_AROUND = 64 * 2**10  # what surrounds a file or a data URL: headers of parts, names of fields
_LABELS = 6 * MAX_LABELS * MAX_LABEL_LENGTH  # JSON writes a character in six at most
MAX_BODY = MAX_DATA_URL + 2 * _LABELS + _AROUND
MAX_UPLOAD = MAX_VIDEO_BYTES + _AROUND
MAX_UPLOADS = 2 * 2**30  # of all visitors, until they are swept
_LARGE = 2**20
_MAX_QUERY_LENGTH = 400
_LARGE_AT_ONCE = 8
_WAITING_BYTES = 8 * MAX_BODY  # of large requests that wait to be answered
_DRAINED_SECONDS = 5
_MAX_VALUES = 5_000  # a body's brackets, braces and commas: labels have some hundred, a data URL has one
_SECONDS = 60  # for a body to arrive; and for a large one to be let in

_POSTS = re.compile(rf"{_API}(upload|queue/join|call/.+|stream/.+|cancel|reset|mcp(/.*)?)/?")
_FRAME = re.compile(rf"{_API}stream/([^/]+)/?")  # the next one of a stream
_CLOSED = re.compile(rf"{_API}(proxy=|deep_link|custom_component|vibe|run-history|dev/|file[=/]\w+:)|/pwa_icon/")


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


class RequestLimits:
    """ASGI middleware; everything behind it, mounted apps too, sees only requests that passed."""

    def __init__(self, app: ASGIApp, page: EphemeralBlocks) -> None:
        self._app, self._page = app, page
        self._quota = UploadQuota(MAX_UPLOADS)
        # Two kinds, because a tool call over MCP holds one while Gradio uploads its image to itself.
        self._uploads, self._bodies = asyncio.Semaphore(_LARGE_AT_ONCE), asyncio.Semaphore(_LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            most, length = self._check(scope)
        except _Refused as refused:
            await self._refuse(refused, scope, receive, send)
            return
        if length == 0:
            await self._app(scope, receive, send)
            return
        if length is not None and length <= _LARGE:
            await self._store(most, length, scope, receive, send)
            return
        slots = self._uploads if most == MAX_UPLOAD else self._bodies
        try:
            await asyncio.wait_for(slots.acquire(), _SECONDS)
        except asyncio.TimeoutError:
            await self._refuse(_Refused(503, "Busy: many large requests; try again soon."), scope, receive, send)
            return
        try:
            await self._store(most, length, scope, receive, send)
        finally:
            slots.release()

    async def _store(self, most: int, length: int | None, scope: Scope, receive: Receive, send: Send) -> None:
        if most != MAX_UPLOAD or scope["method"] != "POST":
            await self._pass(most, scope, receive, send)
            return
        size = most if length is None else length
        if await self._quota.fits(size):
            with self._quota.reserved(size):
                await self._pass(most, scope, receive, send)
        else:
            full = _Refused(503, "Busy: there is no room for more files; try again in some minutes.")
            await self._refuse(full, scope, receive, send)

    def _check(self, scope: Scope) -> tuple[int, int | None]:
        """The most bytes that this request may bring, and how many it says it brings.

        Raises _Refused for what is known to be wrong.
        """
        path, method = scope["path"], scope["method"]
        if _CLOSED.match(path) or (method not in ("GET", "HEAD", "OPTIONS", "DELETE") and not _POSTS.fullmatch(path)):
            raise _Refused(404, "Not found.")
        if path.startswith(_API) and len(scope["query_string"]) > _MAX_QUERY_LENGTH:  # some of its names would be kept
            raise _Refused(
                414, f"The address is too long: at most {_MAX_QUERY_LENGTH} characters are read after the '?'."
            )
        frame = _FRAME.fullmatch(path)
        if frame and not any(event._id == frame[1] for event in self._page.streams()):
            raise _Refused(409, "This stream does not run: it still waits, or has ended.")
        headers = dict(scope["headers"])
        length = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
        most = MAX_UPLOAD if path.startswith(f"{_API}upload") else MAX_BODY
        if length is not None and length > most:
            raise _too_large(most)
        large = most == MAX_BODY and length is not None and length > _LARGE
        if large and self._page.waiting_bytes() + length > _WAITING_BYTES:
            raise _Refused(
                503, "Busy: many large requests wait to be answered; upload the file instead, or try again soon."
            )
        return most, length

    async def _pass(self, most: int, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SECONDS
        refused: _Refused | None = None
        started = complete = False
        values = 0
        scope["expclip.received"] = 0

        async def measured() -> Message:
            nonlocal complete, refused, values
            if complete:
                return await receive()
            if refused is None:
                try:
                    message = await asyncio.wait_for(receive(), deadline - loop.time())
                except asyncio.TimeoutError:
                    refused = _Refused(408, f"The request did not arrive within {_SECONDS} seconds.")
                else:
                    complete = not message.get("more_body", False)
                    body = message.get("body", b"")
                    scope["expclip.received"] += len(body)
                    if most == MAX_BODY:  # JSON, where each empty list costs seventy times its bytes
                        values += sum(map(body.count, (b"[", b"{", b",")))
                    if scope["expclip.received"] > most:
                        refused = _too_large(most)
                    elif values > _MAX_VALUES:
                        refused = _Refused(
                            413, f"The request has too many parts: at most {_MAX_VALUES} brackets and commas are read."
                        )
                    else:
                        return message
            return {"type": "http.disconnect"}

        async def answered(message: Message) -> None:
            nonlocal started
            if refused is None or started:
                started = True
                await send(message)

        try:
            await self._app(scope, measured, answered)
        except Exception:
            if refused is None:
                raise
        finally:
            if _FRAME.fullmatch(scope["path"]):
                for event in self._page.streams():
                    forget_body(event.data.request)  # as when it joined
        if refused is not None and not started:
            await self._refuse(refused, scope, receive, send)

    @staticmethod
    async def _refuse(refused: _Refused, scope: Scope, receive: Receive, send: Send) -> None:
        # What is on its way is thrown away for a moment: closing a connection on a sender loses the answer.
        async def drained() -> None:
            while (await receive()).get("more_body", False):
                pass

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(drained(), _DRAINED_SECONDS)
        await PlainTextResponse(refused.why, refused.status, {"connection": "close"})(scope, receive, send)


def _too_large(most: int) -> _Refused:
    return _Refused(413, f"The request is too large: at most {most / 2**20:.0f} MB are read.")


def app_kwargs(page: EphemeralBlocks) -> dict[str, Any]:
    """For ``launch(app_kwargs=...)``."""
    return {
        "middleware": [Middleware(RequestLimits, page=page)],
        "lifespan": page.lifespan,
        "exception_handlers": dict.fromkeys((FnIndexInferError, KeyError, TypeError), _wrong_call),
    }


async def _wrong_call(request: Request, error: Exception) -> JSONResponse:
    """What Gradio raises for an unknown endpoint, and for fields that an endpoint has not or lacks."""
    if not request.url.path.startswith(f"{_API}call/"):
        raise error
    if isinstance(error, TypeError):
        return JSONResponse({"error": str(error)[:_MAX_QUERY_LENGTH]}, 400)
    return JSONResponse(
        {"error": "There is no such endpoint; 'Use via API' at the bottom of the page lists them."}, 404
    )
