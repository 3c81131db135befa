"""What the commands of ``training`` have in common: wrong calls end in one line and exit code 2, Ctrl-C in 130."""

from __future__ import annotations

import sys
from collections.abc import Callable

WRONG_CALL, INTERRUPTED = 2, 130


def one_line(error: BaseException) -> str:
    """An error's message without the line breaks that YAML's, the Hub's and people's own words bring along."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run(name: str, main: Callable[[], None]) -> None:
    """Calls ``main`` and exits."""
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        sys.exit(WRONG_CALL)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command continues where it stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
