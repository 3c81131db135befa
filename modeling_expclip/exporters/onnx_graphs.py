"""A CLIP as ONNX graphs, in the layout that transformers.js, Optimum and our backend `onnx` read: `onnx/NAME.onnx`.

In: a `CLIPModel` in float32. Out: files whose inputs and outputs are called as in transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPModel, PreTrainedModel, SiglipModel

from .quiet import quiet

FOLDER = "onnx"
_LIMIT = 2**31 - 2**20  # bytes of weights that still fit into one file, which is a protobuf


class _Clip(nn.Module):
    """Both towers and their cosines."""

    inputs = ("input_ids", "pixel_values", "attention_mask")
    outputs = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, pixel_values: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        output = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return tuple(output[name] for name in self.outputs)


class ImageTower(nn.Module):
    """`get_image_features(...).pooler_output`, not normalised; of an Exp-CLIP on CLIP, without the head."""

    inputs = ("pixel_values",)
    outputs = ("image_embeds",)

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        # SigLIP has no projection, and the head, which cannot be folded into it, stands in its place.
        self.visual_projection = getattr(model, "visual_projection", None) or model.projection_head

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.visual_projection(self.vision_model(pixel_values).pooler_output)


class _TextTower(nn.Module):
    """`get_text_features(...).pooler_output`, not normalised, as above. CLIP reads causally, so padding behind a text changes nothing, and
    SigLIP reads texts padded to its full length: no mask."""

    inputs = ("input_ids",)
    outputs = ("text_embeds",)

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.text_model = model.text_model
        self.text_projection = getattr(model, "text_projection", None) or model.projection_head

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.text_projection(self.text_model(input_ids).pooler_output)


_GRAPHS: dict[str, type[_Clip] | type[ImageTower] | type[_TextTower]] = {
    "model": _Clip,
    "vision_model": ImageTower,
    "text_model": _TextTower,
}
GRAPHS = tuple(_GRAPHS)


def write_graphs(merged: PreTrainedModel, folder: Path, names: Iterable[str] = GRAPHS) -> None:
    """Writes `folder/onnx/NAME.onnx` for each of `names`, in float32, and `NAME.onnx_data` beside it for weights above 2 GB.

    Args:
        merged: a plain CLIP or MetaCLIP 2 in eval mode, on the CPU; or an Exp-CLIP on SigLIP, of which only
            the two towers can be written, with the head.
        folder: checkpoint folder; `onnx/` in it is made.
        names: of `model`, `vision_model` and `text_model`. Their inputs: `pixel_values` (images, 3,
            height, width) float32, `input_ids` and `attention_mask` (texts, tokens) int64, of SigLIP all of
            its positions, padded. Their outputs,
            float32: `image_embeds` (images, D) and `text_embeds` (texts, D), normalised by `model` only,
            and `logits_per_image` (images, texts), `logits_per_text` (texts, images).

    Raises:
        OSError: a file cannot be written.
    """
    import onnx

    (folder / FOLDER).mkdir(exist_ok=True)
    for name in names:
        path = folder / FOLDER / f"{name}.onnx"
        module = _GRAPHS[name](merged)
        large = sum(weight.nbytes for weight in module.parameters()) > _LIMIT
        with quiet(), _eager(merged):
            torch.onnx.export(
                export_graph(module, merged),
                (),
                path,
                input_names=module.inputs,
                output_names=module.outputs,
                dynamo=True,
                external_data=large,
                verbose=False,
            )
        graph = onnx.load(path)
        for file in path.parent.glob(f"{name}.onnx*"):
            file.unlink()
        clear_notes(graph)
        del graph.graph.value_info[:]  # shapes between nodes, some of which the exporter's own steps have made wrong
        onnx.save(graph, path, save_as_external_data=large, location=f"{name}.onnx_data")


def export_graph(module: _Clip | ImageTower | _TextTower, model: PreTrainedModel) -> torch.export.ExportedProgram:
    """`module`, one of the graphs, as `torch.export` sees it, for any number of images and texts."""
    text, side = model.config.text_config, model.config.vision_config.image_size
    # Of one image or text, torch.export would take the number for a constant.
    length = text.max_position_embeddings if isinstance(model, SiglipModel) else 5
    ids = torch.full((3, length), text.eos_token_id)
    examples = {"input_ids": ids, "pixel_values": torch.zeros(2, 3, side, side), "attention_mask": torch.ones_like(ids)}
    images, texts = torch.export.Dim("images"), torch.export.Dim("texts")
    of_texts: dict[int, Any] = {0: texts}
    if not isinstance(model, SiglipModel):
        of_texts[1] = torch.export.Dim("tokens", max=text.max_position_embeddings)
    shapes = dict.fromkeys(examples, of_texts) | {"pixel_values": {0: images}}
    with torch.no_grad():
        return torch.export.export(
            module.eval(),
            tuple(examples[name] for name in module.inputs),
            dynamic_shapes=tuple(shapes[name] for name in module.inputs),
        )


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Attention in single steps, which become fewer nodes than those of the fused one; torch's own fused one, in SigLIP, has no graph."""
    before, fused = model.config._attn_implementation, torch.backends.mha.get_fastpath_enabled()
    model.set_attn_implementation("eager")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        torch.backends.mha.set_fastpath_enabled(fused)


def clear_notes(message: Any) -> None:
    """Clears what the exporter notes of each part of an ONNX model: the lines of code it came from, by their paths on this machine."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                clear_notes(part)
