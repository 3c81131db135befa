"""The link to the page that needs no server, where whoever runs this one has it."""

from __future__ import annotations

import os
from html import escape
from urllib.parse import urlsplit

_VARIABLE = "EXPCLIP_STATIC_PAGE"


def static_page_link() -> str:
    """A sentence of HTML with the address that ``EXPCLIP_STATIC_PAGE`` names; empty where it names none.

    The address may be another site's, as a static Space's, or a path on this one, which a proxy
    serves beside it. ValueError for anything else: a browser would not go there.
    """
    address = os.environ.get(_VARIABLE, "").strip()
    if not address:
        return ""
    parts = urlsplit(address)
    if not ((parts.scheme in ("http", "https") and parts.netloc) or (address.startswith("/") and not parts.netloc)):
        raise ValueError(
            f"{_VARIABLE} is {address!r}; expected a whole address that begins with http or https, "
            "or a path on this server that begins with /"
        )
    # A new tab: inside a frame, many sites do not open.
    return (
        '<p class="xc-static">Rather keep your images to yourself? '
        f'<a href="{escape(address)}" target="_blank" rel="noopener">In this page without a server</a> '
        "nothing leaves your device.</p>"
    )
