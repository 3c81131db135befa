"""FacialExpressionPipeline: pictures, photos or video and labels in, a probability for each label and face out.

Prompts are encoded once for a set of labels and kept as class prototypes; each face then costs one pass of the image tower
and a small matrix product. Travels inside every checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

# Not all are used here: transformers 5.6 copies only the files that a pipeline's file names itself, and they need the others.
from .backends import exported_backend, load_image_tower
from .configuration_expclip import ExpCLIPConfig  # noqa: F401
from .faces import FaceDetector
from .processing_expclip import check_sides, open_image, pil_twin
from .prompts import build_prompts, check_labels, check_prompts
from .prompts import label_set as labels_of
from .stream import Embedded, embed_stream
from .timeline import FPS, timeline
from .tracking import FaceTracker  # noqa: F401
from .video import is_video

_TEXT_BATCH = 128
_KEPT_PROTOTYPES = 64
_CROPS_BATCH = 64
_IMAGE_SIDE = ("vision_model", "visual_projection")
_COLUMNS = 1021
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
    >>> recognise("group.jpg", faces=True)                                 # finds the faces first
    >>> recognise("film.mp4", faces=True, fps=4)                           # who looks how, and when
    ```

    Args, beside those of [`Pipeline`]:
        backend: what runs the image tower of a checkpoint written by ``expclip export``: ``openvino`` or ``onnx``. Default: the one
            it was exported for; ``torch`` for every other checkpoint.
        precision: ``bf16`` runs torch's image tower under autocast; it needs hardware with bfloat16.
        compile: passes torch's image tower through ``torch.compile``.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(
        self, *args, backend: str | None = None, precision: str = "fp32", compile: bool = False, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.image_processor: Any = pil_twin(self.image_processor)
        self._prototypes: dict[tuple, torch.Tensor] = {}
        self._prototypes_of: bytes | None = None  # the digest of the weights that made them
        self._detector: FaceDetector | None = None
        source = self.model.name_or_path
        self.backend = backend or (exported_backend(source) if source else None) or "torch"
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        if self.backend == "torch":
            self._tower = self._torch_tower(precision == "bf16", compile)
        elif precision != "fp32" or compile:
            raise ValueError(f"precision and compile are torch's; {source} runs as it was exported for {self.backend}")
        else:
            self._tower = load_image_tower(source, self.backend)

    def _torch_tower(self, half: bool, compiled: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        kind = self.device.type
        if half and kind == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise ValueError(
                "this CPU has no bfloat16 instructions: precision 'bf16' would be slower than 'fp32' on it"
            )

        def tower(pixel_values: torch.Tensor) -> torch.Tensor:
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                return self.model.get_image_features(pixel_values=pixel_values).pooler_output

        return torch.compile(tower, dynamic=True) if compiled else tower

    def __call__(
        self,
        images: Any,
        candidate_labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] | None = None,
        faces: bool | FaceDetector = False,
        **kwargs: Any,
    ) -> Any:
        """
        Args:
            images: a path, URL or PIL image, or a list, dataset (of such items, not of rows: ``dataset["image"]``) or generator of them; or
                the path of one video. Without ``faces`` each image is taken for a face crop.
            candidate_labels: own labels; they reach the text tower as typed.
            label_set: or the classes of one of the paper's benchmarks (``LABEL_SETS``). Default: the seven basic
                expressions (``rafdb``).
            prompts: a prompt set's name (``PROMPT_SETS``) or own templates. Default: ``ensemble10``.
            faces: False takes each picture for one face. True finds the faces in it first; a [`FaceDetector`] does so in its way.
            batch_size: faces a forward pass. Default: 64 for a list or dataset of face crops, for small batches are slow where other work
                keeps some of the processor's cores busy; 1 for a generator of them, whose answers then come as its images do; 16 for photos
                and videos.
            margin, align, workers: with ``faces``, see ``embed_stream``.
            fps, window, clip: of a video, see ``timeline``.

        Returns:
            for each image a list of ``{"label", "score"}``, most probable first. Scores sum to one: the softmax of the
            logits, averaged over a label's prompts as in the paper. With ``faces``, for each photo a list of ``{"box", "detection_score",
            "label", "scores"}``, the largest face first, empty where there is none; boxes (x0, y0, x1, y1) are in pixels of the upright photo.
            For a video a list of ``{"time", "face", "box", "detection_score", "label", "scores"}``.

        Raises what ``open_image`` raises for a picture that cannot be read, ValueError for a damaged video.
        """
        asked = {"candidate_labels": candidate_labels, "label_set": label_set, "prompts": prompts}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if is_video(images):
            return list(self.timeline(images, faces=faces, **given, **kwargs))
        several = _several(images)
        if several is None:
            if not faces:
                return super().__call__(images, **given, **kwargs)
            return next(self._photos([images], faces, given, kwargs))
        if faces:
            answers = self._photos(several, faces, given, kwargs)
        else:
            if kwargs.get("batch_size") is None:
                kwargs["batch_size"] = self._batch_size or (_CROPS_BATCH if isinstance(images, Sized) else 1)
            stock = isinstance(images, (list, Dataset))  # else transformers would take it for one image
            answers = super().__call__(images if stock else (image for image in several), **given, **kwargs)
        return list(answers) if isinstance(images, (list, tuple)) else answers

    def _photos(self, photos: Iterable[Any], faces: Any, given: dict, kwargs: dict) -> Iterator[list[dict[str, Any]]]:
        forward = self._forward_params | self._sanitize_parameters(**given)[1]
        for _, photo in self.embed(((None, photo) for photo in photos), faces, forward, **kwargs):
            if photo.error is not None:
                raise photo.error
            yield [
                {"box": box, "detection_score": score, "label": max(found, key=found.__getitem__), "scores": found}
                for (box, score), found in zip(photo.places, photo.scores)
            ]

    def embed(
        self,
        items: Iterable[tuple[Any, Any]],
        faces: bool | FaceDetector = False,
        asked: dict[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[tuple[Any, Embedded]]:
        """``embed_stream`` with this pipeline's model: pairs of a key and a picture in, of the key and its faces' embeddings out,
        and their scores where ``asked`` holds the ``labels`` and ``prompts`` for ``scores``."""
        options.setdefault("batch_size", self._batch_size or 16)
        options.setdefault("device", self.device if self.backend == "torch" else "cpu")
        score = None if asked is None else partial(self.scores, **asked)
        return embed_stream(items, self.image_processor, self.tower, self.detector(faces), score, **options)

    def detector(self, faces: bool | FaceDetector) -> FaceDetector | None:
        """The detector that ``faces`` asks for; the default one is made once."""
        if not isinstance(faces, bool):
            return faces
        if faces and self._detector is None:
            self._detector = FaceDetector()
        return self._detector if faces else None

    @torch.inference_mode()
    def tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pixel values (B, 3, height, width) -> embeddings (B, D), not normalised, by whatever runs the image tower."""
        return self._tower(pixel_values.to(self.device, self.dtype))

    def scores(
        self,
        embeds: torch.Tensor,
        labels: tuple[str, ...] = _DEFAULT_LABELS,
        prompts: str | tuple[str, ...] = _DEFAULT_PROMPTS,
    ) -> list[dict[str, float]]:
        """Each embedding (B, D) -> the probability of each label."""
        probabilities = self._logits(embeds, labels, prompts).softmax(-1)
        return [dict(zip(labels, row)) for row in probabilities.tolist()]

    def timeline(
        self,
        video: str | Path,
        candidate_labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] | None = None,
        faces: bool | FaceDetector = False,
        fps: float = FPS,
        window: float | None = None,
        clip: str | None = None,
        frames_fps: float | None = None,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        """What is seen in a video, as it is seen: ``timeline`` with labels as for ``__call__``."""
        asked = {"candidate_labels": candidate_labels, "label_set": label_set, "prompts": prompts}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        forward = self._forward_params | self._sanitize_parameters(**given)[1]
        return timeline(self, video, forward, faces, fps, window, clip, frames_fps, **options)

    def _sanitize_parameters(self, candidate_labels=None, label_set=None, prompts=None):
        names: dict[str, Any] = {}
        if candidate_labels is not None and label_set is not None:
            raise ValueError("pass candidate_labels or label_set, not both")
        if candidate_labels is not None:
            names["labels"] = tuple(check_labels(candidate_labels))
        elif label_set is not None:
            names["labels"] = labels_of(label_set)
        forward = dict(names)
        if prompts is not None:
            forward["prompts"] = check_prompts(prompts)
        return {}, forward, names

    def class_prototypes(self, labels: Sequence[str], prompts: str | Sequence[str] = _DEFAULT_PROMPTS) -> torch.Tensor:
        """The prototype of each label, (labels, D) float32: the mean of its prompts' normalised embeddings.

        It is not normalised again: a product with it is then the mean of the prompts' logits, which is the paper's ensemble.

        Prototypes are kept as long as the model's text side is bit for bit the same: all modules, parameters and buffers but those of
        the image tower are compared by a digest, however they were changed (also through ``.data`` or under ``inference_mode``). It
        costs one reading of these weights a call. What is not in them, such as a hook or a number that a module keeps for itself, is
        not seen. Weights that cannot be read here (offloaded ones, some quantised ones) keep no prototypes.
        """
        labels = tuple(check_labels(labels))
        prompts = check_prompts(prompts)
        digest = _text_digest(self.model)
        if digest is None or digest != self._prototypes_of:
            self._prototypes.clear()
            self._prototypes_of = digest
        key = (labels, prompts)
        found = self._prototypes.get(key)  # held here, for another thread may clear them
        if found is None:
            if len(self._prototypes) >= _KEPT_PROTOTYPES:
                del self._prototypes[next(iter(self._prototypes))]
            found = self._prototypes[key] = self._encode_prototypes(labels, prompts)
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

    def preprocess(self, image: Any) -> dict[str, torch.Tensor]:
        picture = open_image(image)
        check_sides(picture, self.image_processor)
        return dict(self.image_processor(images=picture, return_tensors="pt").to(self.dtype))

    def _forward(
        self,
        model_inputs: dict[str, torch.Tensor],
        labels: tuple[str, ...] = _DEFAULT_LABELS,
        prompts: str | tuple[str, ...] = _DEFAULT_PROMPTS,
    ) -> dict[str, torch.Tensor]:
        return {"logits": self._logits(self.tower(model_inputs["pixel_values"]), labels, prompts)}

    def _logits(self, embeds: torch.Tensor, labels: tuple[str, ...], prompts: str | tuple[str, ...]) -> torch.Tensor:
        """(B, D) -> (B, labels)"""
        embeds = torch.nn.functional.normalize(embeds.float(), dim=-1)
        scale = self.model.logit_scale.detach().exp().float().to(embeds.device)
        logits = scale * embeds @ self.class_prototypes(labels, prompts).to(embeds.device).T
        if not logits.isfinite().all():  # their probabilities would be NaN, and the first label the answer
            raise ValueError(
                f"{self.model.name_or_path or 'the model'} answers with numbers that are not finite: its weights or its preprocessing "
                "are damaged; `expclip verify` says more"
            )
        return logits

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], labels: tuple[str, ...] = _DEFAULT_LABELS
    ) -> list[dict[str, Any]]:
        scores = model_outputs["logits"][0].softmax(-1).tolist()
        return [
            {"label": label, "score": score} for score, label in sorted(zip(scores, labels), key=lambda pair: -pair[0])
        ]


def _several(images: Any) -> Iterable[Any] | None:
    """The images of a list, dataset or generator; None for what is one image."""
    if isinstance(images, (str, Path, bytes, Mapping, np.ndarray, torch.Tensor)) or hasattr(images, "read"):
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
    """A checksum of a tensor, of at most some 16 kB: its 64-bit words in rows of 1021, added up by columns without rounding. A change of
    one bit changes it, and so does a swap, for 1021 is prime and rows of matrices do not line up with it."""
    flat = tensor.reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    count = flat.numel() // (8 * _COLUMNS)
    whole = count * 8 * _COLUMNS
    rows, rest = flat[:whole].view(torch.int64).view(count, _COLUMNS), flat[whole:].cpu().numpy().tobytes()
    if rows.device.type == "cpu":
        return np.add.reduce(rows.numpy(), 0).tobytes() + rest  # twice as fast as torch's sum
    return rows.sum(0).cpu().numpy().tobytes() + rest


if __name__ == "modeling_expclip.pipeline_expclip":  # not in a checkpoint's copy, which its config names
    PIPELINE_REGISTRY.register_pipeline(
        "facial-expression-recognition",
        pipeline_class=FacialExpressionPipeline,
        pt_model=(AutoModel,),
        type="multimodal",
    )
