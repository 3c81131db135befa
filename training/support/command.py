"""What the commands of ``training`` have in common: wrong calls end in one line and exit code 2,
Ctrl-C in 130."""

from __future__ import annotations

import sys
from collections.abc import Callable

from modeling_expclip.system.terminal import lasting_output, one_line

WRONG_CALL, INTERRUPTED = 2, 130


def run(name: str, main: Callable[[], int]) -> None:
    """Calls ``main`` and exits with its code."""
    with lasting_output() as check_output:
        try:
            code = main()
            check_output()
        except (ValueError, OSError, ImportError) as error:
            print(f"{name}: {one_line(error)}", file=sys.stderr)
            sys.exit(WRONG_CALL)
        except KeyboardInterrupt:
            print(f"{name}: interrupted; the same command continues where it stopped", file=sys.stderr)
            sys.exit(INTERRUPTED)
    sys.exit(code)
