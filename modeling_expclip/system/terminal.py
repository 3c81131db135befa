"""What a terminal is shown: no name and no error of others moves its cursor, and what it cannot show ends no run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO


def printable(text: str) -> str:
    """A file or label may be called anything; what would move the cursor or colour the terminal is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """An error's message without the line breaks that YAML's, the Hub's and people's own words bring along."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """An error's type and the first line of its message, cut where people stop reading: transformers' may list all models it knows."""
    line = next(iter(str(error).strip().splitlines()), "")
    line = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return line if len(line) <= 400 else f"{line[:400]} ..."


class _Lasting:
    """A stream that takes every line: once one could not be written the rest goes nowhere, and ``error`` says why."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, do: Callable[..., object], *arguments: str) -> None:
        try:
            do(*arguments)
        except OSError as error:
            self.error = self.error or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # also for what is still in buffers when the process ends
            os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[Callable[[], None]]:
    """For the length of a command, nothing that the terminal cannot take ends the run: it costs lines of text, and not the result.

    Characters it does not have are shown as escapes. Lines for a reader who left (``| head``) or for a stream that is closed (``>&-``)
    go nowhere. Gives a function to call at the end, which raises OSError where standard output was lost otherwise, as on a full disk.
    """
    _occupy_streams()
    with ExitStack() as stack:
        lasting = []
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="backslashreplace")
            lasting.append(_Lasting(stream))
            stack.enter_context(redirect(lasting[-1]))
            stack.callback(lasting[-1].flush)

        def check() -> None:
            lasting[0].flush()
            error = lasting[0].error
            if error is not None and not isinstance(error, BrokenPipeError):
                raise OSError(f"standard output cannot be written ({error.strerror})") from error

        yield check


def _occupy_streams() -> None:
    """Opens what the caller closed of standard input, output and error: else the next file, such as a table, takes that number,
    and libraries that write warnings there write them into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gives the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, it stays
