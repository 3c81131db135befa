"""Do other tools answer as the golden outputs of a plain CLIP folder say? Each that is installed, and that the folder has files for.

In: a checkpoint, and its model and processor in torch. Out: for each tool, the largest difference of its logits.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from packaging.version import Version
from PIL import Image
from torch import nn
from transformers import CLIPModel, CLIPProcessor
from transformers.utils import cached_file

from ..checkpoint import golden
from .int8 import QUANTIZED
from .open_clip_files import CONFIG, open_clip_config

GRAPH = "onnx/model.onnx"
SENTENCE_TRANSFORMERS = "sentence-transformers"


def not_installed(source: str, model_type: str | None) -> list[str]:
    """The tools that `compare_tools` does not ask of a plain CLIP (folder or Hub id), though it has what they need: they are not there, or too old."""
    absent = []
    if not find_spec("onnxruntime") and _file(source, GRAPH):
        absent.append("ONNX Runtime")
    if not find_spec("open_clip") and _file(source, CONFIG):
        absent.append("open_clip")
    # Older ones run the code of any folder here, whatever trust_remote_code says.
    older = not find_spec("sentence_transformers") or Version(version("sentence-transformers")) < Version("6")
    if model_type == "clip" and older:  # it knows no other type
        absent.append(SENTENCE_TRANSFORMERS)
    return absent


def compare_tools(source: str, model: CLIPModel, processor: CLIPProcessor) -> dict[str, float]:
    """Asks ONNX Runtime, open_clip and sentence-transformers the golden prompts and images.

    Args:
        source: folder or Hub id of a plain CLIP with golden outputs.
        model: as `load_checkpoint` gives it.
        processor: as `load_checkpoint` gives it.

    Returns:
        The largest absolute difference of `logits_per_image` for each tool that was asked.

    Raises:
        VerificationError: a difference is beyond the tolerance stored with the outputs, or open_clip's config is not
            this checkpoint's.
    """
    expected, metadata = golden.expected(source)
    images = [Image.fromarray(image) for image in expected["images"].numpy()]
    prompts, tolerance = metadata["prompts"], metadata["logit_tolerance"]
    answers: dict[str, torch.Tensor] = {}
    absent = not_installed(source, model.config.model_type)
    if "ONNX Runtime" not in absent and (path := _file(source, GRAPH)):
        answers["ONNX Runtime"] = _onnx_runtime(path, processor, images, prompts)
    if path := _file(source, CONFIG):
        check_config(path, model, processor)
        if "open_clip" not in absent:
            answers["open_clip"] = _open_clip(source, images, prompts)
    if isinstance(model, CLIPModel) and SENTENCE_TRANSFORMERS not in absent:
        if _file(source, "modules.json"):
            raise golden.VerificationError(
                f"{source} holds a modules.json, which `expclip merge` does not write and sentence-transformers would follow; remove it"
            )
        answers[SENTENCE_TRANSFORMERS] = _sentence_transformers(
            source, _resized(images, processor), prompts, model.logit_scale
        )
    differences = {}
    for tool, logits in answers.items():
        if logits.shape != expected["logits_per_image"].shape:
            raise golden.VerificationError(
                f"{source}: {tool} answers logits_per_image of shape {tuple(logits.shape)}, "
                f"not {tuple(expected['logits_per_image'].shape)}; write its files again with `expclip merge`"
            )
        difference = differences[tool] = (logits - expected["logits_per_image"]).abs().max().item()
        if not difference <= tolerance:  # a NaN fails too
            raise golden.VerificationError(
                f"{source}: in {tool} logits_per_image differ from the golden ones by {difference:.3g}, more than {tolerance:g}"
            )
    return differences


def int8_agreement(folder: Path, processor: CLIPProcessor) -> float:
    """Mean cosine of the embeddings by `onnx/NAME_quantized.onnx` with those by `onnx/NAME.onnx`, of the tower that keeps less."""
    images, prompts = golden.questions()
    inputs = processor(images=[*images], text=prompts, padding=True, truncation=True, return_tensors="np")
    means = []
    for name, taken, given in (
        ("vision_model", "pixel_values", "image_embeds"),
        ("text_model", "input_ids", "text_embeds"),
    ):
        exact, coarse = (
            torch.from_numpy(_run(folder / "onnx" / f"{name}{kind}.onnx", {taken: inputs[taken]}, given))
            for kind in ("", QUANTIZED)
        )
        means.append(nn.functional.cosine_similarity(exact, coarse).mean().item())
    return min(means)


def _file(source: str, name: str) -> str | None:
    return cached_file(source, name, _raise_exceptions_for_missing_entries=False)


def _onnx_runtime(path: str, processor: CLIPProcessor, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
    inputs = processor(images=images, text=prompts, padding=True, truncation=True, return_tensors="np")
    return torch.from_numpy(_run(path, dict(inputs), "logits_per_image"))


def _run(path: str | Path, inputs: dict[str, np.ndarray], output: str) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run([output], inputs)[0], np.float32)
    except Exception as error:  # its exceptions have no common public class
        raise golden.VerificationError(f"ONNX Runtime cannot run {path}: {error}") from error


def check_config(path: str | Path, model: CLIPModel, processor: CLIPProcessor) -> None:
    """Golden outputs do not cover this file, because publishing puts the repository's name into it."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        same = found == open_clip_config(model, processor, found["model_cfg"]["text_cfg"]["hf_tokenizer_name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise golden.VerificationError(
            f"{path} was changed or is damaged; write it again with `expclip merge --open-clip`"
        )


@torch.inference_mode()
def _open_clip(source: str, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
    import open_clip

    name = f"local-dir:{source}" if Path(source).is_dir() else f"hf-hub:{source}"
    try:
        model, preprocess = open_clip.create_model_from_pretrained(name)
        text = model.eval().encode_text(open_clip.get_tokenizer(name)(prompts), normalize=True)  # (prompts, D)
        image = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
    except (RuntimeError, ValueError, OSError) as error:  # weights that do not fit, say
        raise golden.VerificationError(f"open_clip cannot open {source}: {error}") from error
    return model.logit_scale.exp() * image @ text.T


def _resized(images: list[Image.Image], processor: CLIPProcessor) -> list[Image.Image]:
    """As large as the model reads them: transformers resizes with torchvision where that is installed, a little differently."""
    pixels = processor.image_processor(images, do_rescale=False, do_normalize=False, return_tensors="np")
    return [Image.fromarray(image) for image in pixels["pixel_values"].astype(np.uint8).transpose(0, 2, 3, 1)]


@torch.inference_mode()
def _sentence_transformers(
    source: str, images: list[Image.Image], prompts: list[str], logit_scale: torch.Tensor
) -> torch.Tensor:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(source, device="cpu", trust_remote_code=False)
    embeddings = [
        torch.as_tensor(model.encode(inputs, show_progress_bar=False, convert_to_tensor=True))
        for inputs in (images, prompts)
    ]
    image, text = (nn.functional.normalize(embedding.float(), dim=-1) for embedding in embeddings)
    return logit_scale.exp() * image @ text.T
