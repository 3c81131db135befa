"""The link to the page that needs no server: only where it is, and only to where a browser can go."""

from __future__ import annotations

import pytest

from space.page.static_page import static_page_link


@pytest.mark.parametrize("address", ["", " "])
def test_no_address_no_link(monkeypatch, address):
    monkeypatch.setenv("EXPCLIP_STATIC_PAGE", address)
    assert static_page_link() == ""
    monkeypatch.delenv("EXPCLIP_STATIC_PAGE")
    assert static_page_link() == ""


@pytest.mark.parametrize(
    "address", ["https://me-faces.static.hf.space", "http://192.168.0.7:8000/?a=1", "/browser/", "/browser/index.html"]
)
def test_a_static_space_or_a_path_beside_the_demo(monkeypatch, address):
    monkeypatch.setenv("EXPCLIP_STATIC_PAGE", address)
    link = static_page_link()
    assert f'href="{address}"' in link and "nothing leaves your device" in link


@pytest.mark.parametrize("address", ["javascript:alert(1)", "me/faces", "//elsewhere.example", "https:", "file:///x"])
def test_other_addresses_are_named(monkeypatch, address):
    monkeypatch.setenv("EXPCLIP_STATIC_PAGE", address)
    with pytest.raises(ValueError, match="EXPCLIP_STATIC_PAGE is .*begins with http") as caught:
        static_page_link()
    assert address in str(caught.value)


def test_an_address_is_no_markup(monkeypatch):
    monkeypatch.setenv("EXPCLIP_STATIC_PAGE", 'https://x.example/"><script>{}')
    assert "<script>" not in static_page_link()
