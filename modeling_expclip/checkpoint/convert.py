"""`expclip convert`: a Hugging Face CLIP and a projection head in the released format become a checkpoint folder."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPModel

from ..processing_expclip import ExpCLIPProcessor
from .backbones import PLAIN, embedding_dim
from .card import checkpoint_card
from .head import load_head, with_head
from .load import load_weights, model_type_of
from .processors import own_image_processor, own_tokenizer, paper_image_processor
from .save import check_output, name_of, save_checkpoint
from .validation import check_config


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


def convert(clip: str | Path, head: str | Path, output: str | Path) -> None:
    """Writes an Exp-CLIP checkpoint from a backbone and a projection head.

    On a CLIP it has the paper's preprocessing, on another backbone that backbone's own.

    Args:
        clip: checkpoint of a CLIP, a MetaCLIP 2 or a SigLIP, folder or Hub id.
        head: `.pth` file, a state dict with the one key `mlp.weight` (alignment_dim, projection_dim).
        output: folder to write; nothing, or an empty folder, may be there.

    Raises:
        ValueError: `clip` is no such backbone, `head` holds no head, or the head does not fit the CLIP's projection.
        OSError: a file is missing, or `output` cannot be written. Nothing is left at `output` then.
    """
    clip = str(clip)
    check_output(output, clip)
    weight = load_head(head)
    model_type = model_type_of(clip)
    if model_type not in PLAIN:
        raise ValueError(
            f"{clip} holds a model of type {model_type!r}; expected one without a head: {', '.join(PLAIN)}"
        )
    model_class = PLAIN[model_type]
    check_config(clip, model_class)
    source = load_weights(model_class, clip, torch.float32)
    tokenizer = own_tokenizer(clip, source.config)
    width = embedding_dim(source)
    if weight.shape[1] != width:
        raise ValueError(
            f"expected a head of shape (H, {width}) for {clip}, got {tuple(weight.shape)}; "
            f"this head belongs to a backbone whose embeddings have a width of {weight.shape[1]}"
        )
    model = with_head(source, weight)
    if model_class is CLIPModel:
        images = paper_image_processor(source.config.vision_config.image_size)
    else:
        images = own_image_processor(clip, source.config)
    processor = ExpCLIPProcessor(images, tokenizer)
    card = checkpoint_card(
        f"Exp-CLIP on {name_of(clip)}",
        f"Exp-CLIP: the backbone `{name_of(clip) if Path(clip).is_dir() else clip}` and the projection head "
        f"`{Path(head).name}` ({len(weight)} x {width}), put together by `expclip convert`.",
        base_model=None if Path(clip).is_dir() else clip,
    )
    save_checkpoint(model, processor, output, card)


def convert_released(name: str, output: str | Path) -> None:
    """Downloads one of the paper's heads, checks it against its git blob id, and converts it.

    Args:
        name: `b32`, `b16` or `l14`, the CLIP it belongs to.
        output: folder to write; nothing, or an empty folder, may be there.

    Raises:
        ValueError: no such name, or what was downloaded is not the released head.
        OSError: a download failed, or `output` cannot be written. Nothing is left at `output` then.
    """
    if name not in RELEASED:
        raise ValueError(f"no released model {name!r}; expected one of {', '.join(RELEASED)}")
    check_output(output)
    released = RELEASED[name]
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / Path(released.head).name
        try:
            torch.hub.download_url_to_file(released.head, str(head))
        except OSError as error:
            raise OSError(
                f"the released head cannot be fetched from {released.head} ({error}); fetch it elsewhere, and the CLIP "
                f"{released.clip}, and give both to `expclip convert --clip DIR --head FILE.pth`"
            ) from error
        content = head.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324, git's own
        if blob != released.blob:
            raise ValueError(f"{released.head} is not the released head: git blob id {blob}, expected {released.blob}")
        convert(released.clip, head, output)
