"""Where in a face a label is seen: a face and labels in, a map of the image for each label out, and its picture over the photo.

By integrated gradients (Sundararajan, Taly and Yan, 2017), which need gradients of the image tower and nothing of its inside, so any
backbone, any attention and any precision will do. What is explained is how much nearer a face's embedding lies to a label than to
what the label is compared with. `tests/benchmarks/explain.py` compares it with other methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..pipeline_expclip import FacialExpressionPipeline
from ..processing_expclip import check_sides
from ..prompts import DEFAULT_PROMPTS, check_labels
from .faces import DEFAULT_MARGIN, Face, crop_face, crop_place
from .images import open_image
from .label_sets import Words

STEPS = 20  # forward passes a face, for all labels together
_AT_ONCE = 4  # of them, for gradients need all that lies between the layers
# From what is not there to where a label is seen best, as (red, green, blue, opacity): lighter with each step, so that it reads
# without colours too.
_HEAT = ((60, 15, 110, 0.0), (150, 35, 130, 0.45), (225, 75, 85, 0.65), (250, 150, 60, 0.75), (250, 235, 110, 0.85))


def explain(
    pipeline: FacialExpressionPipeline,
    image: Any,
    label: str,
    candidate_labels: Sequence[str] | None = None,
    *,
    prompts: str | Sequence[str] = DEFAULT_PROMPTS,
    multi_label: bool = False,
    contrasts: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """What in a face crop speaks for a label, by 20 passes of the image tower; also `pipeline.explain(image, label)`.

    Args:
        pipeline: of any backbone; its model is left as it was.
        image: as for `FaceAnalyzer.photo`; taken for one face.
        label: any text.
        candidate_labels: what the label is compared with, with or without the label itself. Default: the eight basic expressions but
            those that mean the same, as with `multi_label`.
        prompts, contrasts: as for the pipeline. A label with a contrast is compared with its negative side.
        multi_label: compare the label with the eight whatever `candidate_labels` are.

    Returns:
        (height, width) float32 of the upright image, 0 to 1: how much each place speaks for the label, as a share of the place that
        does most. It says where, and nothing of how well the label fits; what speaks against it is 0, as is all where nothing speaks
        for it. Its detail is that of the tower's patches.

    Raises:
        ValueError: for wrong labels or prompts and for images that are refused.
        OSError: for what cannot be read.
    """
    others = () if candidate_labels is None else check_labels(candidate_labels)
    labels = (label, *(other for other in others if other != label))
    words = Words.choose(labels, prompts=prompts, multi_label=multi_label, contrasts=contrasts)
    [heat] = face_maps(pipeline, open_image(image), None, directions(pipeline, words)[:1])
    return heat


def face_maps(
    pipeline: FacialExpressionPipeline,
    photo: Image.Image,
    face: Face | None,
    directions: torch.Tensor,
    margin: float = DEFAULT_MARGIN,
    align: bool = False,
) -> Iterator[np.ndarray]:
    """The maps of one face, one for each of `directions` (labels, D), as `explain` returns them, of the whole photo.

    Args:
        pipeline: see `explain`.
        photo: upright, RGB.
        face: where it is; None takes the photo for a face.
        directions: from the function of that name.
        margin, align: as for `crop_face`.
    """
    crop = photo if face is None else crop_face(photo, face, margin, align)
    check_sides(crop, pipeline.image_processor)
    pixels = torch.as_tensor(np.asarray(pipeline.image_processor(images=crop, return_tensors="np")["pixel_values"]))
    place = np.eye(3) if face is None else crop_place(face, margin, align)  # photo to crop
    x0, y0, x1, y1 = _seen(crop.size, pipeline.image_processor)
    for patches in relevance(pipeline.model, pixels, directions).numpy():  # (rows, columns)
        rows, columns = patches.shape
        across, down = columns / (x1 - x0), rows / (y1 - y0)
        to_patches = np.array([[across, 0, -x0 * across], [0, down, -y0 * down], [0, 0, 1]]) @ place
        speaking = patches.clip(0)
        speaking /= speaking.max() or 1
        drawn = Image.fromarray(speaking).transform(
            photo.size, Image.Transform.AFFINE, tuple(to_patches[:2].flat), Image.Resampling.BILINEAR
        )
        yield np.array(drawn)


def directions(pipeline: FacialExpressionPipeline, words: Words) -> torch.Tensor:
    """What to explain of each label, (labels, D) float32: an embedding's product with it is the label's cosine similarity less the mean
    of those it is compared with, which are the other labels, or what `multi_label` compares it with, also where there are no others."""
    alone = words.multi_label or len(words.labels) == 1
    return differences(*pipeline.comparison(words.labels, words.prompts, alone, words.contrasts))


def differences(prototypes: torch.Tensor, against: torch.Tensor | None) -> torch.Tensor:
    """The `directions` of a pipeline's `comparison`: of several labels, or of labels that are scored by themselves."""
    own = others = prototypes
    if against is None:
        against = ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    else:
        own, others = prototypes.tensor_split([len(against)])
    shares = against.float() / against.sum(1, keepdim=True)  # (labels, others)
    return own - shares.to(others) @ others


