"""The projection head W: read from its released format, and put on a CLIP."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from .backbones import head_class
from .pth import read_pth

HEAD_KEY = "mlp.weight"


def load_head(path: str | Path) -> torch.Tensor:
    """Reads a head from a `.pth` state dict with the one key `mlp.weight`. Nothing pickled is executed.

    Returns:
        W (alignment_dim, projection_dim) float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds anything but one matrix of finite floats under that key.
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


def with_head(clip: PreTrainedModel, weight: torch.Tensor) -> PreTrainedModel:
    """Exp-CLIP from a backbone's towers and a head.

    Args:
        clip: a CLIP or another of `backbones.PLAIN`, or an Exp-CLIP whose own head is left behind.
        weight: W (alignment_dim, projection_dim).

    Returns:
        The model in eval mode, with copies of the weights.
    """
    model_class = head_class(clip)
    settings = clip.config.to_dict()
    kept = (
        "text_config",
        "vision_config",
        "projection_dim",
        "logit_scale_init_value",
    )  # of which SigLIP has the first two
    config = model_class.config_class(
        **{name: settings[name] for name in kept if name in settings}, alignment_dim=len(weight)
    )
    model = model_class(config)
    model.load_state_dict(clip.state_dict() | {"projection_head.weight": weight})
    return model.eval()
