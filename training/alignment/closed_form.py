"""A head without training: ridge regression from CLIP's image features to centred teacher vectors,
in closed form."""

from __future__ import annotations

import torch


def ridge_head(image: torch.Tensor, teacher: torch.Tensor, strength: float) -> torch.Tensor:
    """W (H, D) that minimises the squared error |W v - (e - mean e)|^2 + lambda |W|^2 over all faces.

    Args:
        image: v, (N, D) image features before the head.
        teacher: e, (N, H) teacher vectors.
        strength: lambda, as a multiple of the mean eigenvalue of the features' second moments.
    """
    image, teacher = image.double(), teacher.double()
    moments = image.T @ image  # (D, D)
    penalty = strength * moments.diagonal().mean()
    moments.diagonal().add_(penalty)
    return torch.linalg.solve(moments, image.T @ (teacher - teacher.mean(0))).T.float().contiguous()  # (H, D)
