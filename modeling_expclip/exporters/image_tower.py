"""The image tower of a CLIP as a file for OpenVINO or ONNX Runtime, quantised where asked; `export.py` does the rest."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import torch
from transformers import PreTrainedModel, SiglipModel

from .int8 import QUANTIZED, calibrate, join_projections
from .onnx_graphs import FOLDER, ImageTower, clear_notes, export_graph, write_graphs
from .runtimes import TOWER


def write_tower(model: PreTrainedModel, folder: Path, backend: str, precision: str, pixels: list[torch.Tensor]) -> None:
    """Writes `image_tower.xml` and `.bin`, or `onnx/vision_model.onnx` (int8: `onnx/vision_model_quantized.onnx`), to `folder`.

    Of SigLIP, which no plain model can replace, the text tower for ONNX as well: `onnx/text_model.onnx`.

    In: pixel values (B, 3, height, width) float32 with any B. Out: embeddings (B, D) float32, not normalised. `pixels`, a list of
    (1, 3, height, width), calibrate int8.
    """
    if backend == "onnx":
        _write_onnx(model, folder, precision, pixels)
    else:
        _write_openvino(model, folder, precision, pixels)


def _write_openvino(model: PreTrainedModel, folder: Path, precision: str, pixels: list[torch.Tensor]) -> None:
    import openvino

    size = model.config.vision_config.image_size
    converted = openvino.convert_model(export_graph(ImageTower(model), model))
    converted.reshape([-1, 3, size, size])
    if precision == "int8":
        converted = calibrate(converted, pixels, None)
    # bfloat16 keeps fewer digits than the float16 that halves the file.
    path = folder / f"{TOWER}.xml"
    openvino.save_model(converted, path, compress_to_fp16=precision == "bf16")
    _without_notes(path)


def _write_onnx(model: PreTrainedModel, folder: Path, precision: str, pixels: list[torch.Tensor]) -> None:
    import onnx

    write_graphs(model, folder, ["vision_model"])
    if precision == "int8":
        path = folder / FOLDER / "vision_model.onnx"
        graph = calibrate(join_projections(onnx.load(path)), pixels, "pixel_values")
        for file in path.parent.iterdir():
            file.unlink()
        clear_notes(graph)
        onnx.save(graph, path.with_stem(path.stem + QUANTIZED))
    if isinstance(model, SiglipModel):
        write_graphs(model, folder, ["text_model"])


def _without_notes(path: Path) -> None:
    """Removes what OpenVINO and NNCF note of how they made a model, which could name files; the notes on its layers have a meaning."""
    tree = ElementTree.parse(path)  # noqa: S314, OpenVINO has just written it
    for notes in tree.getroot().findall("rt_info"):
        tree.getroot().remove(notes)
    tree.write(path, encoding="utf-8", xml_declaration=True)
