"""Connections to the Space that ask nothing end, however many there are; the others stay."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import gradio as gr
import pytest

from space.page.ephemeral import EphemeralBlocks
from space.page.request_limits import app_kwargs
from tests.space.conftest import free_port

SWEPT = 1.5


@pytest.fixture
def port(monkeypatch, tmp_path) -> Iterator[int]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with EphemeralBlocks(kept=100, swept=SWEPT, streamed=100) as page:
        gr.Button().click(lambda: time.sleep(3 * SWEPT), api_name="slow")
    port = free_port()
    page.queue().launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=app_kwargs(page)
    )
    yield port
    page.close()


def say(port: int, text: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), timeout=20)
    line.sendall(text.encode())
    return line


def test_connections_that_ask_nothing_are_closed(port):
    asked = "GET /config HTTP/1.1\r\nHost: x\r\n\r\n"
    half = "GET /config HTTP/1.1\r\nHost: x\r\nX-Slow: "
    again = say(port, asked)
    assert again.recv(2**20)
    again.settimeout(0.3)
    while True:  # the rest of the answer
        try:
            assert again.recv(2**20)
        except TimeoutError:
            break
    again.settimeout(20)
    again.sendall(half.encode())
    for line in (say(port, ""), say(port, half), again):
        start = time.monotonic()
        with line:
            assert line.recv(1) == b"", "it is still open"
        assert time.monotonic() - start < 10


def test_a_request_that_is_answered_late_keeps_its_connection(port):
    body = '{"data": [], "session_hash": "s"}'
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with say(port, f"POST /gradio_api/call/slow HTTP/1.1\r\nHost: x\r\n{head}{body}") as line:
        event = line.makefile().read().split('"event_id":"')[1].split('"')[0]
    with say(port, f"GET /gradio_api/call/slow/{event} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as line:
        assert "event: complete" in line.makefile().read()
