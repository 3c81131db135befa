"""The README of a checkpoint folder, in the Hub's model card format."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import ModelCard, ModelCardData

PLACEHOLDER = "PATH_OR_HUB_ID"  # publishing puts the repository's name there

_TEXT = """
# {title}

{summary}

```python
from transformers import pipeline

classify = pipeline("zero-shot-image-classification", model="{placeholder}"{trust})
classify("face.jpg", candidate_labels=["happiness", "sadness", "anger"], hypothesis_template="an expression of {{}}.")
```
{tools}
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

# How other tools open the same folder: the tag that the Hub knows each by, and an example.
_TOOLS = {
    "sentence-transformers": """
```python
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{placeholder}")
face, labels = Image.open("face.jpg").convert("RGB"), ["an expression of happiness.", "an expression of anger."]
model.similarity(model.encode([face]), model.encode(labels))
```
""",
    "transformers.js": """
It resizes with another filter than Python does, so probabilities move a little; they agree for images of {side} x {side}
pixels. The files in `onnx/` also run in ONNX Runtime, from any language.

```js
import {{ pipeline }} from "@huggingface/transformers";

const classify = await pipeline("zero-shot-image-classification", "{placeholder}");
await classify("face.jpg", ["happiness", "sadness", "anger"], {{ hypothesis_template: "an expression of {{}}." }});
```
""",
    "open_clip": """
For a folder on your machine say `local-dir:` instead of `hf-hub:`.

```python
import open_clip
from PIL import Image

model, preprocess = open_clip.create_model_from_pretrained("hf-hub:{placeholder}")
tokenizer = open_clip.get_tokenizer("hf-hub:{placeholder}")
image = model.encode_image(preprocess(Image.open("face.jpg").convert("RGB"))[None], normalize=True)
text = model.encode_text(tokenizer(["an expression of happiness.", "an expression of anger."]), normalize=True)
(model.logit_scale.exp() * image @ text.T).softmax(-1)
```
""",
}


def checkpoint_card(
    title: str,
    summary: str,
    *,
    base_model: str | None = None,
    remote_code: bool = True,
    tools: Sequence[str] = (),
    side: int = 0,
) -> str:
    """The card's text, with metadata the Hub understands.

    Args:
        title: its heading.
        summary: what the checkpoint is, one paragraph.
        base_model: Hub id of what it was made from.
        remote_code: whether it needs `trust_remote_code`.
        tools: other tools that open it: `sentence-transformers`, `transformers.js`, `open_clip`.
        side: pixels a side that the image tower reads, for `transformers.js`.
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=["exp-clip", "facial-expression-recognition", "clip", *tools],
        base_model=base_model,
    )
    examples = (f"\n### {tool}\n{_TOOLS[tool].format(placeholder=PLACEHOLDER, side=side)}" for tool in tools)
    text = _TEXT.format(
        title=title,
        summary=summary,
        placeholder=PLACEHOLDER,
        trust=", trust_remote_code=True" if remote_code else "",
        tools="".join(examples),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}"))
