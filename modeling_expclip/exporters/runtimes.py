"""The image tower of an exported checkpoint, run by OpenVINO or ONNX Runtime.

`expclip export` and `expclip merge --onnx` write the tower and `export.json`, which says what it is. Only what is asked for is
imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from ..system.terminal import reason_of

BACKENDS = ("openvino", "onnx")
DESCRIPTION = "export.json"
TOWER = "image_tower"
# The last is what version 0.1 wrote.
_ONNX_TOWERS = ("onnx/vision_model.onnx", "onnx/vision_model_quantized.onnx", f"{TOWER}.onnx")

ImageTower = Callable[[torch.Tensor], torch.Tensor]


def describe(folder: Path, backend: str | None, precision: str, packages: Sequence[str]) -> None:
    """Writes `export.json` for the files of other runtimes in a checkpoint folder.

    Args:
        folder: checkpoint folder.
        backend: what runs its image tower unless told otherwise, None for torch.
        precision: of the tower for that backend.
        packages: what wrote the files, whose versions are noted.
    """
    files = sorted([*folder.glob(f"{TOWER}.*"), *folder.glob("onnx/*")])
    description = {
        "backend": backend,
        "precision": precision,
        "files": {file.relative_to(folder).as_posix(): _sha256(file) for file in files},
        "versions": {package: version(package) for package in ("torch", "transformers", *packages)},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def exported_backend(source: str) -> str | None:
    """The backend that a checkpoint (folder or Hub id) was exported for, None where it was not.

    Raises:
        ValueError: its `export.json` is damaged.
    """
    description = _description(source)
    return None if description is None else description["backend"]


def check_files(source: str) -> None:
    """Compares the files of other runtimes with what `export.json` records of them.

    Raises:
        ValueError: one is missing or damaged, or `export.json` is.
    """
    description = _description(source)
    for name, digest in description["files"].items() if description else ():
        _checked(source, name, digest)


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
    found, files = description["backend"] or "onnx", description["files"]
    if found != backend:
        raise ValueError(f"{source} was exported for {found!r}; run `expclip export --backend {backend}` for this one")
    name = f"{TOWER}.xml" if backend == "openvino" else next(name for name in _ONNX_TOWERS if name in files)
    weights = f"{TOWER}." if backend == "openvino" else name  # in files that are called so and more
    paths = {file: _checked(source, file, digest) for file, digest in files.items() if file.startswith(weights)}
    if backend == "openvino":
        return _openvino_tower(paths[name], description["precision"])
    return _onnx_tower(paths[name])


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
        whole = isinstance(files, dict) and isinstance(precision, str)
        if backend == "openvino":
            whole = whole and {f"{TOWER}.xml", f"{TOWER}.bin"} <= {*files}
        else:
            whole = whole and backend in (None, "onnx") and not {*files}.isdisjoint(_ONNX_TOWERS)
        # A name with another folder in it could lead out of the checkpoint.
        whole = whole and all(Path(name).name == name.removeprefix("onnx/") for name in files)
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
    if _sha256(path) != digest:
        raise ValueError(
            f"{path} is damaged: it is not the file that was exported; export it again with `expclip export`"
        )
    return path


def _sha256(path: str | Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


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
