"""Gradio's app, made to leave what visitors send alone, and to forget it when it was answered.

By itself Gradio fetches addresses, copies files, keeps the last value of each field for thousands
of sessions, and keeps answers that nobody collects.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import gradio as gr
from gradio import routes
from gradio.block_function import BlockFunction
from gradio.queueing import Event
from gradio.state_holder import SessionState

from .connections import SilentConnections

_MAX_HASH_LENGTH = 64  # of a session; Gradio's own have 11 characters


class EphemeralBlocks(gr.Blocks):
    """``gr.Blocks`` whose functions get what was sent as it was sent, and which remembers none of it.

    Args:
        kept: seconds after which a session without a request is forgotten, with its ``gr.State``.
        swept: seconds between looking for such sessions, for answers that nobody collected and for
            connections that say nothing; these two go at the second look.
        streamed: seconds after which a stream is ended, however slowly it sends.
    """

    def __init__(self, *args: Any, kept: float, swept: float, streamed: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept, self.swept, self.streamed = kept, swept, streamed

    async def process_api(self, *args: Any, event_data: gr.EventData | None = None, **options: Any) -> dict[str, Any]:
        # What comes with a click is numbers and words. Gradio would look for files in the rest, and put it into the log.
        if event_data is not None:
            sent = event_data._data if isinstance(event_data._data, dict) else {}
            event_data._data = {name: value for name, value in sent.items() if isinstance(value, str | int | float)}
        return await super().process_api(*args, event_data=event_data, **options)

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        if len(inputs) > len(block_fn.inputs):  # Gradio's own message would repeat the values, also in the log
            raise gr.Error(
                f"data: at most {len(block_fn.inputs)} values are expected, {len(inputs)} came", print_exception=False
            )
        state = state or SessionState(self)
        # The last ones may be missing: programs send the image alone.
        defaults = [getattr(block, "value", None) for block in block_fn.inputs[len(inputs) :]]
        sent = [*inputs, *defaults]
        values = [state[block._id] if block.stateful else value for block, value in zip(block_fn.inputs, sent)]
        inputs.clear()  # the event's own list, which a stream would keep until its next image
        return values

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: Any, state: SessionState | None
    ) -> list[Any]:
        state = state or SessionState(self)
        answer = await super().postprocess_data(block_fn, predictions, state)
        for block in block_fn.outputs:
            state.config_values.get(block._id, {}).get("props", {}).pop("value", None)
        return answer

    def queue(self, *args: Any, **options: Any) -> EphemeralBlocks:
        super().queue(*args, **options)
        line = self._queue
        line.ANALYTICS_MAX_EVENTS = 1  # no record of requests and their times
        push = line.push

        async def checked(body: Any, request: Any, username: Any) -> Any:
            if len(body.session_hash or "") > _MAX_HASH_LENGTH:  # it would outlive the request as a key
                return False, f"session_hash: at most {_MAX_HASH_LENGTH} characters are expected", "error"
            forget_body(request)
            return await push(body=body, request=request, username=username)

        line.push = checked
        return self

    def streams(self) -> list[Event]:
        """The streams that run; others may wait."""
        return [event for job in self._queue.active_jobs if job for event in job if event.streaming]

    def left(self, session: str | None) -> bool:
        """Whether a visitor went while a function computes for them; nobody gets its answer then."""
        running = [event for job in self._queue.active_jobs if job for event in job]
        return any(event.session_hash == session and not event.alive for event in running)

    def waiting_bytes(self) -> int:
        """How many bytes came with the requests that are not answered yet, and are held until then."""
        # A stream's later images come with requests of their own.
        events = list(self._queue.event_ids_to_events.values())
        requests = [event.request for event in events] + [event.data.request for event in events if event.data]
        scopes = {id(request.scope): request.scope for request in requests if request is not None}
        return sum(scope.get("expclip.received", 0) for scope in scopes.values())

    def forget(self, session: str | None) -> None:
        """Drops what is remembered of a visit."""
        self.state_holder.session_data.pop(session, None)
        self.state_holder.time_last_used.pop(session, None)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """For ``launch(app_kwargs=...)``: sweeps as long as the server runs."""
        sweeping = asyncio.create_task(self._sweep())
        yield
        sweeping.cancel()

    async def _sweep(self) -> None:
        silent = SilentConnections()
        idle: set[str] = set()
        uploads: set[str] = set()
        streams: dict[str, float] = {}
        while True:
            await asyncio.sleep(self.swept)
            for session, used in list(self.state_holder.time_last_used.items()):
                if (datetime.now() - used).total_seconds() > self.kept:
                    self.forget(session)
            idle = self._drop_answers(idle)
            uploads = self._drop_names(uploads)
            streams = self._end_streams(streams)
            if hasattr(self, "server"):  # from when the page is served
                silent.close(self.server)

    def _drop_answers(self, idle: set[str]) -> set[str]:
        """Drops the answers for sessions that were idle at the last look and still are; returns who is."""
        line = self._queue
        busy = {event.session_hash for event in line.event_ids_to_events.values()}
        now = set(line.pending_messages_per_session) | set(line.pending_event_ids_session)
        for session in (idle & now) - busy:
            line.pending_messages_per_session.pop(session, None)
            line.pending_event_ids_session.pop(session, None)
        return now - busy - idle

    def _drop_names(self, seen: set[str]) -> set[str]:
        """Drops the names of deleted files, and the progress of uploads that were seen at the last look.

        Returns the uploads that are seen now.
        """
        for names in self.temp_file_sets:
            names -= {name for name in names if not os.path.exists(name)}
        progress = routes.file_upload_statuses
        now = set(progress._statuses) | set(progress._signals)
        for upload in seen & now:
            progress._statuses.pop(upload, None)
            progress._signals.pop(upload, None)
        return now - seen

    def _end_streams(self, seen: dict[str, float]) -> dict[str, float]:
        """Ends streams that were first seen too long ago; Gradio counts only the time of its computing."""
        now = time.monotonic()
        running = self.streams()
        for event in running:
            if now - seen.get(event._id, now) > self.streamed:
                event.run_time, event.closed = math.inf, True
                event.signal.set()
        return {event._id: seen.get(event._id, now) for event in running}


def forget_body(request: Any) -> None:
    """For a request that stays with its event: what was read of it is in the event too."""
    for read in ("_body", "_json"):
        request.__dict__.pop(read, None)
