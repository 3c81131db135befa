"""`expclip export`: a checkpoint becomes a plain CLIP folder with its image tower beside it, for OpenVINO or ONNX Runtime.

One on SigLIP, which cannot take up the head, stays what it is. Prompts are encoded once for a set of labels, so the text tower stays in
torch, but for SigLIP's graphs for ONNX. The written image tower is loaded again and compared with torch before the folder gets its name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin, SiglipModel

from ..checkpoint import golden
from ..checkpoint.card import checkpoint_card
from ..checkpoint.load import load_checkpoint
from ..checkpoint.processors import plain_processor, save_processor, truncating
from ..checkpoint.save import check_output, name_of, whole_folder
from ..checkpoint.verify import verify_outputs
from ..media.images import image_endings, open_image
from ..modeling_expclip import ExpCLIPMixin
from ..processing_expclip import to_pil_processor
from .image_tower import write_tower
from .quiet import quiet
from .runtimes import BACKENDS, describe, load_image_tower, silence_telemetry

PRECISIONS = ("fp32", "bf16", "int8")
# Mean cosine with torch's embeddings below which nothing is written. Measured on expclip-mini: 1.0000, 1.0000 and 0.9998.
AGREEMENT = {"fp32": 0.9999, "bf16": 0.999, "int8": 0.98}
MIN_IMAGES, MAX_IMAGES = 16, 300
_PACKAGES = {"openvino": ("openvino", "nncf"), "onnx": ("onnx", "onnxscript", "onnxruntime", "nncf")}


def export(
    source: str, output: str | Path, backend: str, precision: str = "fp32", calibration: Sequence[str] = ()
) -> None:
    """Writes a plain CLIP folder with the image tower beside it for another runtime.

    Of a checkpoint on SigLIP it is the same checkpoint, and for ONNX both towers, each with the head.

    Args:
        source: Exp-CLIP or plain CLIP checkpoint, folder or Hub id.
        output: folder to write; nothing, or an empty folder, may be there.
        backend: runtime that will run the image tower, `openvino` or `onnx`.
        precision: of the image tower, `fp32`, `bf16` (OpenVINO only) or `int8` (quantised after training,
            with `calibration`).
        calibration: image files, or folders of them, like those the tower will see: 16 at least, of more
            than 300 some are left out.

    Raises:
        ValueError: no such combination; too few or unreadable calibration images; the exported tower
            does not agree with torch (`AGREEMENT`).
        ImportError: a package is missing.
        OSError: there is no such checkpoint, or `output` cannot be written. Nothing is left at `output`
            then, nor after the other errors.
    """
    _check_choices(backend, precision, calibration)
    check_output(output, source)
    _check_packages(backend)
    silence_telemetry()
    files = _calibration_files(calibration) if precision == "int8" else []
    model, processor = load_checkpoint(source)
    plain = model
    if not isinstance(model, SiglipModel):
        plain = model.merge_projection() if isinstance(model, ExpCLIPMixin) else model
        processor = plain_processor(processor)
    # The golden prompts need the limit, which not every plain CLIP's tokenizer knows.
    truncating(processor.tokenizer, plain.config.text_config.max_position_embeddings)
    pixels = _read(files, processor)
    with whole_folder(output) as folder:
        plain.save_pretrained(folder)
        save_processor(processor, folder)
        with quiet():
            write_tower(plain, folder, backend, precision, pixels)
        describe(folder, backend, precision, _PACKAGES[backend])
        golden.write(model, processor, folder)
        verify_outputs(folder)
        agreement = _check_tower(plain, processor, folder, backend, precision, pixels)
        card = _card(name_of(source), plain, backend, precision, agreement, len(files))
        (folder / "README.md").write_text(card, encoding="utf-8")


def _check_choices(backend: str, precision: str, calibration: Sequence[str]) -> None:
    for name, value, choices in (("backend", backend, BACKENDS), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise ValueError(f"unknown {name} {value!r}; expected one of {', '.join(choices)}")
    if (backend, precision) == ("onnx", "bf16"):
        raise ValueError("ONNX Runtime has no bf16 on the CPU; use --backend openvino or --precision int8")
    if precision == "int8" and not calibration:
        raise ValueError("int8 needs images like those the model will see: --calibration PATH")
    if precision != "int8" and calibration:
        raise ValueError(f"--calibration is for --precision int8; {precision} needs no images")


def _check_packages(backend: str) -> None:
    if not all(importlib.util.find_spec(package) for package in _PACKAGES[backend]):
        *names, last = _PACKAGES[backend]
        raise ImportError(
            f'exporting to {backend} needs the packages {", ".join(names)} and {last}: pip install "expclip[export]"'
        )


def _calibration_files(paths: Sequence[str]) -> list[str]:
    """At most 300 of the images in files and folders, spread evenly over them."""
    endings = image_endings()
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"--calibration: there is no file or folder {str(path)!r}")
        below = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in endings)
        found |= dict.fromkeys(below if path.is_dir() else [path])
    if len(found) < MIN_IMAGES:
        raise ValueError(
            f"--calibration gives {len(found)} images; int8 needs {MIN_IMAGES} at least, better a few hundred"
        )
    files, count = [*found], min(len(found), MAX_IMAGES)
    return [str(files[i * len(files) // count]) for i in range(count)]


def _read(files: list[str], processor: ProcessorMixin) -> list[torch.Tensor]:
    """Pixel values (1, 3, height, width) of each file. Raises ValueError with the names of those that cannot be read."""
    image_processor, pixels, failed = to_pil_processor(processor.image_processor), [], []
    for file in files:
        try:
            pixels.append(image_processor(images=open_image(file), return_tensors="pt")["pixel_values"])
        except Exception as error:  # decoders of damaged files raise whatever they please
            failed.append(f"{file} ({type(error).__name__}: {error})")
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise ValueError(f"calibration images cannot be read: {'; '.join(failed[:5])}{more}")
    return pixels


@torch.inference_mode()
def _check_tower(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    folder: Path,
    backend: str,
    precision: str,
    pixels: list[torch.Tensor],
) -> float:
    """The mean cosine of the written tower's embeddings with torch's, of the calibration images or the golden images."""
    if not pixels:
        images = load_file(folder / golden.NAME)["images"]
        pixels = [processor.image_processor(images=list(images.numpy()), return_tensors="pt")["pixel_values"]]
    tower = load_image_tower(str(folder), backend)
    cosines = [
        nn.functional.cosine_similarity(tower(batch), model.get_image_features(batch).pooler_output) for batch in pixels
    ]
    mean = torch.cat(cosines).mean().item()
    if not mean >= AGREEMENT[precision]:  # a NaN fails too
        raise ValueError(
            f"the {precision} image tower for {backend} does not agree with torch: mean cosine {mean:.4f}, at least "
            f"{AGREEMENT[precision]} is needed; choose another precision, or calibration images like those to be recognised"
        )
    return mean


def _card(name: str, plain: PreTrainedModel, backend: str, precision: str, agreement: float, calibrated: int) -> str:
    return checkpoint_card(
        f"{name}, exported for {backend}",
        f"`{name}` as a{' plain' * (not isinstance(plain, ExpCLIPMixin))} `{type(plain).__name__}`, with its image tower beside it for the backend `{backend}` in {precision}, written by "
        f"`expclip export`{f' with {calibrated} calibration images' if calibrated else ''}. The mean cosine of the exported tower's "
        f"embeddings with torch's was {agreement:.5f} on {'these images' if calibrated else 'three synthetic images'}. "
        "`expclip classify --model` runs the exported tower; the pipeline below runs the same model in torch.",
        remote_code=isinstance(plain, ExpCLIPMixin),
    )
