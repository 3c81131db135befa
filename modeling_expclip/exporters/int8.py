"""int8: calibrated on images (NNCF), or of the weights alone (ONNX Runtime)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .quiet import quiet

QUANTIZED = "_quantized"  # transformers.js' word for int8, behind a graph's name


def quantize_weights(path: Path) -> None:
    """Writes `NAME_quantized.onnx` beside the graph `NAME.onnx`: weights in int8, with a scale for each channel.

    Activations are quantised as they come, so no images are needed.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            onnx.load(path),
            path.with_stem(path.stem + QUANTIZED),
            op_types_to_quantize=["Gather", "Gemm", "MatMul"],  # Gather: the table of words
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # CPUs without VNNI would lose more by sums that overflow than by the bit
        )


def calibrate(model: Any, pixels: list[torch.Tensor], name: str | None) -> Any:
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


def join_projections(model: Any) -> Any:
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
