"""Golden outputs: what a checkpoint answered when it was written, kept beside it so that anyone can ask it again.

Synthetic images and prompts go through the processor and the model; images, a sample of the pixels and the logits go to
`golden.safetensors`. Wrong weights, another preprocessing or a library that changed its mind then show.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils import cached_file

from ..prompts import LABEL_SETS, build_prompts

NAME = "golden.safetensors"
LOGIT_TOLERANCE = 1e-3  # float32 on another machine moves CLIP's logits, which reach 100, by up to some 1e-4
PIXEL_TOLERANCE = 0.02  # a little over one step of 1/255 after CLIP's normalisation
_STRIDE = 5
_UNRECORDED = "open_clip_config.json"  # publishing puts the repository's name into it
_TENSORS = ("images", "pixel_values", "logits_per_image")
_METADATA = ("prompts", "logit_tolerance", "pixel_tolerance", "transformers", "torch", "sha256")


# What travels in a checkpoint: five files, one of another backbone than CLIP, and those of 0.1.
_CODE = tuple(
    f"{name}.py"
    for name in "configuration_expclip modeling_expclip processing_expclip pipeline_expclip prompts "
    "metaclip2_expclip siglip_expclip "
    "backends faces stream timeline tracking video".split()
)


class VerificationError(ValueError):
    """A checkpoint no longer gives the outputs it was written with."""


def write(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Writes `golden.safetensors` with the model's answers to `folder`."""
    images, prompts = questions()
    pixels, logits = _answers(model, processor, images, prompts)
    tensors = {"images": torch.from_numpy(images), "pixel_values": pixels, "logits_per_image": logits}
    metadata = {
        "prompts": json.dumps(prompts),
        "logit_tolerance": str(LOGIT_TOLERANCE),
        "pixel_tolerance": str(PIXEL_TOLERANCE),
        "transformers": transformers.__version__,
        "torch": str(torch.__version__),
        "sha256": json.dumps(_digests(folder)),
    }
    save_file(tensors, folder / NAME, metadata=metadata)


def questions() -> tuple[np.ndarray, list[str]]:
    """The synthetic images (3, height, width, 3) uint8, and the prompts."""
    prompts = [prompt for group in build_prompts(LABEL_SETS["mafw"][:4], "ensemble5") for prompt in group]
    return _images(), [*prompts, "smiling", "a face " * 100]  # the last is longer than CLIP reads


def compare(model: PreTrainedModel, processor: ProcessorMixin, source: str | Path) -> dict[str, float]:
    """Recomputes the golden outputs of a checkpoint with the model and processor loaded from it.

    Of a folder on this machine, the data files are compared with their recorded sha256 as well.

    Args:
        model: as `load_checkpoint` gives it.
        processor: as `load_checkpoint` gives it.
        source: checkpoint folder or Hub id.

    Returns:
        The largest absolute difference of `pixel_values` and of `logits_per_image`.

    Raises:
        VerificationError: a difference is beyond the tolerance stored with the outputs, or a file has changed.
        FileNotFoundError: there are no golden outputs.
    """
    wanted, metadata = expected(source)
    recorded = metadata["sha256"]
    written = f"written with transformers {metadata['transformers']}, torch {metadata['torch']}"
    pixels, logits = _answers(model, processor, wanted["images"].numpy(), metadata["prompts"])
    differences = {}
    for name, found, cause in (
        ("pixel_values", pixels, "its preprocessing has changed"),
        ("logits_per_image", logits, "its weights, tokenizer or the library have changed"),
    ):
        if found.shape != wanted[name].shape:
            shapes = f"{tuple(found.shape)} instead of {tuple(wanted[name].shape)}"
            raise VerificationError(f"{source}: {name} have shape {shapes}: {cause} ({written})")
        difference = (found - wanted[name]).abs().max().item()
        tolerance = metadata["pixel_tolerance" if name == "pixel_values" else "logit_tolerance"]
        if not difference <= tolerance:  # a NaN fails too
            raise VerificationError(
                f"{source}: {name} differ from the golden ones by {difference:.3g}, more than {tolerance:g}: {cause} ({written})"
            )
        differences[name] = difference
    if Path(source).is_dir():
        digests = _digests(Path(source))
        changed = sorted(name for name in recorded if recorded[name] != digests.get(name))
        if changed:
            raise VerificationError(
                f"{source}: changed since the checkpoint was written: {', '.join(changed)} ({written})"
            )
    return differences


