"""Fixtures: a small random CLIP with its own tokenizer, a head in the released format, and shared/ where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.utils import is_torchvision_available

# What transformers' own pipeline may differ by: it resizes with torchvision where that is installed, ours never does.
STOCK = 1e-3 if is_torchvision_available() else 1e-5
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def no_traces(tmp_path_factory) -> Iterator[None]:
    """What the code keeps for its user between runs goes into a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        assets = str(tmp_path_factory.mktemp("assets"))
        patch.setenv("HF_ASSETS_CACHE", assets)  # for the processes that tests start
        patch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", assets)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the project's shared material at {SHARED}")
    return SHARED


def small_tokenizer() -> CLIPTokenizer:
    """One token a byte: slow in reality, complete and tiny here."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: i for i, word in enumerate(words)}, [])


def small_clip(seed: int = 0, projection_dim: int = 24, legacy_eos: bool = False) -> CLIPModel:
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "bos_token_id": 0 if legacy_eos else 512,
            "eos_token_id": 2 if legacy_eos else 513,
            "pad_token_id": 1 if legacy_eos else 513,
        },
        vision_config={
            "hidden_size": 40,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=projection_dim,
    )
    return CLIPModel(config).eval()


def write_clip(folder: Path, **options) -> Path:
    small_clip(**options).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessorPil(size=size, crop_size=size), small_tokenizer()).save_pretrained(folder)
    return folder


def write_head(path: Path, alignment_dim: int = 48, projection_dim: int = 24, seed: int = 1) -> Path:
    generator = torch.Generator().manual_seed(seed)
    torch.save({"mlp.weight": torch.randn(alignment_dim, projection_dim, generator=generator)}, path)
    return path


def picture(seed: int = 0, size: tuple[int, int] = (50, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def head_file(tmp_path_factory) -> Path:
    return write_head(tmp_path_factory.mktemp("head") / "projection_head.pth")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, clip_folder, head_file) -> Path:
    """An Exp-CLIP checkpoint written by the converter."""
    from modeling_expclip.checkpoint.convert import convert

    output = tmp_path_factory.mktemp("checkpoint") / "expclip-small"
    convert(str(clip_folder), head_file, output)
    return output


def write_video(path: Path, pictures, fps: int = 10, **options) -> Path:
    """PIL pictures of one even size -> a video file; the ending chooses the container."""
    av = pytest.importorskip("av")
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(path.suffix, "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.bit_rate, stream.options = 4_000_000, options
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(pictures):
            if number == 0:
                stream.width, stream.height = image.size
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path
