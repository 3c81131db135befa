"""The page's own theme: paper, ink, amber for the head and blue for CLIP, as in the figure."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLE = Path(__file__).with_name("style.css")

_AMBER = gr.themes.Color(
    c50="#fff8ec",
    c100="#fdeccd",
    c200="#fbd9a5",
    c300="#f5be6c",
    c400="#eda13a",
    c500="#cf7f14",
    c600="#a85f08",
    c700="#8a4c08",
    c800="#6f3d0c",
    c900="#5b330d",
    c950="#341b05",
    name="amber-paper",
)
_BLUE = gr.themes.Color(
    c50="#f2f6fb",
    c100="#dfe9f5",
    c200="#c4d7ec",
    c300="#9dbbdd",
    c400="#759bc9",
    c500="#5680b4",
    c600="#426897",
    c700="#37547a",
    c800="#304765",
    c900="#2a3c55",
    c950="#1b2738",
    name="blue-paper",
)
_INK, _PAPER, _NIGHT, _SHEET, _WELL = "#23211d", "#faf8f4", "#161513", "#201e1b", "#1b1917"
_CHALK, _GREY, _DUST = "#ece8e1", "#5f5a52", "#b3ada3"

# By day and by night
_COLOURS = {
    "body_background_fill": (_PAPER, _NIGHT),
    "body_text_color": (_INK, _CHALK),
    "body_text_color_subdued": (_GREY, _DUST),
    "block_background_fill": ("#ffffff", _SHEET),
    "block_border_color": ("#e4dfd6", "#38352f"),
    "block_label_text_color": (_GREY, _DUST),
    "block_title_text_color": (_INK, _CHALK),
    "block_info_text_color": (_GREY, _DUST),
    "background_fill_primary": ("#ffffff", _SHEET),
    "background_fill_secondary": ("#f3efe6", _WELL),
    "border_color_primary": ("#d9d3c8", "#45413a"),
    "input_background_fill": ("#ffffff", _WELL),
    "input_border_color": ("#8d867a", "#7a7469"),
    "input_placeholder_color": ("#6d675e", "#a39d92"),
    "button_primary_background_fill": (_INK, "#f5be6c"),
    "button_primary_background_fill_hover": ("#413d36", "#fbd9a5"),
    "button_primary_text_color": ("#ffffff", _WELL),
    "button_primary_border_color": ("*button_primary_background_fill", "*button_primary_background_fill"),
    "link_text_color": ("#37547a", "#9dbbdd"),
}


def theme() -> gr.themes.Base:
    """For ``launch(theme=...)``. Its fonts come with Gradio: the page asks no other server for anything."""
    return gr.themes.Base(
        primary_hue=_AMBER,
        secondary_hue=_BLUE,
        neutral_hue="stone",
        # Bold instead of the usual semi-bold, of which Gradio ships only some letters
        font=(gr.themes.utils.fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
    ).set(
        **{f"{name}{mode}": colour for name, pair in _COLOURS.items() for mode, colour in zip(("", "_dark"), pair)},
        input_border_width="1px",
        block_border_width="1px",
        block_radius="10px",
        input_radius="6px",
        block_label_text_size="13px",
        block_info_text_size="13px",
        block_title_text_weight="700",
        button_large_text_weight="700",
        prose_header_text_weight="700",
    )
