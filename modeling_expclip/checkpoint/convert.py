"""``expclip convert``: a Hugging Face CLIP and a projection head in the released format become a checkpoint folder."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from ..configuration_expclip import ExpCLIPConfig
from ..modeling_expclip import ExpCLIPModel
from ..processing_expclip import ExpCLIPProcessor
from .card import checkpoint_card
from .folder import check_output, load_weights, model_type_of, name_of, save_checkpoint
from .validation import check_config

HEAD_KEY = "mlp.weight"


@dataclass(frozen=True)
class Released:
    """One of the paper's models: the Hub id of its CLIP, and the head's address and git blob id."""

    clip: str
    head: str
    blob: str


_REPOSITORY = "https://raw.githubusercontent.com/zengqunzhao/Exp-CLIP/main/checkpoint/ExpCLIP_{}_model.pth"
RELEASED = {
    "b32": Released(
        "openai/clip-vit-base-patch32", _REPOSITORY.format("B32"), "c7d28eb6c9665e709d9d6a422864a9d5713432f3"
    ),
    "b16": Released(
        "openai/clip-vit-base-patch16", _REPOSITORY.format("B16"), "6f2b877fec83699e17283a511002376d117ce45f"
    ),
    "l14": Released(
        "openai/clip-vit-large-patch14", _REPOSITORY.format("L14"), "febcf3447362f5b3654de12f89b2185414d62ec8"
    ),
}


def read_pth(path: Path) -> Any:
    """What a ``.pth`` file holds, on the CPU. Nothing pickled is executed; raises ValueError for a file that is damaged or wants it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch packs nothing, but would unpack it
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than the file has")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it is not a plain state dict (it holds pickled code, or is damaged)"
        ) from error
    except Exception as error:  # damaged files make torch raise a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read as a .pth file, it may be cut off: {reason}") from error
    _check_tensors(path, content)
    return content


def _check_tensors(path: Path, content: Any) -> None:
    """Raises ValueError for a tensor that is no plain array of numbers, or of more numbers than the file holds for it.

    A stride of 0 repeats a number for ever: 1.5 KB then become terabytes in whatever copies the tensor.
    """
    left, seen = [content], set()
    while left:  # not by recursion, for lists may lie as deep as the file is long
        value = left.pop()
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value
        elif isinstance(value, torch.Tensor):
            plain = value.layout == torch.strided and not value.is_nested and not value.is_quantized
            if not plain or value.device.type != "cpu":
                raise ValueError(
                    f"{path} holds a tensor that is no plain array of numbers but sparse, quantised, nested or without values"
                )
            needed, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if needed > held or held > path.stat().st_size:
                raise ValueError(
                    f"{path} is refused: a tensor of shape {tuple(value.shape)} is {needed:,} bytes, but the file holds "
                    f"{min(held, path.stat().st_size):,} for it"
                )


def load_head(path: str | Path) -> torch.Tensor:
    """Reads W (alignment_dim, projection_dim) float32 from a state dict with the one key ``mlp.weight``.

    Raises FileNotFoundError, or ValueError for anything but plain finite numbers in that form. Nothing pickled is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no head file {str(path)!r}; pass the .pth with the state dict of the projection head")
    state = read_pth(path)
    if not isinstance(state, dict) or set(state) != {HEAD_KEY}:
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path} must hold one tensor named {HEAD_KEY!r}, found: {found}")
    weight = state[HEAD_KEY]
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2 or not weight.is_floating_point() or not weight.numel():
        shape = tuple(weight.shape) if isinstance(weight, torch.Tensor) else type(weight).__name__
        raise ValueError(
            f"{path}: {HEAD_KEY!r} must be a matrix of floats (alignment_dim, projection_dim), got {shape}"
        )
    weight = weight.float()
    if not weight.isfinite().all() or not weight.any():
        raise ValueError(f"{path}: {HEAD_KEY!r} holds values that are not finite, or only zeros; the file is damaged")
    return weight


def paper_image_processor(image_size: int) -> CLIPImageProcessorPil:
    """The paper's preprocessing: RGB, bilinear squash to a square, scaled to 0..1, *not* normalised."""
    size = {"height": image_size, "width": image_size}
    return CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False, do_normalize=False, resample=2)


def truncating(tokenizer: CLIPTokenizer, length: int) -> CLIPTokenizer:
    """Gives the tokenizer its limit, so that what is saved knows how much the text tower reads."""
    tokenizer.model_max_length = length
    tokenizer.backend_tokenizer.enable_truncation(length)
    return tokenizer


def with_head(clip: CLIPModel, weight: torch.Tensor) -> ExpCLIPModel:
    """Exp-CLIP from a CLIP's towers (an Exp-CLIP's own head is left behind) and a head (alignment_dim, projection_dim)."""
    config = ExpCLIPConfig(
        text_config=clip.config.text_config.to_dict(),
        vision_config=clip.config.vision_config.to_dict(),
        projection_dim=clip.config.projection_dim,
        logit_scale_init_value=clip.config.logit_scale_init_value,
        alignment_dim=len(weight),
    )
    model = ExpCLIPModel(config)
    model.load_state_dict(clip.state_dict() | {"projection_head.weight": weight})
    return model.eval()


def convert(clip: str, head: str | Path, output: str | Path) -> None:
    """Writes an Exp-CLIP checkpoint to ``output`` from a CLIP (folder or Hub id) and a head (``.pth``).

    Raises ValueError when ``clip`` is no CLIP or the head does not fit its projection; nothing is left at ``output`` then.
    """
    check_output(output, clip)
    weight = load_head(head)
    model_type = model_type_of(clip)
    if model_type != "clip":
        raise ValueError(f"{clip} holds a model of type {model_type!r}; expected a CLIP ('clip')")
    check_config(clip, CLIPModel)
    source = load_weights(CLIPModel, clip, torch.float32)
    width = source.config.projection_dim
    if weight.shape[1] != width:
        raise ValueError(
            f"expected a head of shape (H, {width}) for {clip}, got {tuple(weight.shape)}; "
            f"this head belongs to a CLIP whose projection_dim is {weight.shape[1]}"
        )
    model = with_head(source, weight)
    config = model.config
    tokenizer = truncating(
        AutoTokenizer.from_pretrained(clip, trust_remote_code=False), config.text_config.max_position_embeddings
    )
    processor = ExpCLIPProcessor(paper_image_processor(config.vision_config.image_size), tokenizer)
    card = checkpoint_card(
        f"Exp-CLIP on {name_of(clip)}",
        f"Exp-CLIP: the CLIP `{name_of(clip) if Path(clip).is_dir() else clip}` and the projection head "
        f"`{Path(head).name}` ({len(weight)} x {width}), put together by `expclip convert`.",
        base_model=None if Path(clip).is_dir() else clip,
    )
    save_checkpoint(model, processor, output, card)


def convert_released(name: str, output: str | Path) -> None:
    """Downloads one of the paper's heads (``b32``, ``b16``, ``l14``), checks it against its git blob id, and converts it."""
    check_output(output)
    released = RELEASED[name]
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / Path(released.head).name
        torch.hub.download_url_to_file(released.head, str(head))
        content = head.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if blob != released.blob:
            raise ValueError(f"{released.head} is not the released head: git blob id {blob}, expected {released.blob}")
        convert(released.clip, head, output)
