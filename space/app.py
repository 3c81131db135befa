"""Starts the page: ``python -m space.app`` in a clone, ``python app.py`` in a Space's own root."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_HELP = """environment:
  EXPCLIP_MODEL        checkpoint folder or Hub id (default: the embedded expclip-mini)
  EXPCLIP_YUNET        the face detector's weights (default: from the Hub)
  GRADIO_SERVER_NAME   address to listen on (default: 127.0.0.1)
  GRADIO_SERVER_PORT   port (default: the first free one from 7860)"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Exp-CLIP in the browser.", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    # Only now, because this takes seconds and --help should not.
    if __package__:
        from .page.blocks import build_page
        from .page.inputs import MOST_VIDEO_BYTES
        from .page.looks import STYLE, theme
        from .page.recognition import Recogniser
    else:
        from page.blocks import build_page
        from page.inputs import MOST_VIDEO_BYTES
        from page.looks import STYLE, theme
        from page.recognition import Recogniser

    # A host stops its apps with SIGTERM; it then ends as with Ctrl-C, and what visitors uploaded goes with its folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        recogniser = Recogniser()
    except (OSError, ValueError) as error:  # no such checkpoint, or a broken one
        parser.error(str(error))
    with _uploads():
        build_page(recogniser).launch(
            theme=theme(),
            head=f"<style>{STYLE.read_text()}</style>",  # css= would be rewritten, and lose what it does not understand
            favicon_path=Path(__file__).parent / "assets" / "favicon.svg",
            max_file_size=MOST_VIDEO_BYTES,
            mcp_server=find_spec("mcp") is not None,
            show_error=True,
            footer_links=["api", "gradio", "settings"],
            run_history=False,  # would keep pictures in the visitor's browser
            enable_monitoring=False,
            state_session_capacity=500,
            ssr_mode=False,
        )


@contextmanager
def _uploads() -> Iterator[None]:
    """A folder of this run alone for uploads. Gradio empties its own only if no visitor is connected when it stops."""
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="expclip-", dir=parent) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield


if __name__ == "__main__":
    main()
