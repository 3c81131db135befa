"""FaceAnalyzer: photos and videos in, their faces with the probability of each label out.

An image or video is read, faces are found and cut out in threads (``stream``), the image tower embeds them in batches, and each embedding
is compared with the labels' prototypes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel, Pipeline, ProcessorMixin

from .. import MINI
from ..checkpoint.load import load_checkpoint
from ..exporters.runtimes import BACKENDS, exported_backend, load_image_tower
from ..pipeline_expclip import FacialExpressionPipeline, several_images
from ..prompts import DEFAULT_PROMPTS
from .detectors import FaceDetector
from .faces import DEFAULT_MARGIN, MAX_MARGIN, Detector
from .label_sets import Words
from .stream import FoundFaces, batched, find_faces, scale_pixels
from .tracking import Sighting, follow, in_windows
from .video import NO_LIMITS, Frame, VideoLimits, read_frames, sample_clip

FPS = 4.0  # frames looked at in a second; expressions last from half a second on
VIDEO_RESOLUTION = 1280  # where faces are looked for in video frames, which are many

Answer = dict[str, Any]


@dataclass
class Analyzed:
    """The faces of one image, each ``{"box", "detection_score", "label", "scores"}``, or the ``error`` that reading it raised."""

    faces: list[Answer] = field(default_factory=list)
    error: Exception | None = None


class FaceAnalyzer:
    """
    Finds the faces in photos and videos and scores their apparent expressions against any labels.

    ```python
    >>> from modeling_expclip import FaceAnalyzer

    >>> analyzer = FaceAnalyzer()                                          # the embedded expclip-mini
    >>> analyzer.photo("group.jpg")                                        # a list of faces, the largest first
    >>> analyzer.photo("group.jpg", labels=["bored", "excited"])
    >>> analyzer.photo("group.jpg", label_set="action_units")              # each scored by itself
    >>> for time_and_face in analyzer.video("talk.mp4", fps=2):            # who looks how, and when
    ...     print(time_and_face["time"], time_and_face["face"], time_and_face["label"])
    ```

    Args:
        model: a checkpoint (folder or Hub id; Exp-CLIP, plain CLIP, or written by ``expclip export``), read with the installed code
            whatever code it holds; or a CLIP model, with ``processor``; or a pipeline that has a model, an image processor and a tokenizer.
            Default: the embedded expclip-mini.
        processor: of a ``model`` that is no folder, Hub id or pipeline.
        faces: find the faces first; False takes each image, or frame, for one face.
        detector: ``auto``, ``yunet``, ``mtcnn`` or YuNet's file, see [`FaceDetector`]; or any function from an upright RGB image to its
            [`Face`]s, the largest first. Default: ``auto``; where it does not take YuNet, the log says so.
        margin, align: see ``crop_face``.
        device: of the model; default: that of ``model``, or what transformers' pipelines choose.
        backend: what runs the image tower of an exported checkpoint: ``openvino`` or ``onnx``. Default: the one it was exported for;
            ``torch`` for every other checkpoint and for models in memory.
        precision: ``bf16`` runs torch's image tower under autocast; it needs hardware with bfloat16.
        compile: passes torch's image tower through ``torch.compile``.
        batch_size: faces a forward pass, gathered across images.
        workers: threads that read images and find faces.

    Attributes:
        detector: ``yunet`` or ``mtcnn``, or what the function is called; None with ``faces=False``.

    Raises ValueError for wrong arguments and damaged checkpoints, OSError where a checkpoint or the detector's weights are missing,
    ImportError where OpenCV, a detector, or the backend, is.
    """

    def __init__(
        self,
        model: str | Path | CLIPModel | Pipeline = MINI,
        processor: ProcessorMixin | None = None,
        *,
        faces: bool = True,
        detector: str | Path | Detector | None = None,
        margin: float = DEFAULT_MARGIN,
        align: bool = False,
        device: int | str | torch.device | None = None,
        backend: str | None = None,
        precision: str = "fp32",
        compile: bool = False,
        batch_size: int = 16,
        workers: int = 2,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not 0 <= margin <= MAX_MARGIN:
            raise ValueError(f"the margin around a face must lie between 0 and {MAX_MARGIN}, got {margin}")
        if detector is not None and not callable(detector) and not isinstance(detector, (str, Path)):
            raise ValueError(
                f"expected auto, yunet, mtcnn, YuNet's file, a FaceDetector or a function, got {detector!r}"
            )
        if not faces and (margin, align, detector) != (DEFAULT_MARGIN, False, None):
            raise ValueError(
                "margin, align and detector are of no use with faces=False, which takes each image for one face"
            )
        self.pipeline = _pipeline(model, processor, device)
        # A model in memory may have changed since its folder was exported.
        folder = str(model) if isinstance(model, (str, Path)) else None
        self._tower, self._tower_device = _image_tower(self.pipeline, folder, backend, precision, compile)
        self._photo_detector = self._video_detector = None
        self.detector: str | None = None
        if faces:
            self._photo_detector, self._video_detector = _detectors(detector)
            self.detector = str(
                getattr(self._photo_detector, "name", None)
                or getattr(self._photo_detector, "__name__", type(self._photo_detector).__name__)
            )
        self._batch_size = batch_size
        self._options: dict[str, Any] = {"margin": margin, "align": align, "workers": workers, "ahead": 2 * batch_size}

    def photo(
        self,
        image: Any,
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> list[Answer]:
        """The faces in one photo.

        Args:
            image: a path, a URL, a file or its content, a PIL image, an array (height, width, 3) uint8 of RGB, or a row of `datasets`.
            labels: own labels; they reach the text tower as typed.
            label_set: or the classes of one of the paper's benchmarks (``LABEL_SETS``), or words that are scored one by one
                (``WORD_SETS``). Default: the seven basic expressions.
            prompts: a prompt set's name (``PROMPT_SETS``) or own templates.
            multi_label: score each label by itself instead of against the other labels; ``label`` is then None where no score
                reaches one half.
            contrasts: what labels are scored against, see [`FacialExpressionPipeline`]; they imply ``multi_label``.

        Returns:
            a list of ``{"box", "detection_score", "label", "scores"}``, the largest face first, empty where there is none. ``box`` is
            (x0, y0, x1, y1) in pixels of the upright photo; ``scores`` are the probability of each label, or for the axes of
            ``valence_arousal``, whose ``label`` is None, -1 to 1. With ``faces=False`` box and detection_score are None.

        Raises ValueError for wrong labels or prompts and for images that are refused, OSError for what cannot be read.
        """
        return next(self.photos([image], labels, label_set, prompts, multi_label=multi_label, contrasts=contrasts))

    def photos(
        self,
        images: Iterable[Any],
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        on_error: Callable[[int, Exception], None] | None = None,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> Iterator[list[Answer]]:
        """The faces in each of many photos, in order and in constant memory; what ``photo`` returns, for each.

        Args:
            images: a list, dataset, column or generator of what ``photo`` takes.
            labels, label_set, prompts, multi_label, contrasts: as for ``photo``.
            on_error: called with the number (from 0) of a photo that cannot be read, and the error; the photo then has no faces.
                Default: the error is raised, and ends the iteration.
        """
        several = several_images(images)
        if several is None:
            raise ValueError(f"photos takes many images, got one ({type(images).__name__}); use photo, or pass a list")
        return _raising(self.stream(enumerate(several), labels, label_set, prompts, multi_label, contrasts), on_error)

    def stream(
        self,
        items: Iterable[tuple[Any, Any]],
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> Iterator[tuple[Any, Analyzed]]:
        """Pairs of a key and an image in, of the key and an [`Analyzed`] out, in order and in constant memory.

        An image that cannot be read is an ``error`` of its own; an error of ``items`` is raised after what came before it.
        """
        words = Words.choose(labels, label_set, prompts, multi_label, contrasts)
        return self._scored(items, words, self._comparison(words))

    def _comparison(self, words: Words) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.pipeline.comparison(words.labels, words.prompts, words.multi_label, words.contrasts)

    def _scored(
        self, items: Iterable[tuple[Any, Any]], words: Words, comparison: tuple[torch.Tensor, torch.Tensor | None]
    ) -> Iterator[tuple[Any, Analyzed]]:
        for key, found in self.embed(items):
            faces = []
            if found.embeds is not None:
                scored = self.pipeline.probabilities(found.embeds, *comparison).tolist()
                for (box, detection_score), row in zip(found.places, scored):
                    faces.append({"box": box, "detection_score": detection_score, **words.answer(row)})
            yield key, Analyzed(faces, found.error)

    def video(
        self,
        video: str | Path,
        labels: Sequence[str] | None = None,
        label_set: str | None = None,
        prompts: str | Sequence[str] = DEFAULT_PROMPTS,
        *,
        fps: float | None = None,
        window: float | None = None,
        clip: str | None = None,
        frames_fps: float | None = None,
        limits: VideoLimits = NO_LIMITS,
        multi_label: bool = False,
        contrasts: Mapping[str, Any] | None = None,
    ) -> Iterator[Answer]:
        """Expression scores of each person over time, as they are found, in constant memory.

        Args:
            video: a file, or a folder of frames, of which ``frames_fps`` make a second.
            labels, label_set, prompts, multi_label, contrasts: as for ``photo``.
            fps: frames looked at for each second. Default: 4.
            window: seconds; answers then come from the mean embedding of a person's faces in each window, as the paper reads clips.
            clip: one answer for the whole video from 16 frames, as the paper does: ``uniform`` or ``paper`` (see ``sample_clip``), from
                the largest face of each.
            limits: what reading the video may cost; beyond, ValueError is raised after what came before.

        Yields ``{"time", "face", "box", "detection_score", "label", "scores"}``: seconds from the start (of the window), the person's
        number from 0, where they were (in a window, where the detector was surest), and as for ``photo``. What was read of a damaged
        video comes before the error: ValueError for one that is damaged or goes beyond the limits, OSError for one that cannot be
        opened, ImportError without PyAV.
        """
        if window is not None and not window > 0:
            raise ValueError(f"a window must be longer than 0 seconds, got {window}")
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"frames per second must be more than 0, got {fps}")
        if clip not in (None, "uniform", "paper"):
            raise ValueError(f"clip must be 'uniform' or 'paper', got {clip!r}")
        if clip is not None and (window is not None or fps is not None):
            raise ValueError("clip asks for one answer for the whole video; leave window and fps out")
        words = Words.choose(labels, label_set, prompts, multi_label, contrasts)
        sightings = self._sightings(video, FPS if fps is None else fps, window, clip, frames_fps, limits)
        return self._answers(sightings, words, self._comparison(words))

    def _answers(
        self, sightings: Iterable[Sighting], words: Words, comparison: tuple[torch.Tensor, torch.Tensor | None]
    ) -> Iterator[Answer]:
        for seen in sightings:
            (row,) = self.pipeline.probabilities(seen.embed[None], *comparison).tolist()
            place = {"time": seen.time, "face": seen.face, "box": seen.box, "detection_score": seen.detection_score}
            yield place | words.answer(row)

    def _sightings(
        self,
        video: str | Path,
        fps: float,
        window: float | None,
        clip: str | None,
        frames_fps: float | None,
        limits: VideoLimits,
    ) -> Iterator[Sighting]:
        frames: Iterable[Frame]
        if clip is None:
            frames = read_frames(video, fps, frames_fps, limits)
        else:
            frames = _sampled(video, clip, frames_fps, limits)
        embedded = self._embed(((frame.time, frame.image) for frame in frames), self._video_detector)
        if clip is not None:
            return _whole_clip(embedded)
        return follow(embedded) if window is None else in_windows(follow(embedded), window)

    def embed(self, items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, FoundFaces]]:
        """Pairs of a key and an image in, of the key and its faces' embeddings out; see [`FoundFaces`]."""
        return self._embed(items, self._photo_detector)

    def _embed(self, items: Iterable[tuple[Any, Any]], detector: Detector | None) -> Iterator[tuple[Any, FoundFaces]]:
        image_processor = self.pipeline.image_processor
        found = find_faces(items, image_processor, detector, **self._options)
        for images in batched(found, self._batch_size):
            crops = [image.pixels for _, image in images if image.pixels is not None]
            if crops:
                pixels = torch.from_numpy(np.concatenate(crops))  # (faces, 3, height, width)
                parts = pixels.tensor_split(-(-len(pixels) // self._batch_size))
                embeds = torch.cat(
                    [self._run_tower(scale_pixels(part.to(self._tower_device), image_processor)) for part in parts]
                )
            done = 0
            for key, image in images:
                if image.pixels is not None:
                    count = len(image.pixels)
                    image.pixels, image.embeds = None, embeds[done : done + count]  # (faces, D)
                    done += count
                yield key, image

    @torch.inference_mode()
    def _run_tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._tower(pixel_values.to(self.pipeline.dtype)).float().cpu()


def _raising(
    answers: Iterator[tuple[int, Analyzed]], on_error: Callable[[int, Exception], None] | None
) -> Iterator[list[Answer]]:
    for number, found in answers:
        if found.error is not None:
            if on_error is None:
                raise found.error
            on_error(number, found.error)
        yield found.faces


def _sampled(video: str | Path, clip: str, frames_fps: float | None, limits: VideoLimits) -> Iterator[Frame]:
    yield from sample_clip(video, clip, frames_fps, limits)  # read when the first answer is wanted


def _whole_clip(frames: Iterable[tuple[float, FoundFaces]]) -> Iterator[Sighting]:
    largest = []
    for _, found in frames:
        if found.error is not None:
            raise found.error
        if found.embeds is not None:
            largest.append(found.embeds[0])
    if largest:
        yield Sighting(0.0, 0, None, None, torch.stack(largest).mean(0))


def _pipeline(model: Any, processor: ProcessorMixin | None, device: Any) -> FacialExpressionPipeline:
    if processor is not None and isinstance(model, (str, Path, Pipeline)):
        raise ValueError(f"processor is for a model that is loaded already; {_called(model)} brings its own")
    if isinstance(model, FacialExpressionPipeline) and device is None:
        _check_mode(model.model)
        return model
    if isinstance(model, Pipeline):
        parts: dict[str, Any] = {name: getattr(model, name, None) for name in ("model", "image_processor", "tokenizer")}
        if missing := [name for name, part in parts.items() if part is None]:
            raise ValueError(f"the pipeline {type(model).__name__} has no {', '.join(missing)}; pass a CLIP's")
    else:
        if isinstance(model, (str, Path)):
            model, processor = load_checkpoint(model)
        elif processor is None:
            raise ValueError("a loaded model needs its processor: FaceAnalyzer(model, processor)")
        parts = {"model": model, "image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    _check_mode(parts["model"])
    return FacialExpressionPipeline(**parts, device=device)


def _check_mode(model: torch.nn.Module) -> None:
    if model.training:
        raise ValueError("the model is in training mode, where dropout makes answers random; call model.eval() first")


def _called(model: Any) -> str:
    return f"the pipeline {type(model).__name__}" if isinstance(model, Pipeline) else str(model)


def _image_tower(
    pipeline: FacialExpressionPipeline, folder: str | None, backend: str | None, precision: str, compiled: bool
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.device]:
    """Pixel values (B, 3, height, width) -> embeddings (B, D), not normalised, and where it wants the pixel values."""
    if backend not in (None, "torch", *BACKENDS):
        raise ValueError(f"unknown backend {backend!r}; expected one of torch, {', '.join(BACKENDS)}")
    source = folder or pipeline.model.name_or_path
    backend = backend or (exported_backend(folder) if folder else None) or "torch"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if backend != "torch":
        if precision != "fp32" or compiled:
            raise ValueError(f"precision and compile are torch's; {source} runs as it was exported for {backend}")
        return load_image_tower(source, backend), torch.device("cpu")
    kind, half = pipeline.device.type, precision == "bf16"
    if half and kind == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ValueError("this CPU has no bfloat16 instructions: precision 'bf16' would be slower than 'fp32' on it")

    def tower(pixel_values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            return pipeline.model.get_image_features(pixel_values=pixel_values).pooler_output

    return torch.compile(tower, dynamic=True) if compiled else tower, pipeline.device


def _detectors(detector: str | Path | Detector | None) -> tuple[Detector, Detector]:
    """The detectors of photos and of video frames."""
    if detector is None or isinstance(detector, (str, Path)):
        photos = FaceDetector("auto" if detector is None else detector)
        if photos.fallback:
            logging.getLogger(__name__).warning("%s", photos)
        return photos, FaceDetector(photos.source, resolution=VIDEO_RESOLUTION)
    return detector, detector
