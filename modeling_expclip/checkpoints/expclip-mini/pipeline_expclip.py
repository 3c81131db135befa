"""FacialExpressionPipeline: images and labels in, a probability for each label out. Travels inside every checkpoint.

Prompts are encoded once for a set of labels and kept as class prototypes; each image then costs one pass of the image
tower and a small matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

# Not used here: transformers 5.6 copies only the files that a pipeline's file names itself, and the next one needs it.
from .configuration_expclip import ExpCLIPConfig  # noqa: F401
from .processing_expclip import open_image, pil_twin
from .prompts import build_prompts, check_labels
from .prompts import label_set as labels_of

_TEXT_BATCH = 128
_KEPT_PROTOTYPES = 64
_DEFAULT_LABELS = labels_of("rafdb")
_DEFAULT_PROMPTS = "ensemble10"


class FacialExpressionPipeline(Pipeline):
    """
    Zero-shot recognition of apparent facial expressions with any CLIP, best with [`ExpCLIPModel`].

    ```python
    >>> from transformers import pipeline
    >>> recognise = pipeline(model=DIR, trust_remote_code=True)
    >>> recognise("face.jpg")                                              # the seven basic expressions
    >>> recognise(["a.jpg", "b.jpg"], candidate_labels=["bored", "excited"], batch_size=2)
    >>> recognise("face.jpg", label_set="mafw", prompts="photo")
    >>> recognise("face.jpg", prompts=["a {} person", "someone who looks {adjective}"])
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.image_processor = pil_twin(self.image_processor)
        self._prototypes: dict[tuple, torch.Tensor] = {}

    def __call__(
        self,
        images: Any,
        candidate_labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Args:
            images: a path, URL or PIL image, or a list, dataset or generator of them.
            candidate_labels: own labels; they reach the text tower as typed.
            label_set: or the classes of one of the paper's benchmarks (``LABEL_SETS``). Default: the seven basic
                expressions (``rafdb``).
            prompts: a prompt set's name (``PROMPT_SETS``) or own templates. Default: ``ensemble10``.
            batch_size: images a forward pass.

        Returns:
            for each image a list of ``{"label", "score"}``, most probable first. Scores sum to one: the softmax of the
            logits, averaged over a label's prompts as in the paper.
        """
        given = {"candidate_labels": candidate_labels, "label_set": label_set, "prompts": prompts}
        return super().__call__(images, **{name: value for name, value in given.items() if value is not None}, **kwargs)

    def _sanitize_parameters(self, candidate_labels=None, label_set=None, prompts=None):
        names = {}
        if candidate_labels is not None and label_set is not None:
            raise ValueError("pass candidate_labels or label_set, not both")
        if candidate_labels is not None:
            names["labels"] = tuple(check_labels(candidate_labels))
        elif label_set is not None:
            names["labels"] = labels_of(label_set)
        forward = dict(names)
        if prompts is not None:
            forward["prompts"] = prompts if isinstance(prompts, str) else tuple(prompts)
        return {}, forward, names

    def class_prototypes(self, labels: Sequence[str], prompts: str | Sequence[str] = _DEFAULT_PROMPTS) -> torch.Tensor:
        """The prototype of each label, (labels, D) float32: the mean of its prompts' normalised embeddings.

        It is not normalised again: a product with it is then the mean of the prompts' logits, which is the paper's ensemble.
        """
        labels = tuple(check_labels(labels))
        prompts = prompts if isinstance(prompts, str) else tuple(prompts)
        # Parameters count their changes; a trained or reloaded model must not answer with prototypes of its past.
        key = (labels, prompts, sum(parameter._version for parameter in self.model.parameters()))
        if key not in self._prototypes:
            if len(self._prototypes) >= _KEPT_PROTOTYPES:
                del self._prototypes[next(iter(self._prototypes))]
            self._prototypes[key] = self._encode_prototypes(labels, prompts)
        return self._prototypes[key]

    def _encode_prototypes(self, labels: tuple[str, ...], prompts: str | tuple[str, ...]) -> torch.Tensor:
        groups = build_prompts(labels, prompts)
        texts = [text for group in groups for text in group]
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXT_BATCH):
                batch = self.tokenizer(
                    texts[start : start + _TEXT_BATCH], padding=True, truncation=True, return_tensors="pt"
                )
                parts.append(self.model.get_text_features(**batch.to(self.device)).pooler_output.float())
            embeds = torch.nn.functional.normalize(torch.cat(parts), dim=-1)  # (labels * prompts, D)
        return embeds.unflatten(0, (len(labels), -1)).mean(1)  # (labels, D)

    def preprocess(self, image: Any) -> dict[str, torch.Tensor]:
        return dict(self.image_processor(images=open_image(image), return_tensors="pt").to(self.dtype))

    def _forward(
        self,
        model_inputs: dict[str, torch.Tensor],
        labels: tuple[str, ...] = _DEFAULT_LABELS,
        prompts: str | tuple[str, ...] = _DEFAULT_PROMPTS,
    ) -> dict[str, torch.Tensor]:
        embeds = self.model.get_image_features(**model_inputs).pooler_output.float()  # (B, D)
        embeds = torch.nn.functional.normalize(embeds, dim=-1)
        scale = self.model.logit_scale.exp().float().to(embeds.device)
        return {"logits": scale * embeds @ self.class_prototypes(labels, prompts).to(embeds.device).T}  # (B, labels)

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], labels: tuple[str, ...] = _DEFAULT_LABELS
    ) -> list[dict[str, Any]]:
        scores = model_outputs["logits"][0].softmax(-1).tolist()
        return [
            {"label": label, "score": score} for score, label in sorted(zip(scores, labels), key=lambda pair: -pair[0])
        ]


if __name__ == "modeling_expclip.pipeline_expclip":  # not in a checkpoint's copy, which its config names
    PIPELINE_REGISTRY.register_pipeline(
        "facial-expression-recognition",
        pipeline_class=FacialExpressionPipeline,
        pt_model=(AutoModel,),
        type="multimodal",
    )
