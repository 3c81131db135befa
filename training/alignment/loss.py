"""The module that learns, W alone, and its loss: CLIP's symmetric contrastive loss over all faces
of all processes.

Source: the Exp-CLIP paper (WACV 2025), whose loss is CLIP's, between the head's output for a face
and what the LLM encoder made of the same face.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class Gather(torch.autograd.Function):
    """The rows of all processes, (B, H) -> (processes * B, H); each process gets back the gradient
    of its own from all of them.

    ``torch.distributed.nn.functional.all_gather`` does the same, but torch warns that it goes in
    favour of a private module.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may still need its own
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


class AlignmentModel(nn.Module):
    """W (alignment_dim, projection_dim) and the loss it learns from.

    Args:
        weight: W to start from.
        logit_scale: the loss's inverse temperature, CLIP's exp(logit_scale); not trained.
        teacher_mean: (alignment_dim,), subtracted from every teacher vector.
        wise_ft_alpha: share of the trained W in the final head; the rest is ``weight``.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        logit_scale: float,
        teacher_mean: torch.Tensor | None = None,
        wise_ft_alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.projection_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        with torch.no_grad():
            self.projection_head.weight.copy_(weight)
        self.logit_scale = logit_scale
        mean = torch.zeros(len(weight)) if teacher_mean is None else teacher_mean
        self.register_buffer("teacher_mean", mean, persistent=False)
        self.register_buffer("initial", weight.clone(), persistent=False)
        self.wise_ft_alpha = wise_ft_alpha

    def head(self) -> torch.Tensor:
        """The head as it would be shipped, (alignment_dim, projection_dim)."""
        return torch.lerp(self.projection_head.weight.detach(), self.initial, 1 - self.wise_ft_alpha).cpu()

    def forward(self, image: torch.Tensor, teacher: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: (B, projection_dim), CLIP's image features of this process's faces.
            teacher: (B, alignment_dim), the teacher's vectors of the same faces.

        Returns:
            ``loss`` over the faces of all processes (its mean over processes is the loss of one
                process with all of them),
            and the share of faces whose own vector is the nearest, ``image_to_teacher`` and
                ``teacher_to_image``.
        """
        image = F.normalize(self.projection_head(image), dim=-1)  # (B, H)
        teacher = F.normalize(teacher - self.teacher_mean, dim=-1)  # (B, H)
        images, teachers, first = image, teacher, 0
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            # Every face of every process is a candidate, and gradients flow back to the process it
            # came from.
            images, teachers = Gather.apply(image), Gather.apply(teacher)  # (processes * B, H)
            first = dist.get_rank() * len(image)
        own = torch.arange(first, first + len(image), device=image.device)
        to_teacher = self.logit_scale * image @ teachers.T  # (B, processes * B)
        to_image = self.logit_scale * teacher @ images.T
        return {
            "loss": (F.cross_entropy(to_teacher, own) + F.cross_entropy(to_image, own)) / 2,
            "image_to_teacher": (to_teacher.argmax(1) == own).float().mean().detach(),
            "teacher_to_image": (to_image.argmax(1) == own).float().mean().detach(),
        }
