"""What the page computes with: a checkpoint's two towers, its head, tokenizer and prompts, and the face detector.

One image graph serves both answers: it is CLIP's own, and the head is a small matrix that the page applies to either tower's embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel

from modeling_expclip import MINI, ExpCLIPModel
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.checkpoint.save import name_of
from modeling_expclip.exporters.onnx_graphs import FOLDER, write_graphs
from modeling_expclip.media.detectors import FaceDetector
from modeling_expclip.media.label_sets import ACTION_UNITS
from modeling_expclip.media.yunet import HubError, download, weights_at_hand
from modeling_expclip.pipeline_expclip import NEAR
from modeling_expclip.prompts import DEFAULT_PROMPTS, LABEL_SETS, PROMPT_SETS, REFERENCES, build_prompts, choose_labels

from ..page.inputs import SETS

_TOWERS = {"vision_model": "image.onnx", "text_model": "text.onnx"}
_LARGEST = 12_000_000  # bytes that a first visit loads
_BILINEAR = 2


def write_model(folder: Path, source: str, yunet: Path | None) -> dict[str, Any]:
    """Writes the files and returns what the page must know of them.

    The towers' weights are stored in float32, or in float16 where the files would be above 12 MB otherwise; they are computed with in
    float32. Raises ValueError or OSError for a checkpoint or weights that cannot be used.
    """
    model, processor = load_checkpoint(source)
    if not isinstance(model, CLIPModel):
        raise ValueError(f"the page runs CLIP and Exp-CLIP on CLIP; {source} is a {type(model).__name__}")
    about = {
        "name": "expclip-mini" if source == MINI else name_of(source),
        "image": _pixels(processor.image_processor),
        "scale": model.logit_scale.exp().item(),
        "text": {
            "longest": model.config.text_config.max_position_embeddings,
            "end": processor.tokenizer.eos_token_id,
        },
        "labels": list(choose_labels()),
        "sets": {name: {"labels": labels, "alone": name not in LABEL_SETS} for name, labels in SETS.items()},
        "references": {"labels": list(REFERENCES), "near": NEAR},
        "contrasts": ACTION_UNITS,
        "prompts": _prompts(),
        "head": isinstance(model, ExpCLIPModel),
    }
    folder.mkdir()
    about["faces"] = _write_detector(folder / "yunet.onnx", yunet)
    if isinstance(model, ExpCLIPModel):
        (folder / "head.bin").write_bytes(_triangle(model.projection_head.weight).tobytes())
    processor.tokenizer.save_pretrained(folder)
    write_graphs(model, folder, _TOWERS)  # of an Exp-CLIP, its towers without the head
    for name, file in _TOWERS.items():
        (folder / FOLDER / f"{name}.onnx").rename(folder / file)
    (folder / FOLDER).rmdir()
    if sum(path.stat().st_size for path in folder.iterdir()) > _LARGEST:
        for file in _TOWERS.values():
            _halve(folder / file)
    return about


def _pixels(processor: Any) -> dict[str, Any]:
    """How the page makes pixels. Raises ValueError for a checkpoint that makes them in another way than the page can."""
    height, width = (processor.size.get(side) for side in ("height", "width"))
    if not (processor.do_resize and height and width and processor.resample == _BILINEAR) or processor.do_center_crop:
        raise ValueError(
            "the page squashes images bilinearly, as the paper does; this checkpoint's preprocessing resizes or crops otherwise: "
            f"size {dict(processor.size)}, resample {processor.resample}, do_center_crop {processor.do_center_crop}"
        )
    return {
        "width": width,
        "height": height,
        "rescale": processor.rescale_factor if processor.do_rescale else 1,
        "mean": list(processor.image_mean) if processor.do_normalize else [0, 0, 0],
        "std": list(processor.image_std) if processor.do_normalize else [1, 1, 1],
    }


def _prompts() -> dict[str, Any]:
    """The prompt sets as templates, and the sentences of the paper's own classes, which leave them in places."""
    classes = sorted({label for labels in LABEL_SETS.values() for label in labels})
    sets = {
        name: {"templates": templates, "classes": dict(zip(classes, build_prompts(classes, name)))}
        for name, templates in PROMPT_SETS.items()
    }
    return {"default": DEFAULT_PROMPTS, "sets": sets}


def _triangle(head: torch.Tensor) -> np.ndarray:
    """R of W = Q R, (min(H, D), D) float32: its cosines are those of W, for Q is orthonormal, and it is no larger than CLIP's space."""
    return torch.linalg.qr(head.detach().double())[1].float().numpy()


def _write_detector(path: Path, weights: Path | None) -> bool:
    """Writes YuNet for images of any size; False where there are no weights, and none were named."""
    import onnx

    file = weights or weights_at_hand()
    if file is None:
        try:
            file = download()
        except HubError:
            return False
    FaceDetector(file)  # compares it with the known sha256
    graph = onnx.load(file)
    for value in (*graph.graph.input, *graph.graph.output):
        for i, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value > 10:  # not the batch, the colours or a face's numbers
                dimension.dim_param = f"{value.name}_{i}"
    del graph.graph.value_info[:]  # the sizes of a photo of 640 x 640, all through the network
    onnx.save(graph, path)
    return True


def _halve(path: Path) -> None:
    """Stores a graph's matrices in float16. ONNX Runtime makes them float32 again when it opens the file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.save(model, path)
