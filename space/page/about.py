"""The about tab: what this is, how it works, its limits, and what becomes of images."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from .recognition import Recogniser
from .uploads import KEPT_MINUTES

_FIGURE = Path(__file__).parents[1] / "assets" / "how-it-works.svg"

_WHAT = """
## What it is

Exp-CLIP scores a face against any text labels. It is zero-shot: it learned no list of expressions,
and a new label is one more sentence to compare with. The method is from *Enhancing Zero-Shot Facial
Expression Recognition by LLM Knowledge Transfer* (Z. Zhao, Y. Cao, S. Gong, I. Patras, WACV 2025).
This page runs **{name}**.{mini}

## How it works

CLIP turns a face and a sentence into vectors. Exp-CLIP adds one matrix, the *projection head*, that
both pass. It learned from unlabelled faces and from what a language model says of their facial
actions; CLIP itself stays as it was. The cosines between the face and each label's sentences become
probabilities that sum to one. Faces are found by {detector}. Under "CLIP" you see the same model without
the head.{no_head}
"""

_DETECTORS = {"yunet": "YuNet", "mtcnn": "MTCNN", None: "nobody here, so an image is read as one face"}

_MINI = """ It is a small model for demonstration, trained from scratch for this
project; it is not the paper's, and it is wrong often."""

_LIMITS = f"""
## Limits

- It rates **apparent expressions**. An expression is not a feeling, and people differ in how they
  show one.
- The probabilities compare your labels with each other. If none fits, one of them still comes first.
- Accuracy differs between groups of people, and we have not measured by how much. Light, pose,
  glasses and small faces matter too.
- Labels that do not describe a face (a job, a trait, guilt) get numbers as well. They mean nothing.

## Intended use

Research, teaching and trying out words. Do not use it to decide about people, to watch them, or on
people who did not agree.

**In the European Union**, Article 5(1)(f) of the AI Act (Regulation (EU) 2024/1689) prohibits AI
systems that infer the emotions of people at the workplace and in education institutions, except for
medical or safety reasons. Other uses of emotion recognition can be high-risk under the Act (Annex
III), and the people exposed to them must be informed (Article 50(3)).

## What becomes of your images

- Nothing is kept. Uploaded images and videos, and the tables made of them, are deleted within
  {KEPT_MINUTES} minutes, and when the server stops.
- Camera frames of the live tab are read in memory and never written to disk. What the server
  remembers of your visit is dropped when you close the page.
- Images, labels and results are not logged, not used for training and not passed on; no analytics.

## Programs and agents

"Use via API" at the bottom of the page shows the endpoint `/classify` for Python, JavaScript and
curl, and its address as an MCP tool.
"""


def about_tab(recogniser: Recogniser) -> None:
    """Builds the tab inside the current ``gr.Tab``."""
    mini = _MINI if recogniser.is_mini else ""
    no_head = f" {recogniser.no_head}" if recogniser.no_head else ""
    with gr.Column(elem_classes="xc-about"):
        gr.Markdown(
            _WHAT.format(name=recogniser.name, mini=mini, detector=_DETECTORS[recogniser.detector], no_head=no_head)
        )
        gr.HTML(
            f'<div class="xc-figure" tabindex="0" role="region" aria-label="Figure">{_FIGURE.read_text()}</div>',
            js_on_load=None,
        )
        gr.Markdown(_LIMITS)
