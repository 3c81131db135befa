"""The page as a server: the model, Gradio's settings, and how long it may remember."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .blocks import build_page
from .gate import behind_gate
from .inputs import MOST_VIDEO_BYTES
from .looks import STYLE, theme
from .recognition import Recogniser

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
        max_file_size=MOST_VIDEO_BYTES,
        mcp_server=find_spec("mcp") is not None,
        show_error=True,
        footer_links=["api", "gradio", "settings"],
        run_history=False,  # would keep pictures in the visitor's browser
        enable_monitoring=False,
        state_session_capacity=500,
        ssr_mode=False,
        app_kwargs=behind_gate(page),
    )
