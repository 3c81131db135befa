"""The image tower of an exported checkpoint, run by OpenVINO or ONNX Runtime.

`expclip export` writes the tower and `export.json`, which says what it is. Only what is asked for is imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from ..system.terminal import reason_of

BACKENDS = ("openvino", "onnx")
DESCRIPTION = "export.json"
TOWER = "image_tower"

ImageTower = Callable[[torch.Tensor], torch.Tensor]


def exported_backend(source: str) -> str | None:
    """The backend that a checkpoint (folder or Hub id) was exported for, None where it was not.

    Raises:
        ValueError: its `export.json` is damaged.
    """
    description = _description(source)
    return None if description is None else description["backend"]


def load_image_tower(source: str, backend: str) -> ImageTower:
    """Loads the exported image tower of a checkpoint, on the CPU, in the precision it was exported with.

    Args:
        source: checkpoint folder or Hub id.
        backend: one of `BACKENDS`.

    Returns:
        A function from pixel values (B, 3, height, width) of any float type and device to image
        embeddings (B, D) float32 on the CPU, not normalised. Any thread may call it.

    Raises:
        ValueError: the checkpoint was not exported for `backend`, or its files are missing or damaged.
        ImportError: the backend is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(BACKENDS)}")
    description = _description(source)
    if description is None:
        raise ValueError(f"{source} has no exported image tower; write one with `expclip export --backend {backend}`")
    if description["backend"] != backend:
        found = description["backend"]
        raise ValueError(f"{source} was exported for {found!r}; run `expclip export --backend {backend}` for this one")
    paths = {name: _checked(source, name, digest) for name, digest in description["files"].items()}
    if backend == "openvino":
        return _openvino_tower(paths[f"{TOWER}.xml"], description["precision"])
    return _onnx_tower(paths[f"{TOWER}.onnx"])


def silence_telemetry() -> None:
    """Keeps OpenVINO and NNCF from reporting their use to a statistics service, which they otherwise do unasked when imported.

    Both do without the package that reports.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how an import is forbidden


def _description(source: str) -> dict[str, Any] | None:
    path = cached_file(source, DESCRIPTION, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    try:
        description = json.loads(Path(path).read_text(encoding="utf-8"))
        backend, precision, files = (description[key] for key in ("backend", "precision", "files"))
        needed = {"openvino": {f"{TOWER}.xml", f"{TOWER}.bin"}, "onnx": {f"{TOWER}.onnx"}}[backend]
        # A name with a folder in it could lead out of the checkpoint.
        whole = isinstance(files, dict) and needed <= {*files} and isinstance(precision, str)
        whole = whole and all(Path(name).name == name for name in files)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged or of a newer version; export the checkpoint again with `expclip export`")
    return description


def _checked(source: str, name: str, digest: str) -> str:
    """Path of a tower's file. The runtimes accept changed weights, and say little that helps about the rest."""
    path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(f"{source} lacks {name}; export it again with `expclip export`")
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != digest:
        raise ValueError(
            f"{path} is damaged: it is not the file that was exported; export it again with `expclip export`"
        )
    return path


def _openvino_tower(path: str, precision: str) -> ImageTower:
    silence_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise ImportError("the backend openvino needs the package openvino: pip install openvino") from error
    # float32 must be asked for: where the CPU has bfloat16, OpenVINO would take that for any model. One stream over all cores
    # was as fast as several for batches of 16, and faster for single images.
    options = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        model = openvino.Core().compile_model(path, "CPU", options)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO {openvino.__version__} cannot load {path}: {reason_of(error)}") from error

    def embed(pixel_values: torch.Tensor) -> torch.Tensor:
        request = model.create_infer_request()  # costs little, and threads cannot share one
        return torch.from_numpy(request.infer([_array(pixel_values)])[0])

    return embed


def _onnx_tower(path: str) -> ImageTower:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("the backend onnx needs the package onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common public class
        raise ValueError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {reason_of(error)}") from error
    name = session.get_inputs()[0].name
    return lambda pixel_values: torch.from_numpy(session.run(None, {name: _array(pixel_values)})[0])


def _array(pixel_values: torch.Tensor) -> Any:
    return pixel_values.detach().to("cpu", torch.float32).contiguous().numpy()
