"""The page: header, tabs, footer, and what is forgotten when."""

from __future__ import annotations

from functools import partial

import gradio as gr

from .about import about_tab
from .api import endpoints
from .ephemeral import EphemeralBlocks
from .live import LIVE_SECONDS, live_tab
from .photo import photo_tab
from .recognition import Recogniser
from .static_page import static_page_link
from .uploads import KEPT_SECONDS, SWEPT_SECONDS
from .video import video_tab

_HEADER = """
<header class="xc-header"><h1>Exp-CLIP</h1>
<p>How well does a face fit <em>your</em> words? Choose a photo, type any labels, see the bars.</p>{link}</header>
"""
_FOOTER = """
<p class="xc-fine xc-footer">Rates apparent expressions, not what a person feels. Not for decisions about people; see About.</p>
"""


def build_page(recogniser: Recogniser) -> EphemeralBlocks:
    """The whole app, ready for ``launch``."""
    with EphemeralBlocks(
        title="Exp-CLIP: apparent facial expressions in your own words",
        analytics_enabled=False,
        delete_cache=(SWEPT_SECONDS, KEPT_SECONDS),
        kept=KEPT_SECONDS,
        swept=SWEPT_SECONDS,
        streamed=2 * LIVE_SECONDS,
    ) as page:
        gr.HTML(_HEADER.format(link=static_page_link()), js_on_load=None)
        with gr.Tabs():
            video = partial(video_tab, left=page.left)
            for name, tab in (("Photo", photo_tab), ("Live", live_tab), ("Video", video), ("About", about_tab)):
                with gr.Tab(name, id=name.lower()):
                    tab(recogniser)
        gr.HTML(_FOOTER, js_on_load=None)
        endpoints(recogniser, page.left)

        def forget(request: gr.Request) -> None:
            page.forget(request.session_hash)

        page.unload(forget)
    # Requests that wait for a slot, or for their labels, must not keep others out; slots limit what they cost.
    page.queue(default_concurrency_limit=4, max_size=256, api_open=False)
    return page
