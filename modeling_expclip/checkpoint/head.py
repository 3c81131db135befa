"""The projection head W: read from its released format, and put on a CLIP."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPModel

from ..configuration_expclip import ExpCLIPConfig
from ..modeling_expclip import ExpCLIPModel
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


def with_head(clip: CLIPModel, weight: torch.Tensor) -> ExpCLIPModel:
    """Exp-CLIP from a CLIP's towers and a head.

    Args:
        clip: a CLIP, or an Exp-CLIP whose own head is left behind.
        weight: W (alignment_dim, projection_dim).

    Returns:
        The model in eval mode, with copies of the weights.
    """
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
