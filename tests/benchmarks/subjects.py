"""What is measured: CLIP ViT-B/32's shape with random weights, and the mini; each as it is, merged and exported."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from modeling_expclip import MINI
from modeling_expclip.checkpoint.convert import convert
from modeling_expclip.checkpoint.merge import merge
from modeling_expclip.exporters.export import export
from tests.conftest import small_tokenizer

EXPORTS = (("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"), ("onnx", "fp32"), ("onnx", "int8"))


def jpeg(seed: int, side: int = 256) -> bytes:
    """A smooth synthetic picture with some noise, as large a file as a photo of its size."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((side, side), 3)
    noise = generator.integers(-12, 13, (side, side, 3))
    content = io.BytesIO()
    Image.fromarray((np.asarray(small) + noise).clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def write_jpegs(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:05d}.jpg").write_bytes(jpeg(i))
    return folder


def write_vit_b32(folder: Path) -> Path:
    """An Exp-CLIP of ViT-B/32's shape with a head of the paper's, (4096, 512); real CLIP weights cannot be had here."""
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config={"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513})).save_pretrained(
        folder / "clip"
    )
    CLIPProcessor(CLIPImageProcessorPil(), small_tokenizer()).save_pretrained(folder / "clip")
    torch.save({"mlp.weight": torch.randn(4096, 512)}, folder / "head.pth")
    convert(str(folder / "clip"), folder / "head.pth", folder / "exp-clip")
    return folder / "exp-clip"


def subjects(folder: Path, name: str, exports: tuple = EXPORTS) -> dict[str, Path]:
    """``exp-clip``, ``merged`` and the exports of ``vit-b32`` or ``expclip-mini``, written to ``folder``."""
    folder.mkdir()
    found = {"exp-clip": Path(MINI) if name == "expclip-mini" else write_vit_b32(folder)}
    found["merged"] = folder / "merged"
    merge(found["exp-clip"], found["merged"])
    pictures = write_jpegs(folder / "calibration", 64)
    for backend, precision in exports:
        output = found[f"{backend} {precision}"] = folder / f"{backend}-{precision}"
        export(str(found["exp-clip"]), output, backend, precision, [str(pictures)] if precision == "int8" else ())
    return found


def medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each way, taken in turns so that what else the machine does falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
