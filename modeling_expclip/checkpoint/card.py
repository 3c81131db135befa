"""The README of a checkpoint folder, in the Hub's model card format."""

from __future__ import annotations

from huggingface_hub import ModelCard, ModelCardData

PLACEHOLDER = "PATH_OR_HUB_ID"  # publishing puts the repository's name there

_TEXT = """
# {title}

{summary}

``python
from transformers import pipeline

classify = pipeline("zero-shot-image-classification", model="{placeholder}"{trust})
classify("face.jpg", candidate_labels=["happiness", "sadness", "anger"], hypothesis_template="an expression of {{}}.")
``

## Intended use and limits

For research on apparent facial expressions in images. The scores say how well an image fits a description; they do not say
what a person feels. Errors differ between groups of people and were not measured for this checkpoint.

Not for decisions about people. In the European Union, Article 5(1)(f) of the AI Act (Regulation (EU) 2024/1689) prohibits
inferring people's emotions in workplaces and educational institutions, except for medical or safety reasons.

## Licence

These are the weights of another CLIP, changed or with a head added: its licence applies, and the head's.

## Source

Z. Zhao, Y. Cao, S. Gong, I. Patras: "Enhancing Zero-Shot Facial Expression Recognition by LLM Knowledge Transfer", WACV 2025.
"""


def checkpoint_card(title: str, summary: str, *, base_model: str | None = None, remote_code: bool = True) -> str:
    """The card's text, with metadata the Hub understands."""
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=["exp-clip", "facial-expression-recognition", "clip"],
        base_model=base_model,
    )
    text = _TEXT.format(
        title=title, summary=summary, placeholder=PLACEHOLDER, trust=", trust_remote_code=True" if remote_code else ""
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}"))