def expected(source: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The golden outputs of a checkpoint (folder or Hub id).

    Returns:
        The tensors `images` (B, height, width, 3) uint8, `pixel_values` (a sample) and `logits_per_image`
        (B, prompts); and the decoded metadata: `prompts`, `logit_tolerance`, `pixel_tolerance`, versions.

    Raises:
        VerificationError: they are damaged.
        FileNotFoundError: there are none.
    """
    path = cached_file(str(source), NAME, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise FileNotFoundError(
            f"{source} has no {NAME}; write the checkpoint with `expclip convert` or `expclip merge`"
        )
    return _read(path)


def files_of(folder: Path) -> set[str]:
    """The names of a checkpoint folder's own files, by its golden outputs, its configs and what travels with them.

    Raises VerificationError or OSError where `folder` is no checkpoint that `write` was called for.
    """
    _, metadata = _read(str(folder / NAME))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    code = _CODE if isinstance(config, dict) and config.get("auto_map") else ()
    # Those of other runtimes, by how `expclip export` and `expclip merge` call them.
    others = ("onnx", _UNRECORDED, *(path.name for path in folder.glob("image_tower.*")))
    return {NAME, "README.md", *metadata["sha256"], *code, *others}


def _read(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the decoded metadata of golden outputs. Raises VerificationError where they cannot be what `write` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise VerificationError(f"{path} cannot be read: {error}") from error
    missing = {*_METADATA} - {*metadata} | {*_TENSORS} - {*tensors}
    if missing:
        raise VerificationError(f"{path} is damaged, it lacks {', '.join(sorted(missing))}")
    try:
        metadata |= {name: json.loads(metadata[name]) for name in ("prompts", "sha256")}
        metadata |= {name: float(metadata[name]) for name in ("logit_tolerance", "pixel_tolerance")}
        prompts, digests, images = metadata["prompts"], metadata["sha256"], tensors["images"]
        whole = isinstance(prompts, list) and len(prompts) > 0 and all(isinstance(prompt, str) for prompt in prompts)
        whole &= isinstance(digests, dict) and len(digests) > 0
        whole &= images.dtype == torch.uint8 and images.ndim == 4 and images.shape[-1] == 3 and images.numel() > 0
        whole &= all(tensors[name].dtype == torch.float32 for name in _TENSORS[1:])
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise VerificationError(f"{path} is damaged: it does not hold what golden outputs are")
    return tensors, metadata


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of the folder's weights, tokenizer and JSON files; cards and code may be edited."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in (".json", ".safetensors") and path.name not in (NAME, _UNRECORDED) and path.is_file()
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _images() -> np.ndarray:
    """Three synthetic images (3, 60, 84, 3) uint8: slopes, stripes and a checkerboard, so that any resizing shows."""
    y, x = np.mgrid[:60, :84]
    grey = [(2 * x + y) % 256, 128 + 120 * np.sin(x / 3 + y / 5), 255 * ((x // 7 + y // 6) % 2)]
    return np.stack([np.stack([g, np.roll(g, 9, 1), 255 - np.asarray(g)], -1) for g in grey]).astype(np.uint8)


@torch.inference_mode()
def _answers(
    model: PreTrainedModel, processor: ProcessorMixin, images: np.ndarray, prompts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = processor(
        images=[Image.fromarray(image) for image in images],
        text=prompts,
        padding=True,
        truncation=True,
        return_tensors="pt",
    )
    logits = model(**inputs.to(model.device)).logits_per_image  # (images, prompts)
    return inputs["pixel_values"][
        ..., ::_STRIDE, ::_STRIDE
    ].float().cpu().contiguous(), logits.float().cpu().contiguous()
