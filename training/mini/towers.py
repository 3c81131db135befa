"""The mini's image tower: a stock CLIPVisionModel trained against captions, vote shares and the teacher's feature map.

Captions enter as frozen sentence embeddings; the matrix that takes them to CLIP's space is learned with the tower and
later folded into the text tower (``text.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from .captions import CATEGORIES, NOT_MENTIONED, agreement
from .images import SIZE
from .teacher import CHANNELS, TeacherNet

PROJECTION_DIM = 128
VISION = CLIPVisionConfig(
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=3,
    image_size=SIZE,
    patch_size=8,
    hidden_act="gelu",
    projection_dim=PROJECTION_DIM,
    attn_implementation="eager",  # its backward pass is 10 times faster than sdpa's in bf16 on a CPU
)


class ImageTower(nn.Module):
    """CLIP's image side, the captions' projection, and two heads that exist only for distillation."""

    def __init__(self, sentence_dim: int) -> None:
        super().__init__()
        self.vision_model = CLIPVisionModel(VISION)
        with torch.no_grad():
            self.vision_model.embeddings.position_embedding.weight[1:] = grid_positions()
        self.visual_projection = nn.Linear(VISION.hidden_size, PROJECTION_DIM, bias=False)
        self.caption_projection = nn.Linear(sentence_dim, PROJECTION_DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.token_head = nn.Linear(VISION.hidden_size, CHANNELS)
        self.vote_head = nn.Linear(VISION.hidden_size, len(CATEGORIES))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Grey views (B, 1, 48, 48) -> patch tokens (B, 36, 192) and the pooled output (B, 192)."""
        output = self.vision_model(x.expand(-1, 3, -1, -1))
        return output.last_hidden_state[:, 1:], output.pooler_output


def grid_positions() -> torch.Tensor:
    """Sines and cosines of a patch's row and column (patches, hidden_size), as strong as what patches show.

    CLIP's own start, a tenth of that, leaves attention blind to place for the first epochs of so short a training.
    """
    side = SIZE // VISION.patch_size
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * torch.linspace(0.3, 3.0, VISION.hidden_size // 4) for place in (rows, columns)]
    return 0.35 * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


@torch.no_grad()
def mean_feature(teacher: TeacherNet, x: torch.Tensor) -> torch.Tensor:
    """The teacher's mean feature (CHANNELS,) over views (N, 1, 48, 48): what all faces share, and no tower need imitate."""
    teacher.eval()
    return torch.stack([teacher(part)[0].mean((0, 2, 3)) for part in x.split(256)]).mean(0)


def truth_table(
    spoken: torch.Tensor, speaks: torch.Tensor, mentions: torch.Tensor, belief: torch.Tensor, factors: torch.Tensor
) -> torch.Tensor:
    """How true caption j is of picture i, (pictures, captions) in 0..1.

    A caption is true as far as its distribution ``spoken`` (captions, 8) agrees with ``belief`` (pictures, 8), where it
    ``speaks`` of the expression at all (captions,), and only where every factor it ``mentions`` (captions, factors) is the
    picture's own (``factors``, pictures x factors).
    """
    same = (mentions[None] == factors[:, None]) | (mentions == NOT_MENTIONED)[None]
    return same.all(-1) * torch.where(speaks[None], agreement(spoken, belief), 1.0)


def alignment_loss(
    tower: ImageTower,
    teacher: TeacherNet,
    shared_feature: torch.Tensor,
    batch: Callable[[torch.Generator], tuple[torch.Tensor, ...]],
) -> Callable[[torch.Generator], torch.Tensor]:
    """Contrastive loss in which every true caption is a positive, vote shares, and the imitation of the teacher, token by token.

    ``shared_feature`` (CHANNELS,) is taken off the teacher's map before tokens are compared with it. ``batch`` gives views
    (B, 1, 48, 48), vote shares (B, 8), factors (B, F), and of B captions: distributions (B, 8), whether they speak of the
    expression (B,), the factors they mention (B, F) and their sentence embeddings (B, sentence_dim).
    """
    teacher.eval()

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, shares, factors, spoken, speaks, mentions, sentences = batch(generator)
        with torch.no_grad():
            feature_map, teacher_logits = teacher(x)
        # Ten votes are a small sample; the teacher, who saw all faces, knows what others would have said.
        belief = 0.5 * shares + 0.5 * teacher_logits[0].float().softmax(-1)
        tokens, pooled = tower(x)
        wanted = feature_map.flatten(2).mT.float() - shared_feature  # (B, 36, CHANNELS)
        imitation = 1 - F.cosine_similarity(tower.token_head(tokens).float(), wanted, dim=-1).mean()
        votes = F.cross_entropy(tower.vote_head(pooled).float(), belief)

        image = F.normalize(tower.visual_projection(pooled).float(), dim=-1)
        text = F.normalize(tower.caption_projection(sentences).float(), dim=-1)
        logits = tower.logit_scale.exp().clamp(max=100) * image @ text.T  # (B, B)
        table = truth_table(spoken, speaks, mentions, belief, factors)
        contrast = F.cross_entropy(logits, table / table.sum(1, keepdim=True).clamp(min=1e-6))
        contrast = contrast + F.cross_entropy(logits.T, table.T / table.T.sum(1, keepdim=True).clamp(min=1e-6))
        return contrast / 2 + 2 * imitation + votes

    return loss
