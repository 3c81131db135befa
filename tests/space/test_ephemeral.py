"""What Gradio would keep is dropped: answers that nobody collects, sessions that nobody uses, streams that never end."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta
from types import SimpleNamespace

import gradio as gr
import pytest

from space.page.ephemeral import EphemeralBlocks


@pytest.fixture
def page() -> EphemeralBlocks:
    with EphemeralBlocks(kept=100, swept=0.05, streamed=0.2) as page:
        name = gr.Textbox()
        name.submit(lambda text: text, name, name)
    return page.queue()


def test_values_pass_as_they_came_and_are_not_kept(page):
    async def ask() -> tuple[list, object]:
        [function] = page.fns.values()
        sent = [{"path": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}]
        state = page.app.state_holder["a session"]
        values = await page.preprocess_data(function, sent, state)
        answer = await page.postprocess_data(function, "secret", state)
        assert answer == ["secret"] and not sent and "secret" not in str(state.config_values)
        with pytest.raises(gr.Error, match="at most 1 values are expected, 2 came"):
            await page.preprocess_data(function, ["secret", 2], state)
        return values

    assert asyncio.run(ask()) == [{"path": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}]


def test_what_is_idle_is_swept(page):
    line, holder = page._queue, page.state_holder
    signal = SimpleNamespace(set=lambda: None)
    stream = SimpleNamespace(_id="s", streaming=True, run_time=0, closed=False, signal=signal, session_hash="runs")

    async def live() -> None:
        for session in ("uncollected", "runs"):
            holder[session]
            line.pending_messages_per_session[session] = asyncio.Queue()
            line.pending_event_ids_session[session] = {"x"}
        holder.time_last_used["uncollected"] = datetime.now() - timedelta(seconds=101)
        line.event_ids_to_events["s"] = stream
        line.active_jobs = [None, [stream]]
        async with page.lifespan(None):
            await asyncio.sleep(0.15)
            assert stream.run_time == 0
            await asyncio.sleep(0.6)

    asyncio.run(live())
    assert set(holder.session_data) == set(holder.time_last_used) == {"runs"}
    assert set(line.pending_messages_per_session) == set(line.pending_event_ids_session) == {"runs"}
    assert stream.closed and stream.run_time == math.inf


def test_a_session_has_a_short_name(page):
    async def push(session: str) -> tuple:
        body = SimpleNamespace(session_hash=session, fn_index=None)
        return await page._queue.push(body=body, request=SimpleNamespace(), username=None)

    assert "session_hash" in asyncio.run(push("x" * 65))[1]
    assert "session_hash" not in asyncio.run(push("x" * 64))[1]
