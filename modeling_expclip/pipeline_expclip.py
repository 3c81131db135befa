"""FacialExpressionPipeline: face crops and labels in, a probability for each label out.

Prompts are encoded once for a set of labels and kept as class prototypes; each face then costs one pass of the image tower
and a small matrix product. Travels inside every checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .processing_expclip import check_sides, open_image, to_pil_processor
from .prompts import (
    DEFAULT_PROMPTS,
    REFERENCES,
    build_prompts,
    check_contrasts,
    check_labels,
    check_prompts,
    choose_labels,
)

_TEXT_BATCH = 128
_KEPT_PROTOTYPES = 64
_CROPS_BATCH = 64
_IMAGE_SIDE = ("vision_model", "visual_projection")
_COLUMNS = 1021
NEAR = 0.5  # cosine, around the references' mean, above which a reference means the label itself
_DEFAULT_LABELS = choose_labels()


class FacialExpressionPipeline(Pipeline):
    """
    Zero-shot facial expression recognition: scores face crops against any labels, with any CLIP, best with [`ExpCLIPModel`].

    ```python
    >>> from transformers import pipeline
    >>> recognize = pipeline(model=DIR, trust_remote_code=True)
    >>> recognize("face.jpg")                                              # the seven basic expressions
    >>> recognize(["a.jpg", "b.jpg"], candidate_labels=["bored", "excited"], batch_size=2)
    >>> recognize("face.jpg", label_set="mafw", prompts="photo", top_k=3)
    >>> recognize("face.jpg", hypothesis_template="a {} person")
    >>> recognize("face.jpg", candidate_labels=["smiling", "bored"], multi_label=True)
    >>> recognize("face.jpg", contrasts={"smiling": ("a smiling face", "a serious face")})
    ```

    Photos with several people and videos are read by ``modeling_expclip.FaceAnalyzer``, which finds the faces first.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.image_processor: Any = to_pil_processor(self.image_processor)
        self._prototypes: dict[tuple, Any] = {}
        self._prototypes_of: bytes | None = None  # the digest of the weights that made them

    def __call__(self, images: Any, candidate_labels: Sequence[str] | None = None, **kwargs: Any) -> Any:
        """
        Args:
            images: a face crop: a path, URL, PIL image, array (height, width, 3) uint8 of RGB, or a row of `datasets` with a column
                ``image``; or a list, dataset or generator of them.
            candidate_labels: own labels; they reach the text tower as typed.
            label_set: or the classes of one of the paper's benchmarks (``LABEL_SETS``). Default: the seven basic
                expressions (``rafdb``).
            prompts: a prompt set's name (``PROMPT_SETS``) or own templates. Default: ``ensemble10``.
            hypothesis_template: or one template, as in the stock zero-shot pipelines.
            multi_label: score each label by itself instead of against the other labels: its scores are independent of them, lie
                between 0 and 1 and need not sum to one.
            contrasts: what labels are scored against: label -> (positive prompt, negative prompt), each a prompt as it reaches the
                text tower, or a list of prompts. They imply ``multi_label``, and are the labels where no others are given. A label
                without one is scored against eight basic expressions but those that mean the label itself.
            top_k: the number of labels returned. Default: all.
            timeout: seconds, for images given by URL.
            batch_size: images a forward pass. Default: 64 for a list or dataset, for small batches are slow where other work keeps
                some of the processor's cores busy; 1 for a generator, whose answers then come as its images do.

        Returns:
            for one image a list of ``{"label", "score"}``, most probable first; for a list of images a list of such lists, for a
            dataset or generator an iterator of them. Scores are the softmax of the logits, averaged over a label's prompts as in
            the paper, over all labels; with ``multi_label``, over a label and what it is scored against.

        Raises ValueError for wrong labels, prompts or kinds of image, OSError for an image that cannot be read.
        """
        if candidate_labels is not None:
            kwargs["candidate_labels"] = candidate_labels
        several = several_images(images)
        if several is None:
            return super().__call__(images, **kwargs)
        if isinstance(images, (list, tuple)) and not images:
            return []
        if kwargs.get("batch_size") is None:
            kwargs["batch_size"] = self._batch_size or (_CROPS_BATCH if isinstance(images, Sized) else 1)
        stock = isinstance(images, (list, Dataset))  # else transformers would take it for one image
        answers = super().__call__(images if stock else (image for image in several), **kwargs)
        return list(answers) if isinstance(images, (list, tuple)) else answers

    def explain(self, image: Any, label: str, candidate_labels: Any = None, **words: Any) -> np.ndarray:
        """What in a face crop speaks for a label: a map (height, width), 0 to 1, see ``explain`` of ``modeling_expclip.media.explain``."""
        try:  # not in checkpoints
            room = importlib.import_module("modeling_expclip.media.explain")
        except ImportError as error:
            raise ImportError("a checkpoint alone cannot explain: pip install expclip") from error
        return room.explain(self, image, label, candidate_labels, **words)

    def _sanitize_parameters(
        self,
        candidate_labels=None,
        label_set=None,
        prompts=None,
        hypothesis_template=None,
        top_k=None,
        timeout=None,
        multi_label=None,
        contrasts=None,
        **others,
    ):
        if others:
            raise TypeError(
                f"unknown arguments {', '.join(others)}; faces in photos and video, and other runtimes, are those of "
                "modeling_expclip.FaceAnalyzer (pip install expclip)"
            )
        labels: dict[str, Any] = {}
        if candidate_labels is not None or label_set is not None or contrasts is not None:
            labels["labels"] = choose_labels(candidate_labels, label_set, contrasts)
        if hypothesis_template is not None:
            if prompts is not None:
                raise ValueError("pass prompts or hypothesis_template, not both")
            prompts = [hypothesis_template]
        forward = dict(labels)
        if contrasts is not None:
            check_contrasts(contrasts, labels.get("labels", ()))
            forward["contrasts"] = contrasts
        if multi_label is not None:
            if not isinstance(multi_label, bool) or (contrasts and not multi_label):
                raise ValueError(f"multi_label must be True or False, and True with contrasts, got {multi_label!r}")
            forward["multi_label"] = multi_label
        if prompts is not None:
            forward["prompts"] = check_prompts(prompts)
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        preprocess = {} if timeout is None else {"timeout": timeout}
        return preprocess, forward, labels if top_k is None else {**labels, "top_k": top_k}

    def preprocess(self, image: Any, timeout: float | None = None) -> dict[str, torch.Tensor]:
        crop = open_image(image, timeout)
        check_sides(crop, self.image_processor)
        return dict(self.image_processor(images=crop, return_tensors="pt").to(self.dtype))

    def _forward(
        self,
        model_inputs: dict[str, torch.Tensor],
        labels: tuple[str, ...] = _DEFAULT_LABELS,
        prompts: str | tuple[str, ...] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> dict[str, torch.Tensor]:
        embeds = self.model.get_image_features(pixel_values=model_inputs["pixel_values"]).pooler_output  # (B, D)
        return {"scores": self.probabilities(embeds, *self.comparison(labels, prompts, multi_label, contrasts))}

    def postprocess(
        self,
        model_outputs: dict[str, torch.Tensor],
        labels: tuple[str, ...] = _DEFAULT_LABELS,
        top_k: int | None = None,
    ) -> list[dict[str, Any]]:
        scores = model_outputs["scores"][0].tolist()
        ranked = sorted(zip(scores, labels), key=lambda pair: -pair[0])
        return [{"label": label, "score": score} for score, label in ranked[:top_k]]

    def probabilities(
        self, embeds: torch.Tensor, prototypes: torch.Tensor, against: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Image embeddings (B, D), normalised or not, and a ``comparison`` -> probabilities (B, labels) float32.

        Raises ValueError where the embeddings are not finite.
        """
        embeds = torch.nn.functional.normalize(embeds.float(), dim=-1)
        scale = self.model.logit_scale.detach().exp().float().to(embeds.device)
        logits = scale * embeds @ prototypes.to(embeds.device).T  # (B, labels)
        if not logits.isfinite().all():  # their probabilities would be NaN, and the first label the answer
            raise ValueError(
                f"{self.model.name_or_path or 'the model'} answers with numbers that are not finite: its weights or its preprocessing "
                "are damaged; `expclip verify` says more"
            )
        if against is None:
            return logits.softmax(-1)
        own, others = logits.tensor_split([len(against)], -1)  # (B, labels), (B, references)
        # One label at a time, for (B, labels, references) grows with the square of the contrasts.
        against = against.to(others.device)
        others = torch.stack([others[:, references].logsumexp(-1) for references in against], -1)
        return (own - others).sigmoid()

    def comparison(
        self,
        labels: Sequence[str],
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What faces are compared with, for ``probabilities``; kept as ``class_prototypes`` are. Arguments as for a call.

        Returns:
            the prototypes of the labels, (labels, D), and None; or where each label is scored by itself, those of labels and
            references, (labels + references, D), and which references each label is scored against, (labels, references) bool.
        """
        sides = check_contrasts(contrasts, labels := tuple(check_labels(labels)))
        if not multi_label and not sides:
            return self.class_prototypes(labels, prompts), None
        self._forget_changed()
        return self._kept((labels, check_prompts(prompts), sides), self._make_comparison)

    def _make_comparison(
        self, labels: tuple[str, ...], prompts: Any, sides: tuple
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sided = [side[0] for side in sides]
        free = tuple(label for label in labels if label not in sided)
        own, references, blocks = [], [], []
        if free:
            own.append(self._kept((free, prompts), self._encode_prototypes))  # (free, D)
            references.append(self._kept((REFERENCES, prompts), self._encode_prototypes))  # (R, D)
            # CLIP's texts all lie close together; around their mean, what means the same still does. Something is always left:
            # around their own mean, the references do not all lie on one side.
            mean = references[0].mean(0)
            around = [torch.nn.functional.normalize(part[0] - mean, dim=-1) for part in (own, references)]
            blocks.append(around[0] @ around[1].T <= NEAR)  # (free, R)
        if sides:
            texts = tuple(dict.fromkeys(text for _, *both in sides for side in both for text in side))
            embeds = dict(zip(texts, self._kept((texts, ("{}",)), self._encode_prototypes)))
            for part, place in ((own, 1), (references, 2)):
                part.append(
                    torch.stack([sum(embeds[text] for text in side[place]) / len(side[place]) for side in sides])
                )
            blocks.append(torch.eye(len(sides), dtype=torch.bool, device=own[-1].device))
        places = {label: place for place, label in enumerate((*free, *sided))}
        order = [places[label] for label in labels]
        return torch.cat([torch.cat(own)[order], *references]), torch.block_diag(*blocks)[order]

    def class_prototypes(self, labels: Sequence[str], prompts: str | Sequence[str] = DEFAULT_PROMPTS) -> torch.Tensor:
        """The prototype of each label, (labels, D) float32: the mean of its prompts' normalised embeddings.

        It is not normalised again: a product with it is then the mean of the prompts' logits, which is the paper's ensemble.

        Prototypes are kept as long as the model's text side is the same: all modules, parameters and buffers but those of
        the image tower are compared by a digest, however they were changed (also through ``.data`` or under ``inference_mode``). It
        costs one reading of these weights a call. What is not in them, such as a hook or a number that a module keeps for itself, is
        not seen. Weights that cannot be read here (offloaded ones, some quantised ones) keep no prototypes.
        """
        self._forget_changed()
        return self._kept((tuple(check_labels(labels)), check_prompts(prompts)), self._encode_prototypes)

    def _forget_changed(self) -> None:
        digest = _text_digest(self.model)
        if digest is None or digest != self._prototypes_of:
            self._prototypes.clear()
            self._prototypes_of = digest

    def _kept(self, key: tuple, make: Callable[..., Any]) -> Any:
        found = self._prototypes.get(key)  # held here, for another thread may clear them
        if found is None:
            found = make(*key)
            for oldest in list(self._prototypes)[: 1 - _KEPT_PROTOTYPES]:  # a copy: other threads change it
                self._prototypes.pop(oldest, None)
            self._prototypes[key] = found
        return found

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


def several_images(images: Any) -> Iterable[Any] | None:
    """The images of a list, dataset or generator; None for what is one image."""
    if isinstance(images, (str, Path, bytes, bytearray, memoryview, Mapping, np.ndarray, torch.Tensor)) or hasattr(
        images, "read"
    ):
        return None
    if isinstance(images, Iterable):
        return images
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):  # torch's Dataset need not be iterable
        return (images[i] for i in range(len(images)))
    return None


def _text_digest(model: torch.nn.Module) -> bytes | None:
    """Identifies the modules and weights that prototypes are made with, None where some cannot be read.

    Autograd's version counters would be cheaper, but they see neither ``parameter.data.mul_(2)`` nor inference tensors.
    """
    found = hashlib.blake2b(digest_size=16)
    for path, module in model.named_modules():
        if path.startswith(_IMAGE_SIDE):
            continue
        found.update(f"{path} {type(module)}".encode())
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            try:
                words = _words(tensor.detach())
            except (NotImplementedError, RuntimeError, TypeError):  # on no device, or of a type without plain bytes
                return None
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(words)
    return found.digest()


def _words(tensor: torch.Tensor) -> bytes:
    """A checksum of a tensor, of at most some 16 kB: its 64-bit words in rows of 1021, each row times an odd number of its own, added
    up by columns modulo 2^64. Odd numbers lose nothing, so a change of one row changes it; a swap of rows does too, for they differ."""
    flat = tensor.reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    count = flat.numel() // (8 * _COLUMNS)
    whole = count * 8 * _COLUMNS
    rows, rest = flat[:whole].view(torch.int64).view(count, _COLUMNS), flat[whole:].cpu().numpy().tobytes()
    weights = 2 * torch.arange(count, device=rows.device) + 1
    if rows.device.type == "cpu":
        return np.einsum("i,ij->j", weights.numpy(), rows.numpy()).tobytes() + rest  # in one pass, unlike torch
    return (rows * weights[:, None]).sum(0).cpu().numpy().tobytes() + rest


if __name__ == "modeling_expclip.pipeline_expclip":  # not in a checkpoint's copy, which its config names
    PIPELINE_REGISTRY.register_pipeline(
        "facial-expression-recognition",
        pipeline_class=FacialExpressionPipeline,
        pt_model=(AutoModel,),
        type="multimodal",
    )
    importlib.import_module("modeling_expclip.modeling_expclip")  # whose class the pipeline loads
