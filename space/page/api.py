"""The endpoint for programs and agents: ``/classify``, also offered as a tool over MCP."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .controls import IMAGE_QUEUE, report_errors
from .inputs import DEFAULT_PROMPTS, image_of, labels_of, prompts_of
from .recognition import Recogniser


def classify_endpoint(recogniser: Recogniser) -> None:
    """Adds the endpoint to the current ``gr.Blocks``."""

    def classify(image: Any, labels: str, prompts: str) -> list[dict[str, Any]]:
        """Find the faces in an image and score each apparent facial expression against any labels.

        It rates what an expression looks like, not what a person feels. Returns a list with one
        entry for each face, the largest first, and an empty list where no face is found: {"box":
        [x0, y0, x1, y1] in pixels, "detector": what found it, yunet or mtcnn, "label": the most
        probable label, "scores": {label: probability}}. A server without a face detector reads the
        whole image as one face; its box and detector are null.

        Args:
            image: A data URL, or what was uploaded to this server before; other addresses are not fetched.
            labels: At most 100, separated by commas or line breaks. Empty for the seven basic expressions.
            prompts: class_name, expression, photo, ensemble5 or ensemble10. Empty for ensemble10.
        """
        with report_errors():
            wanted = recogniser.prototypes(labels_of(labels), prompts_of(prompts))
            with recogniser.slot():
                faces = recogniser.classify(image_of(image), wanted)
        return [
            {
                "box": list(face.box) if face.box else None,
                "detector": recogniser.detector,
                "label": face.label,
                "scores": face.scores,
            }
            for face in faces
        ]

    # An endpoint takes its types from components; nobody sees these.
    with gr.Group(visible=False):
        image = gr.Image(label="image", type="filepath", image_mode=None)
        labels = gr.Textbox("", label="labels")
        prompts = gr.Textbox(DEFAULT_PROMPTS, label="prompts")
        answer = gr.JSON(label="faces")
        gr.Button().click(classify, [image, labels, prompts], answer, api_name="classify", **IMAGE_QUEUE)
