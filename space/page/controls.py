"""What the tabs share: the fields for labels and prompts, and how errors reach the visitor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from modeling_expclip import LABEL_SETS, PROMPT_SETS

from .inputs import BASIC_LABELS, DEFAULT_PROMPTS, MAX_LABEL_LENGTH, MAX_LABELS, SETS, label_set_of

# One queue for all that reads single images. More leave it than are read at once (see
# Recogniser.slot), so that those who bring new labels, which are encoded first, do not keep out the others.
IMAGE_QUEUE = {"concurrency_id": "images", "concurrency_limit": 16}
VIDEO_QUEUE = {"concurrency_id": "video", "concurrency_limit": 1}


@dataclass(frozen=True)
class LabelFields:
    """The fields for labels and prompts, and whether each label is scored by itself; ``filled``: the event after a
    label set filled the labels in."""

    labels: gr.Textbox
    prompts: gr.Dropdown
    multi_label: gr.Checkbox
    filled: Dependency

    @property
    def all(self) -> list[Component]:
        return [self.labels, self.prompts, self.multi_label]


def label_fields(key: str) -> LabelFields:
    """Builds the fields. ``key`` begins their elements' ids."""
    labels = gr.Textbox(
        ", ".join(BASIC_LABELS),
        label="Labels: your own words",
        info="Separated by commas or lines. Leave empty for the seven basic expressions.",
        lines=2,
        max_lines=8,
        # Long enough for what is refused with an explanation, short enough for a browser
        max_length=2 * MAX_LABELS * MAX_LABEL_LENGTH,
        elem_id=f"{key}-labels",
    )
    with gr.Row():
        label_set = gr.Dropdown(
            list(SETS),
            value=None,
            label="Label set",
            info="Fills in the labels of a set.",
            min_width=140,
            elem_id=f"{key}-label-set",
        )
        prompts = gr.Dropdown(
            list(PROMPT_SETS),
            value=DEFAULT_PROMPTS,
            label="Prompt set",
            info="The sentences around a label.",
            min_width=140,
            elem_id=f"{key}-prompts",
        )
    multi_label = gr.Checkbox(
        False,
        label="Score each label by itself",
        info="Bars then need not sum to 100 %, and none may fit.",
        elem_id=f"{key}-multi-label",
    )
    hidden = {"show_progress": "hidden", "api_visibility": "private"}
    # In the browser: the list forgets its choice once the labels are the visitor's own.
    labels.input(None, None, label_set, js="() => null", **hidden)

    def fill(name: str) -> tuple[str, bool]:
        names = label_set_of(name)
        return ", ".join(names), bool(names) and name not in LABEL_SETS  # a benchmark's labels exclude each other

    filled = label_set.select(fill, label_set, [labels, multi_label], **hidden)
    return LabelFields(labels, prompts, multi_label, filled)


@contextmanager
def report_errors() -> Iterator[None]:
    """A ValueError becomes a message on the page and in the API, without a traceback in the log."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
