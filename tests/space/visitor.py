"""A visitor without a browser: what the page's own code sends, and what an attacker makes of it."""

from __future__ import annotations

import base64
import io
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Visitor:
    """Talks to one server, each time in a session of its own."""

    def __init__(self, url: str, seconds: float = 60) -> None:
        self.url, self.seconds = url.rstrip("/"), seconds
        self.config = json.loads(self.get("/config")[1])

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask(urllib.request.Request(self.url + path))

    def post(self, path: str, body: Any) -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._ask(urllib.request.Request(self.url + path, content, {"Content-Type": "application/json"}))

    def function(self, first: str, last: str) -> int:
        """The number of the page's function whose first input and last output have these elements' ids."""
        names = {part["id"]: part["props"].get("elem_id") for part in self.config["components"]}
        for dependency in self.config["dependencies"]:
            inputs, outputs = ([names[i] for i in dependency[side]] for side in ("inputs", "outputs"))
            if inputs and outputs and (inputs[0], outputs[-1]) == (first, last):
                return dependency["id"]
        raise AssertionError(f"the page has no function from {first} to {last}")

    def call(
        self, data: list[Any] | dict[str, Any], collect: bool = True, endpoint: str = "classify"
    ) -> tuple[str, Any]:
        """An endpoint, with its inputs in order or by name: ("complete", faces) or ("error", message)."""
        path, body = (f"v2/{endpoint}", data) if isinstance(data, dict) else (endpoint, {"data": data})
        status, answer = self.post(f"/gradio_api/call/{path}", body)
        if status != 200:
            return "refused", answer.decode(errors="replace")
        if not collect:
            return "sent", None
        event = json.loads(answer)["event_id"]
        _, stream = self.get(f"/gradio_api/call/{endpoint}/{event}")
        kind, content = stream.decode().strip().split("\n\n")[-1].split("\n")
        content = json.loads(content.removeprefix("data: "))
        kind = kind.removeprefix("event: ")
        return kind, content[0] if kind == "complete" else (content or {}).get("error")

    def ask(self, function: int, data: list[Any], session: str, **more: Any) -> tuple[bool, Any]:
        """Any function of the page, as the page asks it: whether it succeeded, and its output or error."""
        body = {"data": data, "fn_index": function, "session_hash": session, **more}
        status, answer = self.post("/gradio_api/queue/join", body)
        if status != 200:
            return False, answer.decode(errors="replace")
        request = urllib.request.Request(f"{self.url}/gradio_api/queue/data?session_hash={session}")
        with urllib.request.urlopen(request, timeout=self.seconds) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    message = json.loads(line[5:])
                    if message["msg"] in ("process_completed", "process_generating", "process_streaming"):
                        output = message["output"]
                        return message["success"], output.get("data", output.get("error"))
        raise AssertionError("the stream ended without an answer")

    def upload(self, content: bytes, name: str) -> str:
        """The path of an uploaded file, as the server calls it."""
        edge = "e" * 20
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        status, answer = self._ask(urllib.request.Request(self.url + "/gradio_api/upload", body, kind))
        if status != 200:
            raise AssertionError(answer.decode(errors="replace"))
        return json.loads(answer)[0]

    def pour(self, path: str, megabytes: int, chunked: bool, kind: str = "application/json") -> int:
        """Sends so many MB of spaces and returns the status of the answer; 0 where the connection was closed instead."""
        host, port = self.url.removeprefix("http://").split(":")
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {megabytes * 2**20}\r\n\r\n"
        part = b" " * 2**20
        with socket.create_connection((host, int(port)), timeout=self.seconds) as line:
            try:
                line.sendall(head.encode())
                for _ in range(megabytes):
                    line.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                if chunked:
                    line.sendall(b"0\r\n\r\n")
            except OSError:  # the answer may have come before
                pass
            try:
                answer = line.recv(100)
            except OSError:
                return 0
        return int(answer.split()[1]) if answer else 0

    def _ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def memory(process: int) -> float:
    """The resident memory of a process, in MB."""
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def count_in_memory(process: int, marks: list[bytes]) -> int:
    """How many times any of the byte strings stands in a process's memory."""
    count, longest = 0, max(map(len, marks))
    with open(f"/proc/{process}/mem", "rb", 0) as mem:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            kept = b""
            for place in range(start, end, 2**24):
                try:
                    mem.seek(place)
                    content = kept + mem.read(min(2**24, end - place))
                except OSError:  # gone meanwhile
                    break
                count += sum(content.count(mark) - kept.count(mark) for mark in marks)
                kept = content[1 - longest :]
    return count
