"""The page as a server: the model, Gradio's settings, and how long it may remember."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .blocks import build_page
from .inputs import MAX_VIDEO_BYTES
from .photo import EXAMPLES
from .recognition import Recogniser
from .request_limits import app_kwargs
from .theme import STYLE, theme

_FAVICON = Path(__file__).parents[1] / "assets" / "favicon.svg"


def serve(model: str | None, host: str | None, port: int | None) -> None:
    """Loads the model and serves the page; see ``start``."""
    page = build_page(Recogniser(model))
    page.launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        head=f"<style>{STYLE.read_text()}</style>",  # css= would be rewritten, and lose what it does not understand
        favicon_path=_FAVICON,
        allowed_paths=[str(example) for example in EXAMPLES],  # else it serves files below the working folder only
        max_file_size=MAX_VIDEO_BYTES,
        mcp_server=find_spec("mcp") is not None,
        show_error=True,
        footer_links=["api", "gradio", "settings"],
        run_history=False,  # would keep images in the visitor's browser
        enable_monitoring=False,
        state_session_capacity=500,
        ssr_mode=False,
        app_kwargs=app_kwargs(page),
        prevent_thread_lock=True,
    )
    if page.mcp_server_obj is not None:
        from .mcp_answers import answer_json

        answer_json(page.mcp_server_obj)
    page.block_thread()
