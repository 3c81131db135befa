"""The photo tab: its faces, and bars for each label with and without the projection head."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import gradio as gr

from modeling_expclip.media.images import open_image

from . import render
from .controls import IMAGE_QUEUE, label_fields, report_errors
from .inputs import choice_of, image_of, labels_of, prompts_of
from .recognition import Recogniser

_ROOT = Path(__file__).parents[1]
EXAMPLES = [_ROOT / "assets" / "average-faces.webp", *sorted((_ROOT / "examples").glob("*.png"))]
_SINGLE = _ROOT / "examples" / "average-happiness.png"
_WHY = '<p class="xc-fine">Click a bar to see where in the face that label is seen.</p>'
_EXAMPLE = "An example: averages of many faces."

_CAMERA = (
    "A photo, also one from your camera, is sent to this server, read, and deleted within ten minutes. "
    "Only show people who agree."
)


def photo_tab(recogniser: Recogniser) -> None:
    """Builds the tab inside the current ``gr.Tab``."""

    example = open_image(EXAMPLES[0] if not recogniser.no_detector else _SINGLE)

    def read(
        sent: dict[str, Any] | None, labels: str | None, prompts: str | None, multi_label: bool | None = None
    ) -> tuple[str, str]:
        with report_errors():
            alone = choice_of("multi_label", multi_label)
            wanted = recogniser.prototypes(labels_of(labels), prompts_of(prompts), alone)
            with recogniser.slot():
                image = image_of(sent) if sent else example
                faces = recogniser.classify(image, wanted)
                # Before anything was chosen, visitors try their labels on an example.
                caption = "" if sent else _EXAMPLE
                result = render.render_faces(image, faces, recogniser.no_detector, recogniser.no_head, caption)
                return _WHY if faces else "", result

    def why(
        sent: dict[str, Any] | None, labels: str | None, prompts: str | None, multi_label: bool, chosen: gr.EventData
    ) -> str:
        """What speaks for the label of a bar. The image comes along again, for none is kept."""
        with report_errors():
            number, label = chosen._data.get("face"), chosen._data.get("label")
            if type(number) is not int or not isinstance(label, str):
                raise ValueError("choose the bar of a face")
            names = labels_of(labels)
            alone = choice_of("multi_label", multi_label) or len(names) == 1
            wanted = recogniser.prototypes(names, prompts_of(prompts), alone)
            with recogniser.slot():
                image = image_of(sent) if sent else example
                return render.render_heat(recogniser.explain(image, wanted, number, label), label, number, image)

    def use_example(chosen: gr.EventData) -> str:
        number = chosen._data.get("number")
        with report_errors():
            if not isinstance(number, int) or number not in range(len(EXAMPLES)):
                raise ValueError(f"example: choose a number from 0 to {len(EXAMPLES) - 1}")
        return str(EXAMPLES[number])

    with gr.Row(elem_classes="xc-areas"):
        with gr.Column():
            image = gr.Image(
                label="Your photo",
                type="filepath",
                image_mode=None,
                height=220,
                buttons=["fullscreen"],
                placeholder="Drop a photo here\nor click to choose one",
                elem_id="photo-image",
            )
            examples = gr.HTML(
                _examples(), js_on_load=_CHOOSE_EXAMPLE, apply_default_css=False, elem_id="photo-examples"
            )
            gr.HTML(f'<p class="xc-fine">{_CAMERA}</p>', js_on_load=None)
        with gr.Column():
            hint, first = read(None, None, None)
            result = gr.HTML(first, js_on_load=render.CHOOSE_FACE, apply_default_css=False, elem_id="photo-result")
            heat = gr.HTML(hint, js_on_load=_LEAVE_OUT_LATE_MAPS, apply_default_css=False, elem_id="photo-why")
        with gr.Column():
            chosen = label_fields("photo")
            button = gr.Button("Compare", variant="primary", elem_id="photo-compare")

    examples.click(use_example, None, image, show_progress="hidden", api_visibility="private")
    params = {
        "fn": read,
        "inputs": [image, *chosen.all],
        "outputs": [heat, result],
        "show_progress": "minimal",
        "trigger_mode": "always_last",
        "api_visibility": "private",
        **IMAGE_QUEUE,
    }
    gr.on([image.change, button.click, chosen.labels.submit, chosen.prompts.input, chosen.multi_label.input], **params)
    chosen.filled.then(**params)
    explained = {key: value for key, value in params.items() if key not in ("fn", "outputs")}
    result.click(why, outputs=heat, **explained)
    # On a phone the result is above the button.
    button.click(None, js=_SHOW_READING, api_visibility="private")


_CHOOSE_EXAMPLE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('click', {number: Number(button.dataset.number)});
});
"""


# A map takes a second; the visitor may have chosen another photo since.
_LEAVE_OUT_LATE_MAPS = f"""
watch('value', () => {{
  const map = element.querySelector('.xc-why');
  const result = document.querySelector('#photo-result .xc-result');
  if (map && map.dataset.photo !== result.dataset.photo) props.value = '{_WHY}';
}});
"""


_SHOW_READING = """() => {
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (innerWidth < 900)
    document.querySelector('#photo-result').scrollIntoView({behavior: still ? 'auto' : 'smooth'});
}"""


def _examples() -> str:
    buttons = ""
    for number, file in enumerate(EXAMPLES):
        name = file.stem.replace("-", " ")
        content = b64encode(file.read_bytes()).decode()
        buttons += (
            f'<button type="button" data-number="{number}" title="{name}">'
            f'<img src="data:image/{file.suffix[1:]};base64,{content}" alt="Example: {name}"></button>'
        )
    return f'<div class="xc-examples" role="group" aria-label="Examples"><span>Examples</span>{buttons}</div>'