def relevance(model: Any, pixels: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """What each patch of a face adds to the score of each label, (labels, rows, columns) float32, from a blurred face to this one.

    Together the patches add up to nearly the difference of the two scores.

    Raises ValueError where the model's gradients are not finite, or it was loaded in inference mode and has none.

    Args:
        model: with `get_image_features`; neither its weights nor their gradients are touched.
        pixels: (1, 3, height, width), as the image processor makes them.
        directions: (labels, D).
    """
    with torch.inference_mode(False), torch.enable_grad():  # also for callers who are in inference mode
        face, directions = (part.detach().to(model.device, torch.float32, copy=True) for part in (pixels, directions))
        blurred = _blurred(face)
        slopes = torch.zeros(len(directions), *face.shape[1:], device=face.device)  # (labels, 3, height, width)
        for shares in ((torch.arange(STEPS, device=face.device) + 0.5) / STEPS).split(_AT_ONCE):
            between = (blurred + shares.view(-1, 1, 1, 1) * (face - blurred)).requires_grad_()
            try:
                embeds = model.get_image_features(pixel_values=between.to(model.dtype)).pooler_output  # (passes, D)
            except RuntimeError as error:  # not every such tensor says so itself
                if "nference tensors" not in str(error):
                    raise
                raise ValueError(
                    "this model was loaded under torch.inference_mode() and has no gradients; load it outside"
                ) from error
            scores = (torch.nn.functional.normalize(embeds.float(), dim=-1) @ directions.T).sum(0)  # (labels,)
            for number, score in enumerate(scores):
                [slope] = torch.autograd.grad(score, between, retain_graph=number + 1 < len(scores))
                slopes[number] += slope.sum(0) / STEPS
        if not slopes.isfinite().all():  # no map would come of it, and nobody would know why
            raise ValueError(
                f"{model.name_or_path or 'the model'} has no finite gradients for this image: its weights or its preprocessing are "
                "damaged, or its precision is too low; `expclip verify` says more"
            )
        added = (slopes * (face - blurred)).sum(1)  # (labels, height, width)
        patch = model.config.vision_config.patch_size
        rows, columns = (side // patch for side in added.shape[1:])  # what is left over no patch sees
        patches = added[:, : rows * patch, : columns * patch].unflatten(1, (rows, patch)).unflatten(3, (columns, patch))
        return patches.sum((2, 4)).cpu()


def _blurred(face: torch.Tensor) -> torch.Tensor:
    """A face without its features: averaged twice over a third of its side."""
    reach = max(face.shape[-2:]) // 6
    padded = torch.nn.functional.pad(face, (2 * reach,) * 4, mode="replicate")
    for _ in range(2):
        padded = torch.nn.functional.avg_pool2d(padded, 2 * reach + 1, stride=1)
    return padded


def _seen(size: tuple[int, int], image_processor: Any) -> tuple[float, float, float, float]:
    """What the model sees of an image, (x0, y0, x1, y1) in its pixels: CLIP's usual preprocessing cuts the middle out."""
    width, height = size
    if not image_processor.do_center_crop:
        return 0, 0, width, height
    across = down = 1.0  # pixels of the image for one of the model's
    if image_processor.do_resize:
        edge = image_processor.size.get("shortest_edge")
        across = down = min(size) / edge if edge else 1.0
        if not edge:
            across, down = width / image_processor.size["width"], height / image_processor.size["height"]
    x, y = image_processor.crop_size["width"] * across / 2, image_processor.crop_size["height"] * down / 2
    return width / 2 - x, height / 2 - y, width / 2 + x, height / 2 + y


def draw_heat(photo: Image.Image, heat: np.ndarray) -> Image.Image:
    """A map over its photo, which becomes grey: purple where a little speaks for the label, yellow where most does."""
    steps = np.linspace(0, 1, len(_HEAT))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, part) for part in zip(*_HEAT)], 1)  # (256, 4)
    shades = (255 * heat).round().astype(np.uint8)
    colours = Image.fromarray(table[:, :3].round().astype(np.uint8)[shades])
    opacity = Image.fromarray((255 * table[:, 3]).round().astype(np.uint8)[shades])
    return Image.composite(colours, photo.convert("L").convert("RGB"), opacity)
