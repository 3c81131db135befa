"""The image tower of a CLIP as a file for OpenVINO or ONNX Runtime, quantised where asked; `export.py` does the rest.

One graph of the tower, written by `torch.export`, serves both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import nn
from tqdm import tqdm
from transformers import CLIPModel

from .onnx_graphs import clear_notes
from .runtimes import TOWER

_ONNX_LIMIT = 2**31 - 2**20  # bytes of weights that still fit into one file, which is a protobuf


class _ImageTower(nn.Module):
    """`get_image_features(...).pooler_output` as a graph of tensors only."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = model.vision_model, model.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.visual_projection(self.vision_model(pixel_values).pooler_output)


def write_tower(model: CLIPModel, folder: Path, backend: str, precision: str, pixels: list[torch.Tensor]) -> None:
    """Writes `image_tower.xml` and `.bin`, or `image_tower.onnx`, to `folder`.

    In: pixel values (B, 3, height, width) float32 with any B. Out: embeddings (B, D) float32, not normalised. `pixels`, a list of
    (1, 3, height, width), calibrate int8.
    """
    tower = _ImageTower(model).eval()
    size = model.config.vision_config.image_size
    with torch.no_grad():
        example = torch.zeros(2, 3, size, size)  # of one, torch.export would take the batch for a constant
        graph = torch.export.export(tower, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    if backend == "openvino":
        import openvino

        converted = openvino.convert_model(graph)
        converted.reshape([-1, 3, size, size])
        if precision == "int8":
            converted = _quantise(converted, pixels, None)
        # bfloat16 keeps fewer digits than the float16 that halves the file.
        path = folder / f"{TOWER}.xml"
        openvino.save_model(converted, path, compress_to_fp16=precision == "bf16")
        _without_notes(path)
        return
    import onnx

    path = folder / f"{TOWER}.onnx"
    large = sum(weight.nbytes for weight in tower.parameters()) > _ONNX_LIMIT
    torch.onnx.export(
        graph,
        (),
        path,
        input_names=["pixel_values"],
        output_names=["image_embeds"],
        dynamo=True,
        external_data=large,
        verbose=False,
    )
    if precision == "int8":
        graph = _quantise(_join_projections(onnx.load(path)), pixels, "pixel_values")
        for file in folder.glob(f"{TOWER}.*"):
            file.unlink()
    else:
        graph = onnx.load(path, load_external_data=False)
    clear_notes(graph)
    onnx.save(graph, path)


def _without_notes(path: Path) -> None:
    """Removes what OpenVINO and NNCF note of how they made a model, which could name files; the notes on its layers have a meaning."""
    tree = ElementTree.parse(path)  # noqa: S314, OpenVINO has just written it
    for notes in tree.getroot().findall("rt_info"):
        tree.getroot().remove(notes)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _quantise(model: Any, pixels: list[torch.Tensor], name: str | None) -> Any:
    """Post-training quantisation of an OpenVINO model, or of an ONNX model whose input is called `name`.

    Weights have a scale for each channel, smoothed against outlying activations. Symmetric ranges: of the settings tried on
    expclip-mini they kept closest to float32, for the worst image above all.
    """
    import nncf

    with tqdm(desc="calibrate", unit="image", disable=None) as bar:  # NNCF passes over the images several times

        def take(values: torch.Tensor) -> Any:
            bar.update()
            return {name: values.numpy()} if name else values.numpy()

        return nncf.quantize(
            model,
            nncf.Dataset(pixels, take),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(pixels),
        )


def _join_projections(model: Any) -> Any:
    """One matrix product where several share their input, as those for query, key and value do.

    ONNX Runtime leaves them in float32 otherwise, for their quantised input has more than one reader; int8 was then slower
    than float32.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            readers.setdefault(node.input[0], []).append(node)
    for nodes in readers.values():
        if len(nodes) == 1:
            continue
        parts = [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        name = f"{nodes[0].name}_joined"
        graph.initializer.append(numpy_helper.from_array(np.concatenate(parts, axis=1), f"{name}_weight"))
        widths = np.array([part.shape[1] for part in parts])
        graph.initializer.append(numpy_helper.from_array(widths, f"{name}_widths"))
        outputs = [node.output[0] for node in nodes]
        product = helper.make_node("MatMul", [nodes[0].input[0], f"{name}_weight"], [name], name)
        split = helper.make_node("Split", [name, f"{name}_widths"], outputs, f"{name}_split", axis=-1)
        place = list(graph.node).index(nodes[0])
        for node in nodes:
            graph.node.remove(node)
        graph.node.insert(place, product)
        graph.node.insert(place + 1, split)
    used = {name for node in graph.node for name in node.input}
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])
    return model
